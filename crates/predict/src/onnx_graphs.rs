//! Models of other frameworks: a file becomes a graph once the shapes of its inputs are known, and for some models only
//! once it is known what an input holds.

use outgrow_ir::{Diagnostics, Dim, Sizes, Value};
use outgrow_onnx::{DimInfo, Given, InitialiserRole, OnnxModel, ValueInfo};
use outgrow_runtime::Weights;
use outgrow_tensor::Tensor;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::Port;
use crate::graph_body::{ROWS_MAX, part};
use crate::programs::{Key, Task};
use crate::rows::{is_by_rows, rows_at_a_time, rows_of};

/// Shapes for which it is remembered how many rows run at a time.
const KNOWN_MAX: usize = 32;
/// Extents of rows for which it is remembered whether they answer by themselves, as texts have many lengths.
const ROWS_KNOWN_MAX: usize = 1024;

/// A model from a file.
#[derive(Debug)]
pub(crate) struct OnnxGraphs {
    model: OnnxModel,
    /// Whether the file leaves open how many rows all inputs have.
    open_rows: bool,
    /// The extents of each input but for the first, where the file says all of them.
    row: Option<Vec<Vec<usize>>>,
    /// Of the last shapes that were new, how many rows run at a time if not all of them.
    at_a_time: Mutex<Vec<(Key, Option<usize>)>>,
    /// Of the last extents of a row that were new, whether rows answer by themselves.
    by_rows: Mutex<HashMap<Vec<Vec<usize>>, bool>>,
    /// Held by who finds that out.
    finding: Mutex<()>,
}

impl OnnxGraphs {
    /// The model, and its weights, which all its graphs share.
    pub fn new(model: OnnxModel) -> (Self, Weights) {
        let weights =
            model.initialisers().filter(|(name, read)| model.role(name, read) != InitialiserRole::Constant);
        let weights = Weights::new(weights.map(|(name, read)| (name.to_owned(), read.tensor.clone())));
        let fixed = |dim: &DimInfo| if let DimInfo::Fixed(n) = dim { Some(*n) } else { None };
        let is_open =
            |info: &ValueInfo| info.dims.as_deref().is_none_or(|dims| dims.first().and_then(fixed).is_none());
        let row = |info: &ValueInfo| info.dims.as_ref()?.iter().skip(1).map(fixed).collect();
        let (open_rows, row) = (model.inputs.iter().all(is_open), model.inputs.iter().map(row).collect());
        let (at_a_time, by_rows, finding) = Default::default();
        (Self { model, open_rows, row, at_a_time, by_rows, finding }, weights)
    }

    /// What the file declares.
    pub fn inputs(&self) -> Vec<Port> {
        self.model.inputs.iter().map(Port::of_file).collect()
    }

    /// The outputs as the file declares them, which need not say more than their names.
    pub fn outputs(&self) -> Vec<Port> {
        let port = |(name, info): (&String, &Option<_>)| match info {
            Some(info) => Port::of_file(info),
            None => Port { name: name.clone(), dtype: None, dims: None },
        };
        self.model.outputs.iter().zip(&self.model.output_infos).map(port).collect()
    }

    /// How many rows these inputs have, if the model answers for each by itself, however many there are.
    pub fn rows(&self, inputs: &[Tensor]) -> Option<usize> {
        let rows = rows_of(inputs).filter(|rows| *rows > 0)?;
        let row = inputs.iter().map(|tensor| tensor.shape().dims()[1..].to_vec()).collect();
        self.answers_each(row).then_some(rows)
    }

    /// Whether it takes graphs to find out whether rows of a shape that is new answer by themselves.
    pub fn is_open(&self) -> bool {
        self.row.is_none()
    }

    /// Whether the file leaves open how many rows there are, and nothing else, and the model answers for each by itself.
    pub fn by_rows(&self) -> bool {
        self.row.as_ref().is_some_and(|row| self.answers_each(row.clone()))
    }

    /// Whether the model answers for each of such rows by itself: the extents of each input but for the first.
    fn answers_each(&self, row: Vec<Vec<usize>>) -> bool {
        if !self.open_rows {
            return false;
        }
        let known = || self.by_rows.lock().unwrap_or_else(PoisonError::into_inner).get(&row).copied();
        if let Some(by_rows) = known() {
            return by_rows;
        }
        // Others that ask for the same wait for it.
        let _held = self.finding.lock().unwrap_or_else(PoisonError::into_inner);
        known().unwrap_or_else(|| {
            let by_rows = self.is_by_rows(&row);
            let mut known = self.by_rows.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() == ROWS_KNOWN_MAX {
                known.clear();
            }
            known.insert(row, by_rows);
            by_rows
        })
    }

