//! Steps whose vector is combined, judged and updated in ranges, some for each worker. Between combining and updating they
//! tell each other what they have seen on a board: whether all is finite, squares for the norm, and the sums over the batch,
//! which the last worker has combined. Afterwards each has all of the parameters, but the optimiser's state in its own range
//! only.

use super::plan::StepPlan;
use crate::flat::blocks;
use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::{Communicator, Machine, Schedule, gather};
use outgrow_runtime::{Backend, Buffer};
use std::ops::Range;

/// What is on the board of each worker's, besides numbers.
const FINITE: u64 = 1;
const SAVE: u64 = 2;

/// One worker's part in sharded steps.
#[derive(Debug)]
pub(crate) struct Shards {
    plan: StepPlan,
    me: usize,
    tell: Machine,
    share: Machine,
    collect: Machine,
    /// A word of flags from each worker, the squares of all blocks, and the sums over the batch.
    board: Vec<u64>,
    /// Where the squares of the blocks are, in the order of the vector, where they are asked for.
    squares: Option<Range<usize>>,
    /// Where among them those of this worker are.
    own: Vec<Range<usize>>,
    /// Where the sums over the batch are.
    sums: Range<usize>,
}

/// What a worker tells the others, and what all have told each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// Whether all gradients are finite.
    pub finite: bool,
    /// The sums of the squares of the blocks, where they are asked for.
    pub squares: Option<&'a [f64]>,
    /// Whether somebody wants to have the state saved after this step.
    pub save: bool,
}

impl Shards {
    /// The part of a group's worker; `norm` says whether norms are asked for.
    pub fn new(plan: &StepPlan, norm: bool, group: &Communicator) -> Self {
        let workers = plan.tree.workers();
        let mut end = workers;
        let mut next = |words: usize| {
            let start = end;
            end += words;
            start..end
        };
        let squares = norm.then(|| next(blocks(plan.gradients())));
        let sums = next(plan.sums().len().div_ceil(2));
        let bytes = |range: &Range<usize>| 8 * range.start..8 * range.end;
        let gathered = |parts: &[Range<usize>]| gather::direct(&parts.iter().map(bytes).collect::<Vec<_>>());
        let flags: Vec<Range<usize>> = (0..workers).map(|w| w..w + 1).collect();
        let of_last: Vec<Range<usize>> =
            (0..workers).map(|w| if w + 1 == workers { sums.clone() } else { 0..0 }).collect();
        let mut tell: Schedule = gathered(&flags).beside(gathered(&of_last));
        let (me, mut own) = (group.worker(), Vec::new());
        if let Some(Range { start, .. }) = squares {
            let on_board = |blocks: &Range<usize>| start + blocks.start..start + blocks.end;
            for bucket in plan.blocks() {
                let each: Vec<Range<usize>> = bucket.iter().map(on_board).collect();
                tell = tell.beside(gathered(&each));
                own.push(each[me].clone());
            }
        }
        own.sort_by_key(|range| range.start);
        Self {
            me,
            own,
            tell: group.machine(&tell),
            share: group.machine(&plan.share()),
            collect: group.machine(&plan.collect()),
            board: vec![0; end],
            squares,
            sums,
            plan: plan.clone(),
        }
    }

    /// Tells the others what this worker has seen in its range, and gives what all have told. The sums over the batch are in the combined vector then.
    ///
    /// # Errors
    /// When a worker is lost, or the device fails.
    pub fn tell(
        &mut self,
        own: Told<'_>,
        combined: &mut dyn Buffer,
        backend: &dyn Backend,
        group: &mut Communicator,
        what: &str,
    ) -> Result<Told<'_>, Diagnostic> {
        let workers = self.plan.tree.workers();
        self.board[self.me] = (FINITE * u64::from(own.finite)) | (SAVE * u64::from(own.save));
        let mut squares = own.squares.unwrap_or_default();
        for place in &self.own {
            let (these, others) = squares.split_at(place.len());
            self.board[place.clone()].copy_from_slice(bytemuck::cast_slice(these));
            squares = others;
        }
        let sums = self.plan.sums();
        if self.me + 1 == workers {
            let place: &mut [u8] = bytemuck::cast_slice_mut(&mut self.board[self.sums.clone()]);
            backend.download(combined, 4 * sums.start, &mut place[..4 * sums.len()])?;
        }
        group.run(&mut self.tell, what, &mut [bytemuck::cast_slice_mut(&mut self.board)])?;
        if self.me + 1 < workers {
            let place: &[u8] = bytemuck::cast_slice(&self.board[self.sums.clone()]);
            backend.upload(&place[..4 * sums.len()], combined, 4 * sums.start)?;
        }
        let flags = &self.board[..workers];
        let all = self.squares.clone().map(|squares| bytemuck::cast_slice(&self.board[squares]));
        Ok(Told {
            finite: flags.iter().all(|flags| flags & FINITE != 0),
            squares: all,
            save: flags.iter().any(|flags| flags & SAVE != 0),
        })
    }

    /// How each worker's range of the parameters comes to all.
    pub fn share(&mut self) -> &mut Machine {
        &mut self.share
    }

    /// How each worker's range of the optimiser's state comes to the first one.
    pub fn collect(&mut self) -> &mut Machine {
        &mut self.collect
    }
}
