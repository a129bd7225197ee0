//! The update program: from parameters, the combined gradient and the optimiser's state to new ones, written over the
//! old. Elementwise optimisers sweep over all parameters as one vector.

use crate::flat::Layout;
use crate::memory::filled;
use crate::optim::{Clipping, Optimizer, from_spec, update_graph};
use crate::program::layouts;
use crate::spec::Train;
use crate::state::TrainState;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::BuiltModel;
use outgrow_runtime::{Backend, BufferRef, CompileOptions, Instance, compile};

/// The update of all parameters.
#[derive(Debug)]
pub struct Update {
    optimizer: Box<dyn Optimizer>,
    instance: Box<dyn Instance>,
    flat: bool,
    params: Layout,
}

impl Update {
    /// Compiles the update of a model's parameters by the optimiser that the manifest asks for.
    pub fn new(
        config: &Train,
        model: &BuiltModel,
        backend: &dyn Backend,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let optimizer = from_spec(&config.optimizer, config.weight_decay);
        let (params, _) = layouts(model);
        let flat = optimizer.elementwise();
        let tensors: Vec<(String, Vec<usize>)> = if flat {
            // With the gaps between tensors, which stay zero under every elementwise optimiser.
            vec![("all".into(), vec![params.total()])]
        } else {
            params.entries().iter().map(|e| (e.name.clone(), e.dims.clone())).collect()
        };
        let clipping = Clipping { value: config.clip_value, scale: config.clip_norm.is_some() };
        let graph = update_graph(&*optimizer, &tensors, flat, clipping)?;
        // Inputs are parameters, gradients, then state; outputs the same without gradients.
        let (count, slots) = (tensors.len(), optimizer.slots().len());
        let in_place =
            (0..count).map(|i| (i, i)).chain((0..slots * count).map(|i| (2 * count + i, count + i)));
        let options = CompileOptions { in_place: in_place.collect(), ..options.clone() };
        let instance = compile(backend, &graph, 1, &options)?.instance()?;
        Ok(Self { optimizer, instance, flat, params })
    }

    /// The optimiser's state before the first step.
    pub fn initial_slots(&self) -> Result<Vec<Vec<f32>>, Diagnostic> {
        self.optimizer.slots().iter().map(|slot| filled(self.params.total(), slot.init as f32)).collect()
    }

    /// Names of the optimiser's state tensors.
    pub fn slot_names(&self) -> Vec<&'static str> {
        self.optimizer.slots().iter().map(|slot| slot.name).collect()
    }

    /// Updates parameters and optimiser state. `grads` begins with the gradients, laid out as the parameters;
    /// `scale` multiplies them, when the manifest clips by norm.
    pub fn run(
        &mut self,
        state: &mut TrainState,
        grads: &[f32],
        lr: f64,
        scale: Option<f64>,
    ) -> Result<(), Diagnostic> {
        let numbers = self.optimizer.scalars(lr, state.step + 1).into_iter().chain(scale);
        let scalars: Vec<[f32; 1]> = numbers.map(|x| [x as f32]).collect();
        let tensors = if self.flat { 1 } else { self.params.entries().len() };
        let mut refs = Vec::with_capacity((2 + state.slots.len()) * tensors + scalars.len());
        if self.flat {
            refs.push(BufferRef::write(&mut state.params[..]));
            refs.push(BufferRef::read(&grads[..self.params.total()]));
            refs.extend(state.slots.iter_mut().map(|slot| BufferRef::write(&mut slot[..])));
        } else {
            let params = self.params.split_mut(&mut state.params);
            refs.extend(params.into_iter().map(BufferRef::write));
            refs.extend(
                (0..self.params.entries().len()).map(|i| BufferRef::read(self.params.slice(i, grads))),
            );
            for slot in &mut state.slots {
                refs.extend(self.params.split_mut(slot).into_iter().map(BufferRef::write));
            }
        }
        refs.extend(scalars.iter().map(|s| BufferRef::read(s)));
        self.instance.run(&mut refs)
    }
}
