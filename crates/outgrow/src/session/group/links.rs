//! What the links of a run cost: measured in short when all workers are there, so that algorithms are chosen by it. What is
//! chosen is seen in a run's time only.

use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::calibrate::of_group;
use outgrow_runtime::collective::{Communicator, Link, Links};
use serde_json::{Value as Json, json};

/// Measures the links, and has algorithms chosen by what they cost.
///
/// # Errors
/// When a worker is lost.
pub fn measure(group: &mut Communicator) -> Result<(), Diagnostic> {
    let machine = machine(group.transport(), group.worker());
    of_group(group, machine.as_bytes()).map(drop)
}

/// A name that the workers of one machine have in common. Who cannot find one is taken to be on a machine of its own.
fn machine(transport: &str, worker: usize) -> String {
    if transport != "tcp" {
        return "this one".to_owned();
    }
    // Linux draws it anew with each start.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot.unwrap_or_else(|_| format!("worker {worker}"))
}

/// For machines: what links cost, between workers of one machine and between machines.
pub fn in_json(links: &Links) -> Json {
    let link = |link: &Link| json!({ "latency_seconds": link.latency_s, "seconds_per_byte": link.byte_s });
    let machines = &links.machines;
    let pairs = || (0..machines.len()).flat_map(|a| (0..a).map(move |b| (machines[a], machines[b])));
    let mut json = json!({});
    if pairs().any(|(a, b)| a == b) {
        json["inside"] = link(&links.inside);
    }
    if pairs().any(|(a, b)| a != b) {
        json["between"] = link(&links.between);
    }
    json
}
