//! Bindings: how a graph's inputs and outputs lie in the buffers that a run is given. Many small tensors can lie in one
//! buffer, side by side, so that a run is given few buffers however many tensors a model has.

use crate::Weights;
use outgrow_ir::{Diagnostic, Graph, Output, Problem, TensorType, Value};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The number of the buffer, in the order in which a run is given them.
    pub buffer: usize,
    /// Its first byte in that buffer.
    pub offset: usize,
}

/// How the inputs and outputs of a graph lie in buffers. An output whose place is that of an input of its type is written
/// over it. Inputs that weights are bound to have no place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// The lengths of the buffers.
    pub bytes: Vec<usize>,
    /// Where the inputs lie, in the graph's order, without those that weights are bound to.
    pub inputs: Vec<Place>,
    /// Where the outputs lie, in the graph's order.
    pub outputs: Vec<Place>,
}

/// The inputs that a run is given.
fn given<'a>(graph: &'a Graph, weights: &'a Weights) -> impl Iterator<Item = Value> + 'a {
    graph.inputs.iter().copied().filter(|v| weights.bound(graph, *v).is_none())
}

impl Bindings {
    /// A buffer for each input and each output of a graph with static shapes, but for these pairs of an input (of those
    /// that have a place) and an output: the output is written over the input. The first pair of an output counts.
    pub fn separate(graph: &Graph, weights: &Weights, over: &[(usize, usize)]) -> Self {
        let mut bindings = Self::default();
        bindings.inputs = given(graph, weights).map(|v| bindings.buffer(graph.ty(v).unit_bytes())).collect();
        let place = |(o, output): (usize, &Output)| {
            let input = over.iter().find(|(_, over)| *over == o).and_then(|(i, _)| bindings.inputs.get(*i));
            input.copied().unwrap_or_else(|| {
                bindings.bytes.push(graph.ty(output.value).unit_bytes());
                Place { buffer: bindings.bytes.len() - 1, offset: 0 }
            })
        };
        bindings.outputs = graph.outputs.iter().enumerate().map(place).collect();
        bindings
    }

    /// One more buffer of so many bytes; gives its beginning.
    pub fn buffer(&mut self, bytes: usize) -> Place {
        self.bytes.push(bytes);
        Place { buffer: self.bytes.len() - 1, offset: 0 }
    }

    /// By buffer, whether a run writes to it.
    pub fn written(&self) -> Vec<bool> {
        let mut written = vec![false; self.bytes.len()];
        self.outputs.iter().for_each(|place| written[place.buffer] = true);
        written
    }

    /// The input that each output is written over, if it is.
    pub(crate) fn overwritten(&self, graph: &Graph) -> Vec<Option<usize>> {
        let input: BTreeMap<Place, usize> =
            self.inputs.iter().enumerate().map(|(i, place)| (*place, i)).collect();
        let over = |(place, Output { value, .. }): (&Place, &Output)| {
            input.get(place).copied().filter(|_| graph.ty(*value).unit_bytes() > 0)
        };
        self.outputs.iter().zip(&graph.outputs).map(over).collect()
    }

    /// Checks that every tensor lies in its buffer, and that what is written meets nothing else, save for an input of the
    /// same type at the same place.
    ///
    /// # Errors
    /// When that is not so.
    pub(crate) fn check(&self, graph: &Graph, weights: &Weights) -> Result<(), Diagnostic> {
        let inputs: Vec<Value> = given(graph, weights).collect();
        if (self.inputs.len(), self.outputs.len()) != (inputs.len(), graph.outputs.len()) {
            return Err(wrong(format!(
                "{} inputs and {} outputs have places, and the graph has {} and {}",
                self.inputs.len(),
                self.outputs.len(),
                inputs.len(),
                graph.outputs.len()
            ))
            .expected("a place for each, save for inputs that weights are bound to"));
        }
        let names = inputs.iter().map(|v| (graph.input_name(*v), graph.ty(*v)));
        let inputs =
            names.zip(&self.inputs).filter_map(|(tensor, place)| self.tensor(tensor, *place).transpose());
        let inputs: Vec<Tensor<'_>> = inputs.collect::<Result<_, _>>()?;
        let names = graph.outputs.iter().map(|output| (output.name.as_str(), graph.ty(output.value)));
        let outputs =
            names.zip(&self.outputs).filter_map(|(tensor, place)| self.tensor(tensor, *place).transpose());
        apart(&inputs, outputs.collect::<Result<_, _>>()?)
    }

    /// A tensor, which lies in its buffer; none if it has no elements.
    fn tensor<'a>(
        &self,
        (name, ty): (&'a str, &'a TensorType),
        place: Place,
    ) -> Result<Option<Tensor<'a>>, Diagnostic> {
        let length = self.bytes.get(place.buffer).copied().unwrap_or_default();
        let Some(end) = place.offset.checked_add(ty.unit_bytes()).filter(|end| *end <= length) else {
            let problem = format!("`{name}` does not lie in buffer {}", place.buffer);
            return Err(wrong(problem).expected(format!("{} bytes of it", ty.unit_bytes())));
        };
        if !place.offset.is_multiple_of(ty.dtype.bytes()) {
            let problem = format!("`{name}` of {} begins at byte {}", ty.dtype, place.offset);
            return Err(wrong(problem).expected("a multiple of the element's bytes"));
        }
        let at = (place.buffer, place.offset..end);
        Ok((end > place.offset).then_some(Tensor { at, name, ty }))
    }
}

/// A tensor with its place.
struct Tensor<'a> {
    at: (usize, Range<usize>),
    name: &'a str,
    ty: &'a TensorType,
}

/// Checks that outputs meet nothing, save for one input each of their type at their place.
fn apart(inputs: &[Tensor<'_>], mut outputs: Vec<Tensor<'_>>) -> Result<(), Diagnostic> {
    let shared = |a: &str, b: &str| {
        let problem = format!("`{a}` and `{b}` share memory, and one of them is written");
        Err(wrong(problem)
            .expected("places of their own, or one place for an input and an output of one type"))
    };
    outputs.sort_by_key(|t| (t.at.0, t.at.1.start));
    for two in outputs.windows(2) {
        if two[0].at.0 == two[1].at.0 && two[0].at.1.end > two[1].at.1.start {
            return shared(two[0].name, two[1].name);
        }
    }
    let mut over: Vec<Option<&str>> = vec![None; outputs.len()];
    for input in inputs {
        let (buffer, range) = &input.at;
        let first = outputs.partition_point(|t| (t.at.0, t.at.1.end) <= (*buffer, range.start));
        let met = outputs[first..].iter().take_while(|t| t.at.0 == *buffer && t.at.1.start < range.end);
        for (output, over) in met.zip(&mut over[first..]) {
            if output.at != input.at || output.ty != input.ty {
                return shared(input.name, output.name);
            }
            if let Some(other) = over.replace(input.name) {
                return shared(other, input.name);
            }
        }
    }
    Ok(())
}

fn wrong(problem: String) -> Problem {
    Diagnostic::new("runtime.bindings", problem)
}
