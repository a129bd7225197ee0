//! How a worker's sums are put together with those of the others: bucket by bucket, each as soon as it is final, while the
//! rest of the last leaf is still computed.

use super::plan::StepPlan;
use super::shards::Shards;
use outgrow_ir::{Cost, Diagnostic};
use outgrow_runtime::StepInfo;
use outgrow_runtime::collective::{Communicator, Machine, Node};
use smallvec::SmallVec;

/// A leaf's program pauses after so many nanoseconds, roughly, to look at the links.
const PAUSE_NS: f64 = 200_000.0;

/// One worker's part in the sum of all.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The largest subtrees that the worker computes.
    pub subtrees: Vec<Node>,
    /// Where each worker updates ranges of its own.
    pub shards: Option<Shards>,
    /// For each bucket, after how many steps of the last leaf's program it is final, and how it is exchanged.
    buckets: Vec<(usize, Machine)>,
    /// How many buckets have been exchanged in this step.
    done: usize,
    /// What comes from others as it is, where schedules ask for it: vectors behind those of the subtrees.
    others: Vec<Vec<f32>>,
    /// After how many steps a leaf's program pauses; it ends with the last.
    pauses: Vec<usize>,
}

impl Exchange {
    /// The part of a group's worker in steps whose leaves are computed by these steps; `norm` says whether norms are asked
    /// for.
    pub fn new(plan: &StepPlan, steps: &[StepInfo], norm: bool, group: &Communicator) -> Self {
        let (me, mut slots) = (group.worker(), 0);
        let mut machine = |bucket| {
            let schedule = plan.reduce(bucket);
            slots = slots.max(schedule.part(me).slots());
            group.machine(&schedule)
        };
        let buckets: Vec<_> = plan.buckets().iter().map(|b| (b.after, machine(b))).collect();
        let subtrees: Vec<Node> = plan.tree.subtrees(me).collect();
        let others = vec![vec![0.0; plan.sums().end]; slots.saturating_sub(subtrees.len())];
        let pauses = pauses(steps.iter().map(|step| step.cost), buckets.iter().map(|(after, _)| *after));
        Self {
            subtrees,
            others,
            shards: plan.sharded.then(|| Shards::new(plan, norm, group)),
            buckets,
            done: 0,
            pauses,
        }
    }

    /// Where a leaf's program pauses.
    pub fn pauses(&self) -> &[usize] {
        &self.pauses
    }

    /// Begins a step.
    pub fn start(&mut self) {
        self.done = 0;
        self.buckets.iter_mut().for_each(|(_, machine)| machine.start());
    }

    /// How many buckets are final after so many steps of the last leaf's program.
    pub fn ready(&self, steps: usize) -> usize {
        self.buckets.partition_point(|(after, _)| *after <= steps)
    }

    /// Exchanges the first so many buckets as far as that goes without waiting. Where there is nothing to exchange, it is
    /// seen whether all others are still there.
    ///
    /// # Errors
    /// When a worker is lost.
    pub fn advance(
        &mut self,
        ready: usize,
        group: &mut Communicator,
        step: u64,
        vectors: &mut [&mut [u8]],
    ) -> Result<(), Diagnostic> {
        if self.done == ready {
            return group.look(format_args!("computing step {}", step + 1));
        }
        while let Some((_, machine)) = self.buckets[..ready].get_mut(self.done) {
            let vectors = &mut with(vectors, &mut self.others);
            if !group.advance(machine, format_args!("the all-reduce of step {}", step + 1), vectors)? {
                break;
            }
            self.done += 1;
        }
        Ok(())
    }

    /// Exchanges what is left.
    ///
    /// # Errors
    /// When a worker is lost.
    pub fn finish(
        &mut self,
        group: &mut Communicator,
        step: u64,
        vectors: &mut [&mut [u8]],
    ) -> Result<(), Diagnostic> {
        let left = self.buckets[self.done..].iter_mut().map(|(_, machine)| machine);
        let vectors = &mut with(vectors, &mut self.others);
        group.finish(left, format_args!("the all-reduce of step {}", step + 1), vectors)?;
        self.done = self.buckets.len();
        Ok(())
    }
}

/// Vectors, and more behind them.
fn with<'a>(vectors: &'a mut [&mut [u8]], others: &'a mut [Vec<f32>]) -> SmallVec<[&'a mut [u8]; 16]> {
    let others = others.iter_mut().map(|other| bytemuck::cast_slice_mut(other));
    vectors.iter_mut().map(|vector| &mut **vector).chain(others).collect()
}

/// After how many of the steps that cost this a program pauses: where it must, and now and then.
fn pauses(costs: impl Iterator<Item = Cost>, musts: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut pauses: Vec<usize> = musts.collect();
    let (mut since, mut steps) = (0.0, 0);
    for cost in costs {
        steps += 1;
        // What one thread does in a nanosecond: some fifty operations, or ten bytes.
        since += cost.flops as f64 / 50.0 + (cost.bytes_read + cost.bytes_written) as f64 / 10.0;
        if since >= PAUSE_NS {
            pauses.push(steps);
            since = 0.0;
        }
    }
    pauses.push(steps);
    pauses.retain(|pause| *pause > 0);
    pauses.sort_unstable();
    pauses.dedup();
    pauses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_pause_where_they_must_and_now_and_then() {
        let costs = |flops: &[u64]| {
            let cost = |flops: &u64| Cost { flops: *flops, ..Cost::default() };
            flops.iter().map(cost).collect::<Vec<_>>().into_iter()
        };
        let long = (PAUSE_NS * 50.0) as u64;
        assert_eq!(pauses(costs(&[1, 1, 1]), [0, 2].into_iter()), [2, 3]);
        assert_eq!(pauses(costs(&[long, 1, 1, 2 * long, 1]), [3].into_iter()), [1, 3, 4, 5]);
        assert_eq!(pauses(costs(&[]), [0].into_iter()), [0; 0]);
    }
}
