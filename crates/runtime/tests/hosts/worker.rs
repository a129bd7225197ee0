//! One host's worker: links over TCP with the others, checks the bits of sums, and takes their times.

use outgrow_env::transport::tcp::{Rendezvous, Settings, Token, join};
use outgrow_runtime::collective::calibrate::{self, Effort};
use outgrow_runtime::collective::cost::formula;
use outgrow_runtime::collective::{
    Communicator, Link, Links, Node, Schedule, Tree, canonical, choose, everywhere, gather, ring, runs,
};
use outgrow_tensor::RngKey;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::{HOSTS, address};

const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 7070;

/// What the workers do.
#[derive(Clone, Debug)]
pub struct Job {
    /// The bytes of the vectors that are summed.
    pub sizes: Vec<usize>,
    /// How often each sum is timed; the middle time counts. Without any, only bits are compared.
    pub rounds: usize,
}

impl Job {
    pub(super) fn for_worker(&self, worker: usize, bits_per_s: u64) -> String {
        let sizes = self.sizes.iter().map(|size| format!(" {size}")).collect::<String>();
        format!("{worker} {bits_per_s} {}{sizes}", self.rounds)
    }
}

/// A sum of vectors of some size: by which algorithm, the middle of the times it took, and what it should take.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The bytes of a vector.
    pub bytes: usize,
    /// The algorithm.
    pub algorithm: String,
    /// What it took: the middle, the least and the most.
    pub seconds: [f64; 3],
    /// What it should take by its closed formula, or where it has none, by what its schedule costs.
    pub formula_s: f64,
    /// The links' latency: α.
    pub latency_s: f64,
}

const MARK: &str = "sum ";

impl Finding {
    fn to_line(&self) -> String {
        let Self { bytes, algorithm, seconds: [middle, least, most], formula_s, latency_s } = self;
        format!("{MARK}{algorithm} {bytes} {middle:e} {least:e} {most:e} {formula_s:e} {latency_s:e}")
    }

    pub(super) fn of_line(line: &str) -> Option<Self> {
        let (_, line) = line.split_once(MARK)?;
        let mut words = line.split(' ');
        let (algorithm, bytes) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse::<f64>().ok();
        let seconds = [number()?, number()?, number()?];
        Some(Self { bytes, algorithm, seconds, formula_s: number()?, latency_s: number()? })
    }
}

/// Does a worker's part.
#[allow(clippy::print_stdout)]
pub fn run(job: &str) {
    let mut numbers = job.split(' ').map(|number| number.parse::<usize>().expect("a number"));
    let mut next = || numbers.next().expect("a number");
    let (worker, bits_per_s, rounds) = (next(), next(), next());
    let sizes: Vec<usize> = numbers.collect();
    let mut group = come_together(worker);
    sizes
        .iter()
        .filter(|bytes| rounds == 0 || **bytes <= 1 << 20)
        .for_each(|bytes| check(&mut group, *bytes));
    if rounds > 0 {
        for finding in measure(&mut group, &sizes, rounds, 8.0 / bits_per_s as f64) {
            if worker == 0 {
                println!("{}", finding.to_line());
            }
        }
    }
    group.barrier("the end of a test").expect("all are there");
    group.leave(None);
}

fn come_together(worker: usize) -> Communicator {
    let settings = Settings::new(Token::of_hex(&"5a".repeat(32)).expect("a token"));
    let first = (address(0), PORT);
    let first = (first.0.as_str(), first.1);
    if worker > 0 {
        let joined = join(first, Some(worker), b"", &settings, PATIENCE).expect("the links");
        return Communicator::new(Box::new(joined.links));
    }
    let mut rendezvous = Rendezvous::listen(first, HOSTS, settings).expect("a port");
    let all = rendezvous.wait(PATIENCE, &mut |_| Ok(())).expect("the others");
    assert!(all, "{:?} have not joined", rendezvous.missing());
    Communicator::new(Box::new(rendezvous.finish(b"").expect("the others")))
}

fn parts(elements: Range<usize>) -> Vec<Range<usize>> {
    let bytes = |part: Range<usize>| 4 * (elements.start + part.start)..4 * (elements.start + part.end);
    runs(elements.len(), HOSTS).map(bytes).collect()
}

fn leaf(leaf: usize, elements: usize) -> Vec<f32> {
    let mut random = RngKey::new(leaf as u64).stream();
    (0..elements).map(|_| random.normal() as f32 * 10f32.powi(random.below(8) as i32)).collect()
}

