//! Every collective, by its definition: whatever order links are served in and however few bytes they carry at a time.

use outgrow_runtime::collective::{
    Action, Event, Link, Links, Local, Machine, Node, Schedule, Tree, broadcast, canonical, choose,
    everywhere, gather, hierarchical, pair, ring, runs,
};
use outgrow_tensor::{RngKey, RngStream};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Workers whose links carry what chance lets them, in one thread.
struct Group {
    machines: Vec<Machine>,
    /// By worker, its vectors.
    vectors: Vec<Vec<Vec<f32>>>,
    /// By sender and receiver.
    links: Vec<Vec<VecDeque<u8>>>,
    random: RngStream,
}

fn bytes(vectors: &mut [Vec<f32>], slot: usize) -> &mut [u8] {
    bytemuck::cast_slice_mut(&mut vectors[slot])
}

impl Group {
    fn new(schedule: &Schedule, vectors: Vec<Vec<Vec<f32>>>, seed: u64) -> Self {
        let workers = schedule.workers;
        let machines = (0..workers).map(|w| Machine::new(Arc::new(schedule.part(w)))).collect();
        let links = vec![vec![VecDeque::new(); workers]; workers];
        Self { machines, vectors, links, random: RngKey::new(seed).stream() }
    }

    fn act(&mut self, me: usize, action: Action) -> bool {
        let event = match action {
            Action::Send { to, slot, range } => {
                let bytes = (1 + self.random.below(40) as usize).min(range.len());
                let from = &self.vectors[me][slot];
                let from = &bytemuck::cast_slice::<f32, u8>(from)[range.start..range.start + bytes];
                self.links[me][to].extend(from);
                Event::Sent { to, bytes }
            }
            Action::Receive { from, slot, range, add } => {
                let there = self.links[from][me].len().min(range.len());
                let mut bytes = self.random.below(there as u64 + 1) as usize;
                if add {
                    bytes -= bytes % 4;
                }
                if bytes == 0 {
                    return false;
                }
                let come: Vec<u8> = self.links[from][me].drain(..bytes).collect();
                let vectors = &mut self.vectors[me];
                if add {
                    let into = &mut vectors[slot][range.start / 4..];
                    let come = come.as_chunks::<4>().0.iter().map(|four| f32::from_ne_bytes(*four));
                    into.iter_mut().zip(come).for_each(|(sum, x)| *sum += x);
                } else {
                    self::bytes(vectors, slot)[range.start..range.start + bytes].copy_from_slice(&come);
                }
                Event::Received { from, bytes }
            }
            Action::Local(Local { source, target, range, add, .. }) => {
                let from = self.vectors[me][source][range.start / 4..range.end / 4].to_vec();
                let into = &mut self.vectors[me][target][range.start / 4..range.end / 4];
                into.iter_mut().zip(from).for_each(|(a, b)| *a = if add { *a + b } else { b });
                Event::Done
            }
        };
        self.machines[me].on(event).unwrap();
        true
    }

    /// Until nothing can be done any more.
    fn run(mut self) -> Vec<Vec<Vec<f32>>> {
        loop {
            let mut moved = false;
            for _ in 0..self.machines.len() {
                let me = self.random.below(self.machines.len() as u64) as usize;
                let actions: Vec<Action> = self.machines[me].actions().collect();
                if !actions.is_empty() {
                    let which = self.random.below(actions.len() as u64) as usize;
                    moved |= self.act(me, actions[which].clone());
                }
            }
            if !moved {
                let stuck = (0..self.machines.len()).all(|me| {
                    let actions: Vec<Action> = self.machines[me].actions().collect();
                    actions.iter().all(|action| match action {
                        Action::Receive { from, .. } => self.links[*from][me].is_empty(),
                        _ => false,
                    })
                });
                if stuck {
                    break;
                }
            }
        }
        assert!(self.machines.iter().all(Machine::is_done), "the workers wait for each other");
        assert!(self.links.iter().flatten().all(VecDeque::is_empty), "something was sent that nobody takes");
        self.vectors
    }
}

