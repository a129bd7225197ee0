//! Planning of memory: buffers whose lifetimes do not meet share bytes of one arena.

use std::collections::BTreeMap;

/// A buffer that is needed from step `first` to step `last`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// A name for reports.
    pub name: String,
    /// Length.
    pub bytes: usize,
    /// The step that writes it first.
    pub first: usize,
    /// The last step that uses it.
    pub last: usize,
}

/// Where every buffer lies in the arena.
#[derive(Clone, Debug, Default)]
pub struct MemoryPlan {
    /// The buffers.
    pub buffers: Vec<Lifetime>,
    /// The first byte of each.
    pub offsets: Vec<usize>,
    /// Bytes of the arena.
    pub planned_bytes: usize,
    /// Bytes that the buffers would take side by side.
    pub naive_bytes: usize,
    /// Bytes of the buffers that are needed at the same step, where that is most: no plan can do with less.
    pub live_bytes: usize,
    /// Bytes of constants that belong to the program.
    pub constant_bytes: usize,
    /// Bytes that packed copies of its weights take at most, in one layout each, unless other programs have made them
    /// before.
    pub packed_bytes: usize,
}

/// Every buffer begins at a multiple of this: a cache line, and the widest vector.
const ALIGN: usize = 64;

impl MemoryPlan {
    /// Bytes that the program with one instance will ask for: its arena, its constants and packed weights.
    pub fn bytes(&self) -> u64 {
        [self.planned_bytes, self.constant_bytes, self.packed_bytes]
            .into_iter()
            .fold(0, |bytes: u64, more| bytes.saturating_add(more as u64))
    }
}

/// Lays out buffers in one arena: the largest first, each at the lowest place that is free during its lifetime.
pub fn plan_memory(buffers: Vec<Lifetime>) -> MemoryPlan {
    let size = |b: &Lifetime| b.bytes.next_multiple_of(ALIGN);
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(size(&buffers[*i])), buffers[*i].first, *i));
    let mut offsets = vec![0; buffers.len()];
    let mut taken = Occupancy::new(buffers.iter().map(|b| b.last + 1).max().unwrap_or(0));
    for i in order {
        let Lifetime { first, last, .. } = buffers[i];
        offsets[i] = taken.place(first, last, size(&buffers[i]));
    }
    // Sums saturate: a plan that cannot be counted is one that cannot be had.
    let end = |i: usize| size(&buffers[i]).saturating_add(offsets[i]);
    let planned_bytes = (0..buffers.len()).map(end).max().unwrap_or(0);
    MemoryPlan {
        planned_bytes,
        naive_bytes: buffers.iter().map(size).fold(0, usize::saturating_add),
        live_bytes: live_bytes(&buffers),
        offsets,
        buffers,
        constant_bytes: 0,
        packed_bytes: 0,
    }
}

/// Ranges of bytes that do not touch, by their starts: ends.
#[derive(Clone, Debug, Default)]
struct Ranges(BTreeMap<usize, usize>);

impl Ranges {
    /// Adds a range, together with those that it meets.
    fn insert(&mut self, mut start: usize, mut end: usize) {
        while let Some((&low, &high)) = self.0.range(..=end).next_back().filter(|(_, high)| **high >= start) {
            (start, end) = (start.min(low), end.max(high));
            self.0.remove(&low);
        }
        self.0.insert(start, end);
    }

    /// The end of the last range that has bytes in common with this one, if there is one.
    fn end_of_meeting(&self, start: usize, end: usize) -> Option<usize> {
        self.0.range(..end).next_back().map(|(_, high)| *high).filter(|high| *high > start)
    }
}

/// Which bytes of the arena are taken when: a binary tree over the steps, in which the bytes of a buffer are noted at few
/// nodes, however long it lives. Buffers that lie side by side become one range, so that there is little to be looked
/// through; walking all buffers for each would take a time that is quadratic in their number.
#[derive(Debug)]
struct Occupancy {
    /// Steps rounded up to a power of two: the first leaf.
    leaves: usize,
    /// By node, what buffers take of which it is one of the few nodes: throughout its steps.
    throughout: Vec<Ranges>,
    /// By node, what is taken during any of its steps.
    sometimes: Vec<Ranges>,
}

impl Occupancy {
    fn new(steps: usize) -> Self {
        let leaves = steps.next_power_of_two();
        let none = vec![Ranges::default(); 2 * leaves];
        Self { leaves, throughout: none.clone(), sometimes: none }
    }

    /// The fewest nodes whose steps are `first` to `last`, both included.
    fn cover(&self, first: usize, last: usize) -> Vec<usize> {
        let (mut low, mut high) = (first + self.leaves, last + 1 + self.leaves);
        let mut nodes = Vec::new();
        while low < high {
            if low % 2 == 1 {
                nodes.push(low);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                nodes.push(high);
            }
            (low, high) = (low / 2, high / 2);
        }
        nodes
    }

