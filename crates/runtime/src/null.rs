//! The null backend: knows what a graph costs and computes nothing.

use crate::backend::{Backend, CompileOptions, Compiled, Executable};
use crate::reference::{interface, node_lifetimes, node_steps};
use crate::{BufferRef, MemoryPlan, plan_memory};
use outgrow_ir::{Diagnostic, Diagnostics, Graph};

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

    fn compile(&self, graph: Graph, _: &CompileOptions) -> Result<Compiled, Diagnostics> {
        let (inputs, outputs) = interface(&graph);
        let (memory, steps) = (plan_memory(node_lifetimes(&graph)), node_steps(&graph));
        Ok(Compiled { executable: Box::new(Nothing), inputs, outputs, memory, steps, graph })
    }
}

impl Executable for Nothing {
    fn run(&mut self, _: &mut [BufferRef<'_>]) -> Result<(), Diagnostic> {
        Ok(())
    }
}