fn numbers(seed: u64, elements: usize) -> Vec<f32> {
    let mut random = RngKey::new(seed).stream();
    (0..elements).map(|_| random.normal() as f32 * 10f32.powi(random.below(8) as i32)).collect()
}

fn cut(elements: usize, parts: usize) -> Vec<Range<usize>> {
    runs(elements, parts).map(|run| 4 * run.start..4 * run.end).collect()
}

fn add(left: &[f32], right: &[f32]) -> Vec<f32> {
    left.iter().zip(right).map(|(l, r)| l + r).collect()
}

/// The sum of a node's leaves, by the definition of the tree.
fn sum(tree: &Tree, node: Node, leaf: &dyn Fn(usize) -> Vec<f32>) -> Vec<f32> {
    let leaves = tree.leaves_of(node);
    if leaves.len() == 1 {
        return leaf(leaves.start);
    }
    let [left, right] = node.children().map(|child| sum(tree, child, leaf));
    add(&left, &right)
}

const SIZES: [usize; 4] = [0, 1, 7, 100];

#[test]
fn sums_have_the_bits_of_the_one_tree_whoever_holds_which_leaves() {
    for leaves in [1usize, 2, 4, 8, 16] {
        for (workers, elements) in (1..=leaves).flat_map(|w| SIZES.map(|size| (w, size))) {
            let tree = Tree::new(leaves, workers);
            let leaf = |leaf: usize| numbers(leaf as u64, elements);
            let parts = cut(elements, workers);
            let schedule = canonical::reduce_scatter(&tree, &parts).then(gather::direct(&parts));
            schedule.check(4 * elements).unwrap();
            let subtrees = |w: usize| tree.subtrees(w).map(|node| sum(&tree, node, &leaf)).collect();
            let vectors: Vec<Vec<Vec<f32>>> = (0..workers).map(subtrees).collect();
            let expect = sum(&tree, Node::ROOT, &leaf);
            let all: usize = vectors.iter().map(Vec::len).sum();
            let mut wide = vectors.clone();
            wide.iter_mut().for_each(|own| own.resize(all, vec![f32::NAN; elements]));
            let everywhere = everywhere::all_reduce(&tree, 0..4 * elements);
            everywhere.check(4 * elements).unwrap();
            let mut schedules = vec![(schedule, vectors), (everywhere, wide.clone())];
            for latency_s in [1e-6, 1e-4, 1e-2] {
                let link = Link { latency_s, byte_s: 1e-6, gap_s: 1e-6 };
                let links = Links::of_machines(workers, link, 1e-9);
                let chosen = choose::all_reduce(&tree, 0..elements, &links);
                chosen.check(4 * elements).unwrap();
                schedules.push((chosen, wide.clone()));
            }
            for (seed, (schedule, vectors)) in
                (0..5).flat_map(|seed| schedules.iter().map(move |s| (seed, s)))
            {
                for own in Group::new(schedule, vectors.clone(), seed).run() {
                    assert_eq!(own[0], expect, "{workers} workers, {leaves} leaves, {elements} elements");
                }
            }
        }
    }
}

/// Where workers hold equal runs of a power of two, the tree's bytes are a ring's, in fewer messages. Elsewhere they are
/// more, by a vector for each level of the tree at most at which a run is cut.
#[test]
fn the_fixed_order_is_about_as_cheap_as_a_ring() {
    for leaves in [2usize, 4, 8, 16, 32] {
        for workers in 2..=leaves {
            let parts = cut(workers * 1_000, workers);
            let canonical = canonical::reduce_scatter(&Tree::new(leaves, workers), &parts).load();
            let ring = ring::reduce_scatter(&parts).load();
            if workers.is_power_of_two() {
                assert_eq!((canonical.sent, canonical.all_bytes), (ring.sent, ring.all_bytes));
                assert_eq!(canonical.messages, workers.ilog2() as usize);
            }
            let cuts = (leaves.ilog2() - workers.ilog2()) as usize;
            assert!(
                canonical.all_bytes <= ring.all_bytes * (2 + cuts) / 2,
                "{leaves} leaves, {workers} workers"
            );
        }
    }
}