/// The sum of a node's leaves, by the definition of the tree.
fn sum(tree: &Tree, node: Node, elements: usize) -> Vec<f32> {
    let leaves = tree.leaves_of(node);
    if leaves.len() == 1 {
        return leaf(leaves.start, elements);
    }
    let [left, right] = node.children().map(|child| sum(tree, child, elements));
    left.iter().zip(&right).map(|(left, right)| left + right).collect()
}

/// Every algorithm in the order of the tree gives the bits that one worker alone computes.
fn check(group: &mut Communicator, bytes: usize) {
    let (tree, elements) = (Tree::new(2 * HOSTS, HOSTS), bytes / 4);
    let expect = sum(&tree, Node::ROOT, elements);
    let around = parts(0..elements);
    let own: Vec<Vec<f32>> = tree.subtrees(group.worker()).map(|node| sum(&tree, node, elements)).collect();
    let links = group.costs().clone();
    for schedule in [
        choose::all_reduce(&tree, 0..elements, &links),
        everywhere::all_reduce(&tree, 0..bytes),
        canonical::reduce_scatter(&tree, &around).then(gather::doubling(&around)),
        canonical::reduce_scatter(&tree, &around).then(gather::ring(&around)),
    ] {
        let mut machine = group.machine(&schedule);
        let mut vectors = own.clone();
        vectors.resize(machine.part().slots(), vec![0.0; elements]);
        let mut slots: Vec<&mut [u8]> = vectors.iter_mut().map(|v| bytemuck::cast_slice_mut(v)).collect();
        group.run(&mut machine, "a sum", &mut slots).expect("all are there");
        let same = vectors[0].iter().zip(&expect).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "worker {} has other bits of {bytes} bytes", group.worker());
    }
}

/// Short messages, by whose times the links' latency is found.
const MESSAGES: [usize; 2] = [8, 64];

/// Times sums over links that carry a byte in so many seconds.
fn measure(group: &mut Communicator, sizes: &[usize], rounds: usize, byte_s: f64) -> Vec<Finding> {
    let tree = Tree::new(HOSTS, HOSTS);
    let effort = Effort { bytes: 1 << 20, repeats: [10, 50] };
    // Once for the connections to become warm: TCP sends no faster than it has found to be possible.
    let most = sizes.iter().copied().max().unwrap_or(0);
    let mut vectors = vec![vec![0.0_f32; most / 4]; HOSTS];
    let mut run = |group: &mut Communicator, schedule: &Schedule| {
        let mut machine = group.machine(schedule);
        let mut slots: Vec<&mut [u8]> = vectors.iter_mut().map(|v| bytemuck::cast_slice_mut(v)).collect();
        group.barrier("a barrier").expect("all are there");
        let start = Instant::now();
        group.run(&mut machine, "a sum", &mut slots).expect("all are there");
        start.elapsed().as_secs_f64()
    };
    let warm = gather::direct(&parts(0..most / 4));
    for _ in 0..2 {
        run(group, &warm);
    }
    // All hosts at once, since they share this machine's cores as they do in a sum.
    let pairs = calibrate::links(group, &[[0, 1], [2, 3]], &MESSAGES, effort).expect("all are there");
    let link = Link { byte_s, ..pairs[0].link };
    // Beside such links it takes no time to add.
    let add = 0.0;
    let links = Links::of_machines(HOSTS, link, add);
    let mut findings = Vec::new();
    for bytes in sizes.iter().copied() {
        let (around, m) = (parts(0..bytes / 4), bytes as f64);
        let chosen = choose::all_reduce(&tree, 0..bytes / 4, &links);
        for (algorithm, schedule, formula_s) in [
            ("ring", ring::all_reduce(&around), formula::ring_all_reduce(HOSTS, m, link, add)),
            (
                "halving",
                canonical::reduce_scatter(&tree, &around).then(gather::doubling(&around)),
                formula::halving_all_reduce(HOSTS, m, link, add),
            ),
            ("chosen", chosen.clone(), links.seconds(&chosen)),
        ] {
            // A connection that has carried less at a time must find again how much it can.
            for _ in 0..if bytes > 1 << 20 { 1 } else { 5 } {
                run(group, &schedule);
            }
            let mut seconds: Vec<f64> = (0..rounds).map(|_| run(group, &schedule)).collect();
            seconds.sort_by(f64::total_cmp);
            findings.push(Finding {
                bytes,
                algorithm: algorithm.to_owned(),
                seconds: [seconds[rounds / 2], seconds[0], seconds[rounds - 1]],
                formula_s,
                latency_s: link.latency_s,
            });
        }
    }
    findings
}
