//! What a machine can do, as it was measured: what costs are read against.

use crate::Cost;
use serde::{Deserialize, Serialize};

/// The limits of one machine's processor, by one set of kernels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineProfile {
    /// The processor's name.
    pub processor: String,
    /// The set of kernels that was measured, as `avx512`.
    pub kernels: String,
    /// Threads that work together.
    pub threads: usize,
    /// Arithmetic, by numbers of threads, ascending.
    pub peaks: Vec<Peak>,
    /// Memory traffic of all threads, by what they touch, ascending: caches first, and the memory itself last.
    pub memory: Vec<MemoryLevel>,
    /// Seconds to hand work to all threads and to wait for them.
    pub hand_over_seconds: f64,
}

/// The most arithmetic of some threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// How many threads.
    pub threads: usize,
    /// Operations on f32 per second, a multiply-add counting as two.
    pub f32_flops_per_s: f64,
    /// Operations on bf16 with sums of f32 per second; that of f32 where there is no instruction for it.
    pub bf16_flops_per_s: f64,
}

/// Traffic with so many bytes that are touched again and again.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryLevel {
    /// Bytes that all threads touch together.
    pub bytes: u64,
    /// Bytes read per second, by all threads.
    pub read_bytes_per_s: f64,
    /// Bytes written per second.
    pub write_bytes_per_s: f64,
    /// Bytes copied per second, each counting once as read and once as written.
    pub copy_bytes_per_s: f64,
}

impl MachineProfile {
    /// The level where so many bytes have room: the last one where they have none. Nothing where none was measured.
    pub fn level(&self, bytes: u64) -> Option<&MemoryLevel> {
        self.memory.iter().find(|level| level.bytes >= bytes).or(self.memory.last())
    }

    /// The least seconds that work of a cost can take all threads: its arithmetic and its traffic run beside each other, so
    /// that the longer one counts (the roofline; Williams, Waterman, Patterson 2009). `bf16`, if products are of bf16.
    pub fn least_seconds(&self, cost: &Cost, bf16: bool) -> f64 {
        let peak = self
            .peaks
            .last()
            .map_or(f64::INFINITY, |peak| if bf16 { peak.bf16_flops_per_s } else { peak.f32_flops_per_s });
        let arithmetic = cost.flops as f64 / peak;
        let bytes = cost.bytes_read.saturating_add(cost.bytes_written);
        let traffic = self.level(bytes).map_or(0.0, |level| {
            cost.bytes_read as f64 / level.read_bytes_per_s
                + cost.bytes_written as f64 / level.write_bytes_per_s
        });
        arithmetic.max(traffic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_arithmetic_and_traffic_is_the_limit() {
        let level = |bytes, rate| MemoryLevel {
            bytes,
            read_bytes_per_s: rate,
            write_bytes_per_s: rate / 2.0,
            copy_bytes_per_s: rate,
        };
        let profile = MachineProfile {
            processor: String::new(),
            kernels: String::new(),
            threads: 2,
            peaks: vec![
                Peak { threads: 1, f32_flops_per_s: 50.0, bf16_flops_per_s: 100.0 },
                Peak { threads: 2, f32_flops_per_s: 100.0, bf16_flops_per_s: 200.0 },
            ],
            memory: vec![level(100, 40.0), level(1000, 10.0)],
            hand_over_seconds: 0.0,
        };
        let cost = |flops, bytes_read, bytes_written| Cost { flops, bytes_read, bytes_written };
        assert_eq!(profile.least_seconds(&cost(1000, 20, 10), false), 10.0);
        assert_eq!(profile.least_seconds(&cost(1000, 20, 10), true), 5.0);
        // From a cache; beyond the first one, and beyond all that was measured.
        assert_eq!(profile.least_seconds(&cost(0, 40, 20), false), 2.0);
        assert_eq!(profile.least_seconds(&cost(0, 100, 50), false), 20.0);
        assert_eq!(profile.least_seconds(&cost(0, 10_000, 0), false), 1000.0);
        let none = MachineProfile { peaks: Vec::new(), memory: Vec::new(), ..profile };
        assert_eq!(none.least_seconds(&cost(1000, 20, 10), false), 0.0);
    }
}
