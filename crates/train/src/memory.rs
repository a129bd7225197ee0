//! How much memory training takes, found from plans: known before any of it is asked for.

use crate::optim::from_spec;
use crate::program::{Interface, Outputs, layouts};
use crate::spec::{Precision, Train};
use crate::step::Sums;
use crate::update::Update;
use outgrow_ir::{Diagnostic, Diagnostics, Graph, OutputRole};
use outgrow_models::BuiltModel;
use outgrow_passes::{FindAttention, Pass as _, add_gradients, narrow_products};
use outgrow_runtime::{Backend, CompileOptions, Products, plan};

/// The graph of a step of a micro-shard in the given precision. Its gradients come first: they are then laid out as the
/// parameters are. Attention that is written as products is found before, so that its gradient is that of attention.
///
/// # Errors
/// When the model has no loss that could be differentiated.
pub fn step_graph(model: &BuiltModel, precision: Precision) -> Result<Graph, Diagnostics> {
    let mut graph = add_gradients(&FindAttention.run(&model.train)?)?;
    match precision {
        // How products of f32 are computed is no matter of the graph, and `auto` never rounds what they take.
        Precision::F32 | Precision::Bf16x3 | Precision::Auto => {}
        Precision::Bf16 => graph = narrow_products(&graph)?,
    }
    graph.outputs.sort_by_key(|output| !matches!(output.role, OutputRole::Gradient(_)));
    Ok(graph)
}

/// Whether the step's program computes an output.
pub(crate) fn in_step(role: &OutputRole) -> bool {
    !matches!(role, OutputRole::Loss | OutputRole::Result)
}

/// Whether the evaluation's program computes an output.
pub(crate) fn in_evaluation(role: &OutputRole) -> bool {
    matches!(role, OutputRole::Metric(_) | OutputRole::Result)
}

/// Bytes of all that is as long as the parameters: themselves, the optimiser's state, the best weights so far, and
/// where there are checkpoints, their copy of all this.
pub(crate) fn state_bytes(model: &BuiltModel, config: &Train, checkpoints: bool) -> u64 {
    let slots = from_spec(&config.optimizer, config.weight_decay).slots().len() as u64;
    let best = u64::from(config.early_stopping.is_some_and(|stopping| stopping.restore_best));
    layouts(model).0.bytes().saturating_mul((1 + slots + best) * (1 + u64::from(checkpoints)))
}

/// Bytes of the gradients of a step: the micro-shard's own, and the partial sums of the tree.
pub(crate) fn gradient_bytes(config: &Train, outputs: &Outputs) -> u64 {
    outputs.layout.bytes().saturating_mul(1 + u64::from(config.micro_shards.ilog2()))
}

/// Bytes of the programs around that of a step: they add its vectors, look at them, and update what follows from them.
///
/// # Errors
/// When one cannot be compiled.
pub(crate) fn around_bytes(
    model: &BuiltModel,
    config: &Train,
    outputs: &Outputs,
    backend: &dyn Backend,
) -> Result<u64, Diagnostics> {
    // Vectors of which nobody can count the bytes are refused as such.
    if layouts(model).0.bytes().max(outputs.layout.bytes()) > u64::MAX / 16 {
        return Ok(0);
    }
    let sums = Sums::bytes(model, config, outputs, backend)?;
    Ok(sums.saturating_add(Update::bytes(config, model, backend)?))
}

/// Bytes that training takes, if it is fitted into `most` as well as it can be; as fast as it can be, without.
///
/// # Errors
/// When the graphs cannot be compiled.
pub fn memory_needed(
    model: &BuiltModel,
    config: &Train,
    backend: &dyn Backend,
    checkpoints: bool,
    most: Option<u64>,
) -> Result<u64, Diagnostics> {
    let precision = config.precision.on(backend);
    let planned = |interface: Interface, rows: usize, fit: Option<u64>, products: Products| {
        let Interface { graph, bindings, .. } = interface;
        let options = CompileOptions { bindings: Some(bindings), fit, products, ..CompileOptions::default() };
        Ok::<_, Diagnostics>(plan(backend, &graph, rows, &options)?.bytes())
    };
    let shard = config.batch / config.micro_shards;
    let step = Interface::new(model, &step_graph(model, precision)?, in_step, shard)?;
    let evaluation = Interface::new(model, &model.eval, in_evaluation, config.batch)?;
    let around = around_bytes(model, config, &step.outputs, backend)?;
    let kept = [gradient_bytes(config, &step.outputs), around, evaluation.outputs.layout.bytes()];
    let kept = kept.into_iter().fold(state_bytes(model, config, checkpoints), u64::saturating_add);
    let kept = kept.saturating_add(planned(evaluation, config.batch, None, Products::F32)?);
    let fit = most.map(|most| most.saturating_sub(kept));
    Ok(kept.saturating_add(planned(step, shard, fit, precision.products())?))
}

/// What is left of the memory while a trainer is put together.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Of what there is; unlimited where nothing says how much there is.
    pub there: Option<u64>,
    /// Of what all is to be fitted into.
    fit: Option<u64>,
}

impl Budget {
    /// At most what there is, and what all is to be fitted into.
    pub fn new(there: Option<u64>, fit: Option<u64>) -> Self {
        Self { there: [there, fit].into_iter().flatten().min(), fit }
    }

    /// Takes memory for `what`.
    pub fn take(&mut self, bytes: u64, what: &str) -> Result<(), Diagnostic> {
        self.fit = self.fit.map(|fit| fit.saturating_sub(bytes));
        let Some(there) = &mut self.there else { return Ok(()) };
        let Some(left) = there.checked_sub(bytes) else {
            let problem = format!("{what} need {bytes} bytes of memory, and {there} are left");
            return Err(no_memory(problem));
        };
        *there = left;
        Ok(())
    }

    /// The options of a program that gets what is left.
    pub fn options(&self) -> CompileOptions {
        CompileOptions { memory: self.there, fit: self.fit, ..CompileOptions::default() }
    }
}

fn no_memory(problem: String) -> Diagnostic {
    Diagnostic::new("train.memory", problem)
        .item("model")
        .expected("as much free memory, within the limits of this process (`ulimit -v`, container)")
        .hint("take a smaller model or batch, or more `train.micro_shards`")
}
