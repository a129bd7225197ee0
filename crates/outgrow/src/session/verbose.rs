//! What `--verbose` says of a run: for who wants to know why it is as it is, or takes as long as it does.

use std::path::Path;

use outgrow_data::Prepared;
use outgrow_runtime::{Compiled, CpuBackend, KernelPath};
use outgrow_train::Trainer;

use crate::cli::ManifestArgs;
use crate::context::Context;
use crate::manifest::Manifest;
use crate::places::{data_cache, data_roots};
use crate::report::format::{bytes, counted};

/// The path as it is from anywhere.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Where things are looked for, and what computes.
pub(super) fn opened(manifest: &Manifest, args: &ManifestArgs, cpu: &CpuBackend, context: &Context) {
    if let Some(file) = manifest.file() {
        context.detail("manifest", || format!("{}, fingerprint {}", whole(file), manifest.fingerprint(None)));
    }
    context.detail("files", || {
        let roots: Vec<_> =
            data_roots(manifest, args, &context.environment).iter().map(|p| whole(p)).collect();
        format!("looked for in {}", roots.join(", "))
    });
    context.detail("cache", || whole(&data_cache(manifest, args, &context.environment)));
    context.detail("kernels", || {
        let all: Vec<_> = KernelPath::supported().iter().map(|path| path.name()).collect();
        let threads = counted(cpu.pool.threads() as u64, "thread");
        format!("{} on {threads}; this processor has {}", cpu.path.name(), all.join(", "))
    });
}

/// Whether prepared data was there.
pub(super) fn prepared(prepared: &Prepared, context: &Context) {
    context.detail("prepared", || {
        let how = if prepared.reused { "found in" } else { "written to" };
        format!("data {how} {}, fingerprint {}", whole(&prepared.folder), prepared.fingerprint)
    });
}

/// What was compiled, and the memory that it takes.
pub(super) fn compiled(trainer: &Trainer, folder: &Path, context: &Context) {
    context.detail("folder", || whole(folder));
    let program = |compiled: &Compiled| {
        let plan = &compiled.memory;
        let (steps, nodes) = (compiled.steps.len() as u64, compiled.graph.nodes.len() as u64);
        format!(
            "{} of {}, values in {} (in buffers of their own: {})",
            counted(steps, "kernel"),
            counted(nodes, "operation"),
            bytes(plan.planned_bytes as u64),
            bytes(plan.naive_bytes as u64)
        )
    };
    context.detail("gradients", || program(&trainer.program().compiled));
    context.detail("evaluation", || program(&trainer.evaluation().compiled));
    context.detail("memory", || format!("{} for training in all", bytes(trainer.memory_bytes())));
}
