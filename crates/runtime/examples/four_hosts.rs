//! Times of sums over TCP between four hosts, each a network namespace, beside what formulas say of them:
//! `cargo run --release -p outgrow-runtime --example four_hosts [ROUNDS]`, as root on Linux. The costs of the links in the
//! formulas are measured between two of the hosts, with connections that are warm.

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
    let rounds = std::env::args().nth(1).map_or(5, |rounds| rounds.parse().expect("a number of rounds"));
    println!("| between hosts | α | 1/β | bytes | sum | ms (least to most) | by the formula | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    let relay = |ms, loss| Path::Relay { delay: Duration::from_millis(ms), loss };
    // Half a minute for a sum of 64 MiB over lossy links, for which there is no formula, would show nothing.
    let sizes = |path| match path {
        Path::Relay { loss, .. } if loss > 0.0 => vec![4 << 10, 1 << 20],
        _ => vec![4 << 10, 1 << 20, 64 << 20],
    };
    for path in [Path::Bridge, relay(1, 0.0), relay(10, 0.0), relay(1, 0.01), relay(10, 0.01)] {
        for bits_per_s in [1_000_000_000, 100_000_000] {
            let setting = Setting { bits_per_s, path };
            let job = Job { sizes: sizes(path), rounds };
            for found in Network::new(setting, &[]).run(&job) {
                let [middle, least, most] = found.seconds.map(|seconds| seconds * 1e3);
                let [latency_s, byte_s] = found.link;
                println!(
                    "| {} | {:.3} ms | {:.0} Mbit/s | {} | {} | {middle:.2} ({least:.2} to {most:.2}) | {:.2} | {:.2} |",
                    setting.name(),
                    latency_s * 1e3,
                    8e-6 / byte_s,
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
