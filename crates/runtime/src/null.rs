//! The null backend: knows what a graph costs and computes nothing.

use crate::backend::{Backend, CompileOptions, Compiled, Executable, Instance};
use crate::reference::{interface, node_lifetimes, node_steps};
use crate::{BufferRef, MemoryPlan, ThreadPool, plan_memory};
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use std::sync::Arc;

/// Costs only: memory plan and steps of a graph, without running it.
#[derive(Debug)]
pub struct NullBackend;

#[derive(Debug)]
struct Nothing;

impl Backend for NullBackend {
    fn name(&self) -> &'static str {
        "null"
    }

    fn plan(&self, graph: &Graph, _: &CompileOptions) -> Result<MemoryPlan, Diagnostics> {
        Ok(plan_memory(node_lifetimes(graph)))
    }

    fn compile(&self, graph: Graph, options: &CompileOptions) -> Result<Compiled, Diagnostics> {
        let (inputs, outputs) = interface(&graph, &options.weights);
        let (memory, steps) = (plan_memory(node_lifetimes(&graph)), node_steps(&graph));
        let pool = options.pool.clone();
        Ok(Compiled { executable: Arc::new(Nothing), pool, inputs, outputs, memory, steps, graph })
    }
}

impl Executable for Nothing {
    fn instance(self: Arc<Self>, _: &Arc<ThreadPool>) -> Result<Box<dyn Instance>, Diagnostic> {
        Ok(Box::new(Self))
    }
}

impl Instance for Nothing {
    fn run(&mut self, _: &mut [BufferRef<'_>]) -> Result<(), Diagnostic> {
        Ok(())
    }
}
