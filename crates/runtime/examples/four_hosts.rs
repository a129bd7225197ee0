//! Times of sums over TCP between four hosts, each a network namespace, beside what formulas say of them:
//! `cargo run --release -p outgrow-runtime --example four_hosts [ROUNDS [MBIT_PER_S...]]`, as root on Linux. The latency in the formulas
//! is measured between two hosts while the other two do the same, the bandwidth is what `tc` is told.

#[cfg(target_os = "linux")]
#[path = "../tests/hosts/mod.rs"]
mod hosts;

#[cfg(target_os = "linux")]
#[allow(clippy::print_stdout)]
fn main() {
    use hosts::{Job, Network, Path, Setting};
    use std::time::Duration;

    if hosts::act() {
        return;
    }
    if let Some(why) = hosts::missing() {
        println!("no hosts here: {why}");
        return;
    }
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>().expect("a number"));
    let rounds = numbers.next().unwrap_or(5) as usize;
    let rates: Vec<u64> = numbers.collect();
    let rates = if rates.is_empty() { vec![1000, 100] } else { rates };
    println!("| between hosts | α | bytes | sum | ms (least to most) | by the formula | ratio |");
    println!("|---|---|---|---|---|---|---|");
    let relay = |ms, loss| Path::Relay { delay: Duration::from_millis(ms), loss };
    // Half a minute for a sum of 64 MiB over lossy links, for which there is no formula, would show nothing.
    let sizes = |path| match path {
        Path::Relay { loss, .. } if loss > 0.0 => vec![4 << 10, 1 << 20],
        _ => vec![4 << 10, 1 << 20, 64 << 20],
    };
    for bits_per_s in rates.iter().map(|rate| rate * 1_000_000) {
        for path in [Path::Bridge, relay(1, 0.0), relay(10, 0.0), relay(1, 0.01), relay(10, 0.01)] {
            let setting = Setting { bits_per_s, path };
            let job = Job { sizes: sizes(path), rounds };
            for found in Network::new(setting, &[]).run(&job) {
                let [middle, least, most] = found.seconds.map(|seconds| seconds * 1e3);
                println!(
                    "| {} | {:.3} ms | {} | {} | {middle:.2} ({least:.2} to {most:.2}) | {:.2} | {:.2} |",
                    setting.name(),
                    found.latency_s * 1e3,
                    found.bytes,
                    found.algorithm,
                    found.formula_s * 1e3,
                    found.seconds[0] / found.formula_s,
                );
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::print_stdout)]
fn main() {
    println!("no hosts here: network namespaces are Linux's");
}
