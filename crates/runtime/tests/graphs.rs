//! Random graphs through all passes and the CPU backend, against the interpreter. `OUTGROW_GRAPHS` is how many, and
//! `OUTGROW_GRAPHS_FROM` the first seed: that of a failure is in its message.
#![allow(clippy::print_stdout)] // what was compared

#[path = "../../../fuzz/properties/compiled.rs"]
mod compiled;

use outgrow_ir::Op;
use outgrow_tensor::RngKey;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn random_graphs_agree_with_the_interpreter() {
    let (count, from) = (number("OUTGROW_GRAPHS", 600), number("OUTGROW_GRAPHS_FROM", 0));
    let mut compared = compiled::Compared::default();
    let mut failed = Vec::new();
    for seed in from..from + count {
        let mut stream = RngKey::new(seed).stream();
        let bytes: Vec<u8> = (0..30 + stream.below(400)).map(|_| stream.below(256) as u8).collect();
        let caught = catch_unwind(AssertUnwindSafe(|| compiled::compare(&bytes, &mut compared)));
        if caught.is_err() {
            println!("seed {seed}");
            failed.push(seed);
        }
    }
    println!("{compared:?}");
    assert!(failed.is_empty(), "{} of {count} seeds fail: {failed:?}", failed.len());
    // That everything above was truly compared, and that little was left out.
    assert!(compared.graphs >= 2 * count, "{compared:?}");
    assert!(compared.in_place >= count && compared.with_arena >= count, "{compared:?}");
    assert!(compared.unknown * 10 < compared.equal + compared.close, "{compared:?}");
    assert!(compared.equal > compared.close, "{compared:?}");
    if count >= 3000 {
        let wide = ["conv2d", "conv2d_grad_input", "conv2d_grad_weight", "dot"];
        assert_eq!(Vec::from_iter(&compared.wide), Vec::from_iter(&wide), "products of bf16 that give f32");
    }
    if count >= 500 {
        let missing: Vec<_> = Op::NAMES.iter().filter(|name| !compared.ops.contains(**name)).collect();
        assert!(missing.is_empty(), "ops in no graph: {missing:?}");
        assert!(compared.failing > 0, "no index was outside its table");
        assert!(!compared.wide.is_empty(), "no product of bf16 gave f32");
    }
}