    /// Whether the graphs for all numbers of such rows that programs are compiled for compute the same of each.
    fn is_by_rows(&self, row: &[Vec<usize>]) -> bool {
        let graph = |rows: usize| {
            let dims = |row: &Vec<usize>| [rows].iter().chain(row).map(|n| Dim::Fixed(*n)).collect();
            let given: Vec<Given> = row.iter().map(|row| Given::Dims(dims(row))).collect();
            // What is to know what an input holds is no model of rows.
            self.model.graph(&given).ok().map(|(graph, _)| graph)
        };
        let Some(whole) = graph(ROWS_MAX) else { return false };
        let mut fewer = (0..ROWS_MAX.ilog2()).map(|i| 1 << i);
        fewer.all(|rows| graph(rows).is_some_and(|part| is_by_rows([&whole, &part], [ROWS_MAX, rows])))
    }

    /// How many rows these inputs have, and how many of them are to run at a time, where that is fewer: the model answers
    /// for each row by itself, and what it computes of fewer rows stays in the cache.
    pub fn in_parts(&self, key: &Key, inputs: &[Tensor]) -> Result<Option<(usize, usize)>, Diagnostics> {
        let Some(rows) = rows_of(inputs).filter(|rows| *rows > 1) else { return Ok(None) };
        let known = || self.at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, most)) = known().iter().find(|(known, _)| known == key) {
            return Ok(most.map(|most| (rows, most)));
        }
        let whole = self.task(inputs, &key.outputs)?;
        let mut most = rows_at_a_time(&whole.graph, rows).filter(|_| whole.known.is_empty());
        if let Some(few) = most {
            // As many as each part has, and as the last one has where it has fewer: what is said of some numbers of rows
            // need not be so of another.
            let last = Some(rows % few).filter(|left| *left > 0).map(usize::next_power_of_two);
            for part_rows in [Some(few), last.filter(|last| *last != few)].into_iter().flatten() {
                if !self.is_whole_in_parts(&whole, key, inputs, [rows, part_rows])? {
                    most = None;
                    break;
                }
            }
        }
        let mut known = known();
        if known.len() == KNOWN_MAX {
            known.remove(0);
        }
        known.push((key.clone(), most));
        Ok(most.map(|most| (rows, most)))
    }

    /// Whether the graph for so many of these rows computes of each what the whole graph does, and of no other.
    fn is_whole_in_parts(
        &self,
        whole: &Task,
        key: &Key,
        inputs: &[Tensor],
        [rows, few]: [usize; 2],
    ) -> Result<bool, Diagnostics> {
        let inputs = inputs.iter().map(|tensor| part(tensor, rows, 0, few, few));
        // What cannot be made for fewer rows is no model of rows.
        let fewer = self.task(&inputs.collect::<Result<Vec<_>, _>>()?, &key.outputs);
        Ok(fewer.is_ok_and(|fewer| {
            fewer.known.is_empty() && is_by_rows([&whole.graph, &fewer.graph], [rows, few])
        }))
    }

    /// The graph for these inputs, with the outputs of these numbers.
    pub fn task(&self, inputs: &[Tensor], outputs: &[usize]) -> Result<Task, Diagnostics> {
        let dims = |t: &Tensor| t.shape().dims().iter().map(|d| Dim::Fixed(*d)).collect();
        let mut given: Vec<Given> = inputs.iter().map(|tensor| Given::Dims(dims(tensor))).collect();
        let mut known = Vec::new();
        // Inputs that decide shapes are bound; each round binds at least one more.
        let (mut graph, imported) = loop {
            match self.model.graph(&given) {
                Ok(built) => break built,
                Err(refused) => {
                    let open = refused.bind.into_iter().filter(|i| matches!(given[*i], Given::Dims(_)));
                    let open: Vec<usize> = open.collect();
                    if open.is_empty() {
                        return Err(refused.diagnostics);
                    }
                    for i in open {
                        given[i] = Given::Tensor(inputs[i].clone());
                        known.push((i, inputs[i].clone()));
                    }
                }
            }
        };
        graph.outputs = outputs.iter().map(|i| graph.outputs[*i].clone()).collect();
        let input = |value: &Value| imported.inputs.iter().position(|v| *v == Some(*value));
        let feeds = graph.inputs.iter().filter_map(input).collect();
        Ok(Task { graph, sizes: Sizes::default(), feeds, known })
    }
}
