//! What workers compute with: processors differ, and the bits follow the kernels, so all take the same ones.

use std::sync::Arc;

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::KernelPath;
use outgrow_runtime::collective::Communicator;
use outgrow_train::Trainer;
use serde_json::{Value as Json, json};

use super::compare;
use crate::session::Session;

impl Session<'_> {
    /// Takes the kernel path of the group: the one that a worker was told to take, or else the fastest that all have. Who
    /// cannot take it keeps its own, and is told when the workers compare what they have.
    ///
    /// # Errors
    /// When a worker is lost.
    pub(super) fn agree_on_path(&mut self, group: &mut Communicator) -> Result<(), Diagnostic> {
        let names: Vec<&str> = KernelPath::supported().into_iter().map(KernelPath::name).collect();
        let own = json!({ "told": self.told_path, "path": self.cpu.path.name(), "has": names });
        let all = group.exchange(own.to_string().as_bytes(), "agreeing on kernels")?;
        let all: Vec<Json> = all.iter().map(|one| serde_json::from_slice(one).unwrap_or_default()).collect();
        let Some(path) = agreed(&all).filter(|path| !self.told_path && path.is_supported()) else {
            return Ok(());
        };
        if path != self.cpu.path {
            self.cpu.path = path;
            self.backend = Arc::new(self.cpu.clone());
            self.choose_precision();
        }
        Ok(())
    }

    /// Compares what the trainers of all workers have compiled.
    ///
    /// # Errors
    /// When a worker has compiled something else than the first one.
    pub(in crate::session) fn agree_on_programs(
        &self,
        trainer: &Trainer,
        group: &mut Communicator,
    ) -> Result<(), Diagnostics> {
        let own = json!({ "compiled program": trainer.program_sha256() });
        compare(&own, group, "the same build of the program on all workers")
    }
}

/// The path for workers that say this of themselves.
fn agreed(all: &[Json]) -> Option<KernelPath> {
    let path = |one: &Json| one["path"].as_str().and_then(KernelPath::parse);
    if let Some(told) = all.iter().find(|one| one["told"] == true) {
        return path(told);
    }
    let has = |one: &Json, path: KernelPath| {
        let names = one["has"].as_array();
        names.is_some_and(|names| names.iter().any(|name| name == path.name()))
    };
    // Nobody takes one by itself that is faster than what it has found.
    let fastest = all.iter().filter_map(path).max()?;
    let common = |candidate: &KernelPath| all.iter().all(|one| has(one, *candidate));
    KernelPath::ALL.into_iter().rev().filter(|candidate| *candidate <= fastest).find(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_path_that_all_have_is_taken_unless_one_is_told_which() {
        let worker = |told: bool, path: &str, has: &[&str]| json!({ "told": told, "path": path, "has": has });
        let new = worker(false, "avx512", &["portable", "avx2", "avx512", "amx"]);
        let old = worker(false, "avx2", &["portable", "avx2"]);
        let other = worker(false, "portable", &["portable"]);
        let told = worker(true, "avx2", &["portable", "avx2", "avx512"]);
        for (workers, expect) in [
            (vec![&new, &new], KernelPath::Avx512),
            (vec![&new, &old], KernelPath::Avx2),
            (vec![&old, &new, &other], KernelPath::Portable),
            (vec![&new, &told, &new], KernelPath::Avx2),
        ] {
            let all: Vec<Json> = workers.into_iter().cloned().collect();
            assert_eq!(agreed(&all), Some(expect), "{all:?}");
        }
        assert_eq!(agreed(&[json!({}), new]), None, "nothing is taken that somebody has not");
    }
}
