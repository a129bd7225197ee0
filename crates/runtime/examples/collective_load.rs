//! Counts what an all-reduce in the order of the tree sends, beside the ring's:
//! `cargo run --release -p outgrow-runtime --example collective_load [LEAVES]`.
#![allow(clippy::print_stdout)]

use outgrow_runtime::collective::{Schedule, Tree, canonical, gather, ring, runs};
use std::ops::Range;

/// Elements of the vector for each worker: so many that blocks do not matter.
const EACH: usize = 1 << 20;

fn main() {
    let leaves: usize = std::env::args().nth(1).map_or(8, |leaves| leaves.parse().expect("a number"));
    println!(
        "| workers | order | rounds | a worker sends at most, vectors | messages | all send, vectors | messages |"
    );
    println!("|---|---|---|---|---|---|---|");
    for workers in 2..=leaves {
        let bytes = 4 * EACH * workers;
        let part = |part: Range<usize>| 4 * part.start..4 * part.end;
        let parts: Vec<Range<usize>> = runs(EACH * workers, workers).map(part).collect();
        let reduced = canonical::reduce_scatter(&Tree::new(leaves, workers), &parts);
        for (order, schedule) in [
            (
                format!("tree of {leaves}, gathered by doubling"),
                reduced.clone().then(gather::doubling(&parts)),
            ),
            (format!("tree of {leaves}, gathered directly"), reduced.then(gather::direct(&parts))),
            ("ring".to_owned(), ring::all_reduce(&parts)),
        ] {
            print(workers, &order, &schedule, bytes as f64);
        }
    }
}

fn print(workers: usize, order: &str, schedule: &Schedule, bytes: f64) {
    let load = schedule.load();
    println!(
        "| {workers} | {order} | {} | {:.3} | {} | {:.3} | {} |",
        schedule.rounds.len(),
        load.sent as f64 / bytes,
        load.messages,
        load.all_bytes as f64 / bytes,
        load.all_messages,
    );
}