#[test]
fn parts_come_to_all() {
    for (workers, elements) in (1..=9).flat_map(|w| SIZES.map(|size| (w, size))) {
        let parts = cut(elements, workers);
        let all = numbers(3, elements);
        let own = |w: usize| {
            let mut vector = vec![0.0; elements];
            let range = parts[w].start / 4..parts[w].end / 4;
            vector[range.clone()].copy_from_slice(&all[range]);
            vec![vector]
        };
        let vectors: Vec<_> = (0..workers).map(own).collect();
        for schedule in [gather::direct(&parts), gather::doubling(&parts), gather::ring(&parts)] {
            schedule.check(4 * elements).unwrap();
            for own in Group::new(&schedule, vectors.clone(), 1).run() {
                assert_eq!(own[0], all);
            }
        }
        for root in 0..workers {
            let schedule = gather::to_one(root, &parts);
            assert_eq!(Group::new(&schedule, vectors.clone(), 1).run()[root][0], all);
            let whole = 0..4 * elements;
            let vectors: Vec<_> = (0..workers)
                .map(|w| vec![if w == root { all.clone() } else { vec![0.0; elements] }])
                .collect();
            for schedule in
                [broadcast::tree(root, workers, whole.clone()), broadcast::scattered(root, workers, whole)]
            {
                schedule.check(4 * elements).unwrap();
                for own in Group::new(&schedule, vectors.clone(), 2).run() {
                    assert_eq!(own[0], all);
                }
            }
        }
    }
}

#[test]
fn a_ring_sums_what_all_have() {
    for workers in 1..=6 {
        let parts = cut(50, workers);
        // Whole numbers, whose sum has no order.
        let vector = |w: usize| (0..50).map(|i| (i * (w + 1)) as f32).collect::<Vec<_>>();
        let vectors: Vec<_> = (0..workers).map(|w| vec![vector(w)]).collect();
        let expect: Vec<f32> = (0..50).map(|i| (i * workers * (workers + 1) / 2) as f32).collect();
        let schedule = ring::all_reduce(&parts);
        schedule.check(200).unwrap();
        for own in Group::new(&schedule, vectors, 7).run() {
            assert_eq!(own[0], expect);
        }
    }
}

/// Pieces of the vectors that begin a round later each.
#[test]
fn staggered_pieces_are_the_same_collective() {
    for workers in 1..=5 {
        let tree = Tree::new(8, workers);
        let leaf = |leaf: usize| numbers(leaf as u64, 96);
        let piece = |first: usize| {
            let parts: Vec<_> =
                cut(24, workers).into_iter().map(|p| p.start + first..p.end + first).collect();
            canonical::reduce_scatter(&tree, &parts).then(gather::doubling(&parts))
        };
        let schedule = Schedule::staggered(workers, (0..4).map(|i| piece(i * 96)));
        schedule.check(4 * 96).unwrap();
        let subtrees = |w: usize| tree.subtrees(w).map(|node| sum(&tree, node, &leaf)).collect();
        let vectors: Vec<Vec<Vec<f32>>> = (0..workers).map(subtrees).collect();
        let expect = sum(&tree, Node::ROOT, &leaf);
        for own in Group::new(&schedule, vectors, 3).run() {
            assert_eq!(own[0], expect);
        }
    }
}

