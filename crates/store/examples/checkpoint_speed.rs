//! How long a checkpoint of a size given in megabytes takes to be written and read back, as one part and as four.
//!
//! `cargo run --release -p outgrow-store --example checkpoint_speed [MEGABYTES]`, on the disk of the temporary folder.
#![allow(clippy::print_stdout)]

use outgrow_env::LocalStorage;
use outgrow_store::checkpoint::{Part, State};
use outgrow_store::{CheckpointStore, StoreError};
use outgrow_tensor::{DType, Tensor};
use std::sync::Arc;
use std::time::Instant;

const TENSORS: usize = 124;
const ROUNDS: u64 = 9;

fn main() -> Result<(), StoreError> {
    let megabytes = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(90);
    let folder = std::env::temp_dir().join(format!("outgrow-checkpoint-speed-{}", std::process::id()));
    let store = CheckpointStore::new(Arc::new(LocalStorage::new()), &folder, "model", 2);
    let elements = megabytes * 1_000_000 / 4 / TENSORS;
    let tensor = |i: usize| Tensor::from_f64(DType::F32, [elements], |j| (i * j) as f64);
    let tensors: Vec<(String, Tensor)> = (0..TENSORS).map(|i| (format!("param/{i}"), tensor(i))).collect();
    for (series, parts) in [1, 4].into_iter().enumerate() {
        let (mut saves, mut loads) = (Vec::new(), Vec::new());
        for step in (1..=ROUNDS).map(|round| series as u64 * ROUNDS + round) {
            let part = |run: &[(String, Tensor)]| Part {
                step,
                model: "model".into(),
                tensors: run.iter().cloned().collect(),
                ..Part::default()
            };
            let held: Vec<Part> = tensors.chunks(TENSORS.div_ceil(parts)).map(part).collect();
            let started = Instant::now();
            store.sweep()?;
            let files = held.iter().map(|part| store.write_part(part)).collect::<Result<_, _>>()?;
            store.commit(step, &State::new(), files)?;
            saves.push(started.elapsed());
            let started = Instant::now();
            assert!(store.load_latest()?.is_some_and(|loaded| loaded.stored.step() == step));
            loads.push(started.elapsed());
        }
        saves.sort();
        loads.sort();
        let middle = ROUNDS as usize / 2;
        println!(
            "{megabytes} MB in {parts} parts: written in {:?}, read in {:?}",
            saves[middle], loads[middle]
        );
    }
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