    /// Takes the lowest `bytes` that are free from step `first` to step `last`, and gives the first of them.
    fn place(&mut self, first: usize, last: usize, bytes: usize) -> usize {
        if bytes == 0 {
            return 0;
        }
        let cover = self.cover(first, last);
        let ancestors =
            |node: &usize| std::iter::successors(Some(node / 2), |n| Some(n / 2)).take_while(|n| *n > 0);
        let mut above: Vec<usize> = cover.iter().flat_map(ancestors).collect();
        above.sort_unstable();
        above.dedup();
        // What meets these steps lives throughout a node above them, or at some time in one of them.
        let throughout = above.iter().map(|node| &self.throughout[*node]);
        let met: Vec<&Ranges> = throughout
            .chain(cover.iter().map(|node| &self.sometimes[*node]))
            .filter(|ranges| !ranges.0.is_empty())
            .collect();
        let mut offset = 0usize;
        // Whoever is in the way is gone past until nobody is.
        let mut clear = 0;
        for ranges in met.iter().cycle() {
            if clear >= met.len() {
                break;
            }
            clear += 1;
            while let Some(end) = ranges.end_of_meeting(offset, offset.saturating_add(bytes)) {
                (offset, clear) = (end, 1);
            }
        }
        let end = offset.saturating_add(bytes);
        cover.iter().for_each(|node| self.throughout[*node].insert(offset, end));
        cover.iter().chain(&above).for_each(|node| self.sometimes[*node].insert(offset, end));
        offset
    }
}

/// Bytes of the largest set of buffers that are needed at one step.
fn live_bytes(buffers: &[Lifetime]) -> usize {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let mut change = vec![0i128; steps + 1];
    for b in buffers {
        let size = b.bytes.next_multiple_of(ALIGN) as i128;
        change[b.first] += size;
        change[b.last + 1] -= size;
    }
    let mut live = 0;
    let most = change.iter().map(|c| {
        live += c;
        live
    });
    usize::try_from(most.max().unwrap_or(0)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    fn buffer(bytes: usize, first: usize, last: usize) -> Lifetime {
        Lifetime { name: String::new(), bytes, first, last }
    }

    #[test]
    fn buffers_one_after_the_other_share_memory() {
        let plan = plan_memory(vec![buffer(100, 0, 1), buffer(100, 2, 3), buffer(64, 1, 2)]);
        assert_eq!((plan.planned_bytes, plan.naive_bytes, plan.live_bytes), (192, 320, 192));
    }

    /// The same by looking at all that lie there already, in the order of their places.
    fn offsets_by_search(buffers: &[Lifetime]) -> Vec<usize> {
        let size = |i: usize| buffers[i].bytes.next_multiple_of(ALIGN);
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|i| (std::cmp::Reverse(size(*i)), buffers[*i].first, *i));
        let mut offsets = vec![0; buffers.len()];
        let mut placed: Vec<usize> = Vec::new();
        for i in order {
            placed.sort_by_key(|j| offsets[*j]);
            let meets =
                |j: &&usize| buffers[**j].first <= buffers[i].last && buffers[i].first <= buffers[**j].last;
            for j in placed.iter().filter(meets) {
                if offsets[*j] < offsets[i] + size(i) {
                    offsets[i] = offsets[i].max(offsets[*j] + size(*j));
                }
            }
            placed.push(i);
        }
        offsets
    }

    #[test]
    fn places_are_the_lowest_that_are_free() {
        let mut stream = RngKey::new(7).stream();
        for round in 0..300 {
            let (count, steps) = (1 + stream.below(120) as usize, 1 + stream.below(100));
            // Few sizes leave gaps that others fit exactly; some have none at all.
            let sizes = [1, 3, 40, 5000][round % 4];
            let buffers: Vec<_> = (0..count)
                .map(|_| {
                    let first = stream.below(steps) as usize;
                    let most = stream.below(steps);
                    let length = stream.below(1 + most) as usize;
                    buffer(64 * stream.below(sizes + 1) as usize, first, first + length)
                })
                .collect();
            let expect = offsets_by_search(&buffers);
            assert_eq!(plan_memory(buffers).offsets, expect, "round {round}");
        }
    }

    #[test]
    fn buffers_needed_together_never_overlap() {
        let mut stream = RngKey::new(3).stream();
        for _ in 0..200 {
            let random = |stream: &mut outgrow_tensor::RngStream| {
                let first = stream.below(30) as usize;
                buffer(stream.below(5000) as usize, first, first + stream.below(8) as usize)
            };
            let buffers: Vec<_> = (0..40).map(|_| random(&mut stream)).collect();
            let plan = plan_memory(buffers);
            for i in 0..40 {
                for j in 0..i {
                    let (a, b) = (&plan.buffers[i], &plan.buffers[j]);
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = plan.offsets[i] + a.bytes <= plan.offsets[j]
                        || plan.offsets[j] + b.bytes <= plan.offsets[i];
                    assert!(
                        !together || apart,
                        "{a:?} at {} and {b:?} at {}",
                        plan.offsets[i],
                        plan.offsets[j]
                    );
                }
            }
            assert!(plan.live_bytes <= plan.planned_bytes && plan.planned_bytes <= plan.naive_bytes);
        }
    }
}
