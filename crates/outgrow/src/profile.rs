//! What takes the time of a step of training, or of a batch: its kernels, those alike put together, beside the least time
//! that this machine could do them in.

use outgrow_ir::MachineProfile;
use outgrow_runtime::machine::{Effort, measure};
use outgrow_runtime::{CpuBackend, StepInfo};
use serde_json::{Value as Json, json};

use crate::commands::table::aligned;
use crate::context::Context;
use crate::session::process::cpu_name;

/// Lines of the table; what takes less time is one more.
const LINES: usize = 40;

/// The limits of this machine, measured in about half a second.
pub fn limits(cpu: &CpuBackend, context: &Context) -> MachineProfile {
    measure(cpu, &cpu_name(), Effort::QUICK, &|| context.world.clock.now_ns())
}

/// What the steps of a program took, in nanoseconds, in so many profiled runs, as one run in the format of Chrome's traces,
/// which Perfetto reads too: one kernel after the other, each with the mean of its times. `of` names what was run.
pub fn trace<'a>(
    steps: impl IntoIterator<Item = (&'a StepInfo, u64)>,
    runs: u64,
    of: &str,
    machine: &MachineProfile,
) -> Json {
    let name = |kind: &str, name: String| json!({ "ph": "M", "pid": 1, "tid": 1, "name": kind, "args": { "name": name } });
    let mut events = vec![
        name("process_name", of.to_owned()),
        name("thread_name", format!("{} threads, mean of {runs} profiled runs", machine.threads)),
    ];
    let mut at = 0.0;
    for (step, nanoseconds) in steps {
        let took = nanoseconds as f64 * 1e-3 / runs.max(1) as f64;
        events.push(json!({
            "ph": "X",
            "pid": 1,
            "tid": 1,
            "ts": at,
            "dur": took,
            "name": format!("{} {}", step.kernel, shortened(&step.ops)),
            "cat": step.kernel,
            "args": {
                "layer": &*step.origin,
                "ops": step.ops,
                "flops": step.cost.flops,
                "bytes_read": step.cost.bytes_read,
                "bytes_written": step.cost.bytes_written,
                "limit_us": machine.least_seconds(&step.cost, step.bf16) * 1e6,
            },
        }));
        at += took;
    }
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

/// The kernels of a run, those that take most time first.
pub struct Profile {
    kinds: Vec<Kind>,
    /// Seconds of kernels that take at least twice their limit.
    slow: f64,
}

/// Kernels alike: of the same name, the same primitives and as much work.
struct Kind {
    kernel: String,
    ops: String,
    /// The first layer that has it.
    origin: String,
    /// Of them in a run.
    number: u64,
    /// Of all of them, in a run.
    seconds: f64,
    /// The least that they could take.
    least: f64,
    flops: u64,
    bytes: u64,
}

impl Profile {
    /// What the steps of a program took, in nanoseconds, in so many profiled runs.
    pub fn of<'a>(
        steps: impl IntoIterator<Item = (&'a StepInfo, u64)>,
        runs: u64,
        machine: &MachineProfile,
    ) -> Self {
        let mut kinds: Vec<Kind> = Vec::new();
        for (step, nanoseconds) in steps {
            let cost = step.cost;
            let bytes = cost.bytes_read.saturating_add(cost.bytes_written);
            let alike = |kind: &Kind| {
                (&kind.kernel, &kind.ops) == (&step.kernel, &step.ops)
                    && (kind.flops, kind.bytes) == (cost.flops * kind.number, bytes * kind.number)
            };
            let at = kinds.iter().position(alike).unwrap_or_else(|| {
                let (kernel, ops, origin) = (step.kernel.clone(), step.ops.clone(), step.origin.to_string());
                kinds.push(Kind {
                    kernel,
                    ops,
                    origin,
                    number: 0,
                    seconds: 0.0,
                    least: 0.0,
                    flops: 0,
                    bytes: 0,
                });
                kinds.len() - 1
            });
            let kind = &mut kinds[at];
            kind.number += 1;
            kind.seconds += nanoseconds as f64 * 1e-9 / runs.max(1) as f64;
            kind.least += machine.least_seconds(&cost, step.bf16);
            kind.flops += cost.flops;
            kind.bytes += bytes;
        }
        kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let slow = kinds.iter().filter(|kind| kind.least < kind.seconds / 2.0);
        let slow = slow.map(|kind| kind.seconds).sum();
        Self { kinds, slow }
    }

    fn whole(&self) -> f64 {
        self.kinds.iter().map(|kind| kind.seconds).sum()
    }

    /// All of it.
    pub fn json(&self) -> Json {
        let kind = |kind: &Kind| {
            json!({
                "kernel": kind.kernel,
                "ops": kind.ops,
                "first_layer": kind.origin,
                "number": kind.number,
                "ms": kind.seconds * 1e3,
                "limit_ms": kind.least * 1e3,
                "flops": kind.flops,
                "bytes": kind.bytes,
            })
        };
        self.kinds.iter().map(kind).collect()
    }

    /// A table for people; `of` is what the kernels are of.
    pub fn text(&self, of: &str) -> String {
        let whole = self.whole();
        let titles =
            ["ms", "%", "times", "GFLOP/s", "GB/s", "% of limit", "kernel", "what it computes", "first for"];
        let mut table = vec![titles.map(str::to_owned).to_vec()];
        let part = |seconds: f64| format!("{:.1}", 100.0 * seconds / whole.max(f64::MIN_POSITIVE));
        let rate = |amount: u64, seconds: f64| match amount {
            0 => String::new(),
            _ => format!("{:.1}", amount as f64 * 1e-9 / seconds.max(f64::MIN_POSITIVE)),
        };
        for kind in self.kinds.iter().take(LINES) {
            table.push(vec![
                format!("{:.3}", kind.seconds * 1e3),
                part(kind.seconds),
                kind.number.to_string(),
                rate(kind.flops, kind.seconds),
                rate(kind.bytes, kind.seconds),
                format!("{:.0}", 100.0 * kind.least / kind.seconds.max(f64::MIN_POSITIVE)),
                kind.kernel.clone(),
                shortened(&kind.ops),
                kind.origin.clone(),
            ]);
        }
        let others = self.kinds.get(LINES..).unwrap_or_default();
        if !others.is_empty() {
            let seconds: f64 = others.iter().map(|kind| kind.seconds).sum();
            let number: u64 = others.iter().map(|kind| kind.number).sum();
            let cells = [format!("{:.3}", seconds * 1e3), part(seconds), number.to_string()];
            let rest = [String::new(), String::new(), String::new(), format!("{} kinds more", others.len())];
            table.push(cells.into_iter().chain(rest).collect());
        }
        format!(
            "{}{:.3} ms in all kernels of {of}, {}% of it in kernels under half of their limit\n",
            aligned(&table),
            whole * 1e3,
            part(self.slow),
        )
    }
}

/// The first ops of many.
fn shortened(ops: &str) -> String {
    const MOST: usize = 60;
    if ops.len() <= MOST {
        ops.to_owned()
    } else {
        format!("{}...", ops.chars().take(MOST).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_ir::{Cost, Peak};

    #[test]
    fn a_trace_has_kernels_one_after_the_other_with_the_means_of_their_times() {
        let machine = MachineProfile {
            processor: String::new(),
            kernels: String::new(),
            threads: 2,
            peaks: vec![Peak { threads: 2, f32_flops_per_s: 1e9, bf16_flops_per_s: 2e9 }],
            memory: Vec::new(),
            hand_over_seconds: 0.0,
        };
        let step = |kernel: &str, bf16| StepInfo {
            kernel: kernel.into(),
            cost: Cost { flops: 4000, ..Cost::default() },
            bf16,
            ..StepInfo::default()
        };
        let steps = [(step("matmul", false), 20_000), (step("map", true), 10_000)];
        let found = trace(steps.iter().map(|(step, ns)| (step, *ns)), 2, "a model", &machine);
        let events = found["traceEvents"].as_array().unwrap();
        let kernels: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        let number = |i: usize, key: &str| kernels[i][key].as_f64().unwrap();
        assert_eq!((number(0, "ts"), number(0, "dur")), (0.0, 10.0));
        assert_eq!((number(1, "ts"), number(1, "dur")), (10.0, 5.0));
        let limit = |i: usize| kernels[i]["args"]["limit_us"].as_f64().unwrap();
        assert!((limit(0) - 4.0).abs() < 1e-9 && (limit(1) - 2.0).abs() < 1e-9, "{found}");

        let profile = Profile::of(steps.iter().map(|(step, ns)| (step, *ns)), 2, &machine);
        assert!(
            profile.text("steps").contains("100.0% of it in kernels under half"),
            "{}",
            profile.text("steps")
        );
    }
}
