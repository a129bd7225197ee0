//! The pipeline: which passes run, in which order, and why.

use crate::{DeadCode, FindAttention, Fuse, Masks, Recompute, Rematerialize, Simplify};
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use std::fmt::Debug;

/// A rewriting of graphs that keeps what they compute.
pub trait Pass: Debug {
    /// A name for people.
    fn name(&self) -> &'static str;
    /// The rewritten graph.
    fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics>;
}

/// Runs passes one after the other, with the verifier after each.
#[derive(Debug, Default)]
pub struct PassManager {
    passes: Vec<Box<dyn Pass>>,
}

impl PassManager {
    /// A pipeline of these passes.
    pub fn new(passes: Vec<Box<dyn Pass>>) -> Self {
        Self { passes }
    }

    /// Runs the pipeline and shows every stage to `observe` as `(pass, graph after it)`.
    pub fn run_observed(
        &self,
        graph: &Graph,
        mut observe: impl FnMut(&'static str, &Graph),
    ) -> Result<Graph, Diagnostics> {
        graph.verify()?;
        let mut graph = graph.clone();
        for pass in &self.passes {
            graph = pass.run(&graph)?;
            graph.verify().map_err(|mut found| {
                let problem = format!("invariant: pass `{}` must leave a valid graph", pass.name());
                found.0.insert(0, Diagnostic::fault("graph.pass", problem));
                found
            })?;
            observe(pass.name(), &graph);
        }
        Ok(graph)
    }

    /// Runs the pipeline.
    pub fn run(&self, graph: &Graph) -> Result<Graph, Diagnostics> {
        self.run_observed(graph, |_, _| {})
    }
}

/// The passes that make a graph ready for a backend.
pub fn prepare() -> PassManager {
    prepare_within(None)
}

/// The same, with values computed again until no more than this many bytes are alive at once, as far as that goes.
pub fn prepare_within(live_bytes_max: Option<u64>) -> PassManager {
    let mut passes: Vec<Box<dyn Pass>> = vec![
        // First, so that no time goes into what nobody reads: gradients leave much of that behind.
        Box::new(DeadCode),
        // Before what it leaves dead is simplified. (For gradients and narrow products, it has to come before these.)
        Box::new(FindAttention),
        // Before fusion, which would otherwise carry identities and repeated expressions into its kernels.
        Box::new(Simplify),
        // Simplification leaves the nodes behind that it found another value for.
        Box::new(DeadCode),
        // Of equal values one is left, so that it is known who reads them.
        Box::new(Masks),
        // After all that would take two computations of one value for one.
        Box::new(Recompute::default()),
        // What is computed again may not be needed where it was computed first.
        Box::new(DeadCode),
    ];
    if let Some(live_bytes_max) = live_bytes_max {
        // After what makes a program faster, for this makes it slower.
        passes.push(Box::new(Rematerialize { live_bytes_max }));
        passes.push(Box::new(DeadCode));
    }
    // Last: it only marks nodes, and any rewriting after it would have to keep the groups sound.
    passes.push(Box::new(Fuse));
    PassManager::new(passes)
}
