//! The update program: from parameters, the combined gradient and the optimiser's state to new ones, written over the
//! old. Elementwise optimisers sweep over all parameters as one vector.

use crate::optim::{Clipping, Optimizer, from_spec, update_graph};
use crate::program::layouts;
use crate::spec::Train;
use crate::state::TrainState;
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_models::BuiltModel;
use outgrow_runtime::{Argument, Backend, Bindings, Buffer, CompileOptions, Instance, Place, compile};
use smallvec::{SmallVec, smallvec};
use std::ops::Range;

/// The update of some ranges of the parameters.
#[derive(Debug)]
pub struct Update {
    optimizer: Box<dyn Optimizer>,
    /// A program for each range, which is in elements.
    parts: Vec<(Range<usize>, Box<dyn Instance>)>,
}

/// Whether ranges of the parameters can be updated apart, by the optimiser that the manifest asks for.
pub fn can_be_cut(config: &Train) -> bool {
    from_spec(&config.optimizer, config.weight_decay).elementwise()
}

/// The buffers of the update: parameters, the combined vector, a slot each, and each number.
const PARAMS: usize = 0;
const GRADS: usize = 1;

impl Update {
    /// Compiles the update of these elements of a model's parameters by the optimiser that the manifest asks for: all of
    /// them, unless they [can be cut](can_be_cut).
    ///
    /// # Errors
    /// When it cannot be compiled.
    pub fn new(
        config: &Train,
        model: &BuiltModel,
        ranges: &[Range<usize>],
        backend: &dyn Backend,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let optimizer = from_spec(&config.optimizer, config.weight_decay);
        let part = |range: &Range<usize>| {
            let (graph, bindings) = program(&*optimizer, config, model, range.len())?;
            let options = CompileOptions { bindings: Some(bindings), ..options.clone() };
            Ok((range.clone(), backend.instance(&compile(backend, &graph, 1, &options)?)?))
        };
        let ranges = ranges.iter().filter(|range| !range.is_empty());
        let parts = ranges.map(part).collect::<Result<_, Diagnostics>>()?;
        Ok(Self { optimizer, parts })
    }

    /// Updates its ranges of parameters and optimiser state. `combined` begins with the gradients, laid out as the
    /// parameters; `scale` multiplies them, when the manifest clips by norm.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(
        &mut self,
        state: &mut TrainState,
        combined: &dyn Buffer,
        lr: f64,
        scale: Option<f64>,
    ) -> Result<(), Diagnostic> {
        let numbers = self.optimizer.scalars(lr, state.step + 1).into_iter().chain(scale);
        let numbers: SmallVec<[[f32; 1]; 4]> = numbers.map(|x| [x as f32]).collect();
        for (range, instance) in &mut self.parts {
            let gradients = Argument::Read(combined, 4 * range.start..4 * range.end);
            let mut arguments: SmallVec<[Argument<'_>; 8]> =
                smallvec![state.params.write_range(range), gradients];
            arguments.extend(state.slots.iter_mut().map(|(_, slot)| slot.write_range(range)));
            arguments.extend(numbers.iter().map(|number| Argument::host(number)));
            instance.run(&mut arguments)?;
        }
        Ok(())
    }
}

/// The update of so many elements of a model's parameters.
fn program(
    optimizer: &dyn Optimizer,
    config: &Train,
    model: &BuiltModel,
    elements: usize,
) -> Result<(Graph, Bindings), Diagnostics> {
    let (params, _) = layouts(model);
    let flat = optimizer.elementwise();
    let tensors: Vec<(String, Vec<usize>)> = if flat {
        // With the gaps between tensors, which stay zero under every elementwise optimiser.
        vec![("all".into(), vec![elements])]
    } else {
        params.entries().iter().map(|e| (e.name.clone(), e.dims.clone())).collect()
    };
    let clipping = Clipping { value: config.clip_value, scale: config.clip_norm.is_some() };
    let graph = update_graph(optimizer, &tensors, flat, clipping)?;
    let offsets: Vec<usize> =
        if flat { vec![0] } else { params.entries().iter().map(|e| 4 * e.offset).collect() };
    let all = |buffer: usize| offsets.iter().map(move |offset| Place { buffer, offset: *offset });
    // Inputs are parameters, gradients, then state; outputs the same without gradients, in place.
    let mut bindings = Bindings { bytes: vec![4 * elements; 2], ..Bindings::default() };
    bindings.inputs.extend(all(PARAMS).chain(all(GRADS)));
    bindings.outputs.extend(all(PARAMS));
    for _ in optimizer.slots() {
        let buffer = bindings.buffer(4 * elements).buffer;
        bindings.inputs.extend(all(buffer));
        bindings.outputs.extend(all(buffer));
    }
    let numbers = graph.inputs.len() - bindings.inputs.len();
    for _ in 0..numbers {
        let place = bindings.buffer(4);
        bindings.inputs.push(place);
    }
    Ok((graph, bindings))
}
