//! Evaluation: the metrics of a model on a pass over data, in evaluation mode.

use crate::memory::in_evaluation;
use crate::metrics::Metrics;
use crate::pass::Pass;
use crate::program::{ModelProgram, Outputs, Sample};
use crate::vector::{DeviceVector, floats};
use outgrow_ir::{Diagnostics, OutputRole};
use outgrow_models::{BuiltModel, TargetSpec};
use outgrow_runtime::collective::Communicator;
use outgrow_runtime::{Backend, Buffer, CompileOptions};
use outgrow_transform::{Batch, Batches};
use std::sync::Arc;

/// Runs a model in evaluation mode.
#[derive(Debug)]
pub struct Evaluator {
    program: ModelProgram,
    target: TargetSpec,
    /// Of two classes: the log-odds above which the second one is answered, where that is not simply the likelier one.
    pub(crate) threshold: Option<f64>,
    batch: usize,
    backend: Arc<dyn Backend>,
    out: Box<dyn Buffer>,
    /// The outputs on the host, where the device's memory is not.
    host: Vec<f32>,
}

/// What the model says, of all outputs.
fn result<'a>(outputs: &Outputs, out: &'a [f32]) -> &'a [f32] {
    outputs.find(&OutputRole::Result).map_or(&[], |i| outputs.layout.slice(i, out))
}

impl Evaluator {
    /// Compiles the evaluation program for batches of this size.
    pub fn new(
        model: &BuiltModel,
        batch: usize,
        backend: &Arc<dyn Backend>,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let program = ModelProgram::new(model, &model.eval, in_evaluation, batch, &**backend, options)?;
        let out = backend.allocate(program.outputs.bytes())?;
        let target = model.target.clone();
        Ok(Self { program, target, threshold: None, batch, backend: backend.clone(), out, host: Vec::new() })
    }

    /// What it runs.
    pub fn program(&self) -> &ModelProgram {
        &self.program
    }

    /// Bytes of the memory that it owns.
    pub fn bytes(&self) -> u64 {
        self.program.compiled.memory.bytes().saturating_add(self.out.bytes() as u64)
    }

    /// Evaluates weights on batches, in their order, and shows each with the model's outputs to `observe`. Workers of a
    /// group each evaluate their portion of the batches, and get the metrics of all.
    ///
    /// # Errors
    /// When a batch cannot be made, the device fails, or a worker is lost.
    pub fn run(
        &mut self,
        params: &DeviceVector,
        buffers: &DeviceVector,
        mut batches: Batches,
        observe: &mut dyn FnMut(&Batch, &[f32]),
        mut group: Option<&mut Communicator>,
    ) -> Result<Metrics, Diagnostics> {
        let mut pass = Pass::new(&self.target, &self.program.outputs, self.threshold);
        while let Some(batch) = batches.next() {
            let batch = batch?;
            let sample = Sample { batch: &batch, rows: (0, self.batch), scale: 1.0, key: 0 };
            self.program.run(params, buffers, sample, &mut *self.out, None)?;
            let out = floats(&*self.backend, &*self.out, &mut self.host)?;
            let result = result(&self.program.outputs, out);
            pass.add(&self.program.outputs, &batch, out, result);
            observe(&batch, result);
            batches.recycle(batch);
            if let Some(group) = &mut group {
                group.look("an evaluation")?;
            }
        }
        if let Some(group) = group {
            pass.share(group)?;
        }
        Ok(pass.metrics())
    }
}
