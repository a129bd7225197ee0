//! Planning of memory: buffers whose lifetimes do not meet share bytes of one arena.

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
    /// Bytes that packed copies of its weights take, in one layout each, unless other programs have made them before.
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
    let mut placed: Vec<usize> = Vec::new(); // in order of offset
    for i in order {
        let mut offset = 0;
        for j in &placed {
            let meets = buffers[*j].first <= buffers[i].last && buffers[i].first <= buffers[*j].last;
            if !meets {
                continue;
            }
            if offsets[*j] >= size(&buffers[i]).saturating_add(offset) {
                break;
            }
            offset = offset.max(size(&buffers[*j]).saturating_add(offsets[*j]));
        }
        offsets[i] = offset;
        let at = placed.partition_point(|j| offsets[*j] <= offset);
        placed.insert(at, i);
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