/// Of two workers: the others keep what they have, and have nothing to do.
#[test]
fn two_workers_send_and_swap() {
    for (workers, elements) in (1..=4).flat_map(|w| SIZES.map(|size| (w, size))) {
        let vectors: Vec<_> = (0..workers)
            .map(|w| vec![numbers(w as u64, elements), numbers(100 + w as u64, elements)])
            .collect();
        for (from, to) in (0..workers).flat_map(|from| (0..workers).map(move |to| (from, to))) {
            let send = pair::send(from, to, workers, 0..4 * elements);
            let swap = pair::swap(from, to, workers, 0..4 * elements);
            let mut sent = vectors.clone();
            sent[to][0].clone_from(&vectors[from][0]);
            let mut swapped = vectors.clone();
            if from != to {
                swapped[to][1].clone_from(&vectors[from][0]);
                swapped[from][1].clone_from(&vectors[to][0]);
            }
            for (schedule, expect, messages) in [(send, sent, 1), (swap, swapped, 2)] {
                schedule.check(4 * elements).unwrap();
                let moved = usize::from(from != to && elements > 0);
                assert_eq!(schedule.load().all_messages, messages * moved);
                let others = (0..workers).filter(|w| ![from, to].contains(w));
                assert!(others.into_iter().all(|w| schedule.part(w).rounds.is_empty()));
                assert_eq!(Group::new(&schedule, vectors.clone(), 5).run(), expect);
            }
        }
    }
}

/// On which machine each worker is: in order, by turns, and any.
fn machines(workers: usize) -> [Vec<usize>; 4] {
    let mut random = RngKey::new(workers as u64).stream();
    let any = (0..workers).map(|_| random.below(3) as usize).collect();
    let of = |machine: fn(usize) -> usize| (0..workers).map(machine).collect();
    [of(|w| w / 2), of(|w| w / 3), of(|w| w % 2), any]
}

/// Whatever is on which machine, the bits are those of the one tree, and each machine is told once what another one has.
#[test]
fn as_little_as_can_be_goes_between_machines() {
    for (workers, leaves) in (1..=9).flat_map(|w: usize| [1, 4].map(|more| (w, w.next_power_of_two() * more)))
    {
        let (tree, elements) = (Tree::new(leaves, workers), 120);
        let leaf = |leaf: usize| numbers(leaf as u64, elements);
        let expect = sum(&tree, Node::ROOT, &leaf);
        let subtrees = |w: usize| tree.subtrees(w).map(|node| sum(&tree, node, &leaf)).collect();
        let vectors: Vec<Vec<Vec<f32>>> = (0..workers).map(subtrees).collect();
        let parts = cut(elements, workers);
        for machines in machines(workers) {
            let between = |schedule: &Schedule| -> usize {
                let all = schedule.rounds.iter().flat_map(|round| &round.transfers);
                all.filter(|t| machines[t.from] != machines[t.to]).map(|t| t.range.len()).sum()
            };
            let reduce = hierarchical::reduce_scatter(&tree, &parts, &machines);
            let gather = hierarchical::all_gather(&parts, &machines);
            let flat = canonical::reduce_scatter(&tree, &parts);
            assert!(between(&reduce) <= between(&flat), "{workers} workers, {machines:?}");
            let others = machines.iter().collect::<std::collections::BTreeSet<_>>().len() - 1;
            assert_eq!(between(&gather), 4 * elements * others, "{workers} workers, {machines:?}");
            let all = hierarchical::all_reduce(&tree, &parts, &machines);
            assert_eq!(all, reduce.then(gather));
            all.check(4 * elements).unwrap();
            for own in Group::new(&all, vectors.clone(), 11).run() {
                assert_eq!(own[0], expect, "{workers} workers, {leaves} leaves, {machines:?}");
            }
            let root = workers / 2;
            let broadcast = hierarchical::broadcast(root, 0..4 * elements, &machines);
            broadcast.check(4 * elements).unwrap();
            assert_eq!(between(&broadcast), 4 * elements * others);
            let vectors: Vec<_> = (0..workers).map(|w| vec![numbers(w as u64, elements)]).collect();
            for own in Group::new(&broadcast, vectors.clone(), 12).run() {
                assert_eq!(own[0], vectors[root][0]);
            }
        }
    }
}
