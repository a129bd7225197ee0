//! Measures what this machine can do at most: arithmetic between registers, memory traffic, and handing work to threads.

use crate::CpuBackend;
use outgrow_ir::{MachineProfile, MemoryLevel, Peak};
use outgrow_kernels::peak::{Traffic, multiply_adds, traffic};
use std::sync::{Mutex, PoisonError};

/// How thoroughly is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Nanoseconds for each number.
    pub each_ns: u64,
    /// The most bytes that all threads touch together; nothing larger is measured.
    pub bytes: usize,
}

impl Effort {
    /// Some seconds in all.
    pub const FULL: Self = Self { each_ns: 150_000_000, bytes: 512 << 20 };
    /// About half a second.
    pub const QUICK: Self = Self { each_ns: 15_000_000, bytes: 128 << 20 };
}

/// What each thread touches: in the caches of one core, then of several, then in memory.
const SIZES: [usize; 5] = [16 << 10, 256 << 10, 2 << 20, 16 << 20, 256 << 20];
/// Rounds of multiply-adds in one measurement: half a millisecond, as threads that sleep take some microseconds to begin.
const ROUNDS: usize = 200_000;
/// Bytes that each thread moves in one measurement, where it touches fewer.
const MOVED: usize = 32 << 20;
/// Rounds of the work that is handed over: some ten microseconds.
const SHORT_ROUNDS: usize = 10_000;

/// Measures the machine by the threads and kernels of a backend. `now` is a clock in nanoseconds. The best of several
/// measurements counts, as whatever else runs only takes away.
pub fn measure(
    backend: &CpuBackend,
    processor: &str,
    effort: Effort,
    now: &dyn Fn() -> u64,
) -> MachineProfile {
    let meter = Meter { backend, effort, now };
    let threads = backend.pool.threads();
    let mut numbers = vec![1, threads];
    numbers.dedup();
    let sizes = SIZES.into_iter().filter(|bytes| bytes.saturating_mul(threads) <= effort.bytes);
    MachineProfile {
        processor: processor.to_owned(),
        kernels: backend.path.name().to_owned(),
        threads,
        peaks: numbers.into_iter().map(|threads| meter.peak(threads)).collect(),
        memory: sizes.map(|bytes| meter.level(bytes)).collect(),
        hand_over_seconds: meter.hand_over(),
    }
}

struct Meter<'a> {
    backend: &'a CpuBackend,
    effort: Effort,
    now: &'a dyn Fn() -> u64,
}

impl Meter<'_> {
    /// The fewest seconds that `work` takes.
    fn best(&self, work: &mut dyn FnMut()) -> f64 {
        let begun = (self.now)();
        let mut best = u64::MAX;
        let mut runs = 0;
        loop {
            let started = (self.now)();
            if runs >= 3 && started - begun >= self.effort.each_ns {
                return best.max(1) as f64 * 1e-9;
            }
            work();
            best = best.min((self.now)() - started);
            runs += 1;
        }
    }

    fn peak(&self, threads: usize) -> Peak {
        let path = self.backend.path;
        let rate = |bf16: bool| {
            let flops = multiply_adds(path, bf16, ROUNDS)? * threads as u64;
            let seconds = self.best(&mut || {
                self.backend.pool.split(threads, &|_, range| {
                    range.for_each(|_| {
                        multiply_adds(path, bf16, ROUNDS);
                    });
                });
            });
            Some(flops as f64 / seconds)
        };
        let f32_flops_per_s = rate(false).unwrap_or_default();
        Peak { threads, f32_flops_per_s, bf16_flops_per_s: rate(true).unwrap_or(f32_flops_per_s) }
    }

    /// Traffic with so many bytes of each thread.
    fn level(&self, bytes: usize) -> MemoryLevel {
        let (pool, path) = (&self.backend.pool, self.backend.path);
        let threads = pool.threads();
        // Two buffers: each is a half of what is touched where both are.
        let floats = bytes / 8;
        let of_thread = |_| Mutex::new((vec![1f32; floats], vec![0f32; floats]));
        let buffers: Vec<_> = (0..threads).map(of_thread).collect();
        let repeats = (MOVED / bytes).max(1);
        let rate = |kind: Traffic| {
            let seconds = self.best(&mut || {
                pool.split(threads, &|_, range| {
                    for i in range {
                        let mut both = buffers[i].lock().unwrap_or_else(PoisonError::into_inner);
                        let (from, to) = &mut *both;
                        (0..repeats).for_each(|_| traffic(path, kind, from, to));
                    }
                });
            });
            (threads * floats * 4 * repeats) as f64 / seconds
        };
        MemoryLevel {
            bytes: (bytes * threads) as u64,
            read_bytes_per_s: rate(Traffic::Read),
            write_bytes_per_s: rate(Traffic::Write),
            copy_bytes_per_s: rate(Traffic::Copy),
        }
    }

    /// What work for each thread takes longer than the same work of one thread.
    fn hand_over(&self) -> f64 {
        let (pool, path) = (&self.backend.pool, self.backend.path);
        let work = || multiply_adds(path, false, SHORT_ROUNDS);
        let alone = self.best(&mut || {
            work();
        });
        let together = self.best(&mut || {
            pool.split(pool.threads(), &|_, range| {
                range.for_each(|_| {
                    work();
                });
            });
        });
        (together - alone).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_kernels::{KernelPath, ThreadPool};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// By a clock that goes on by a microsecond whenever it is asked: what is measured then is known.
    #[test]
    fn rates_are_work_by_time() {
        for path in KernelPath::supported() {
            let backend = CpuBackend { path, ..CpuBackend::new(Arc::new(ThreadPool::new(2))) };
            let clock = AtomicU64::new(0);
            let now = || clock.fetch_add(1000, Ordering::Relaxed);
            let effort = Effort { each_ns: 10_000, bytes: 1 << 20 };
            let found = measure(&backend, "none", effort, &now);
            assert_eq!((found.kernels.as_str(), found.threads), (path.name(), 2));
            let flops = multiply_adds(path, false, ROUNDS).expect("f32") as f64;
            let near = |x: f64, y: f64| (x / y - 1.0).abs() < 1e-9;
            let peaks: Vec<_> = found.peaks.iter().map(|peak| (peak.threads, peak.f32_flops_per_s)).collect();
            assert!(near(peaks[0].1, flops * 1e6) && near(peaks[1].1, 2.0 * flops * 1e6), "{peaks:?}");
            let ratio = found.peaks[0].bf16_flops_per_s / found.peaks[0].f32_flops_per_s;
            assert_eq!(ratio, if path == KernelPath::Avx512Bf16 { 2.0 } else { 1.0 });
            // 16 and 256 KiB a thread, half of which is read again and again, 16 MiB in all.
            let bytes: Vec<_> = found.memory.iter().map(|level| level.bytes).collect();
            assert_eq!(bytes, [32 << 10, 512 << 10]);
            for level in &found.memory {
                assert!(near(level.read_bytes_per_s, f64::from(32 << 20) * 1e6), "{level:?}");
                assert!(near(level.copy_bytes_per_s, level.write_bytes_per_s), "{level:?}");
            }
            assert_eq!(found.hand_over_seconds, 0.0);
        }
    }
}
