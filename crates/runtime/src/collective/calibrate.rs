//! Measures what a group's links cost: messages between two workers, back and forth and in streams, and the line through
//! their times. What costs to choose algorithms by comes out of it the same on all workers.

use super::Communicator;
use super::cost::{Link, Links};
use super::fit::least_squares;
use super::machine::Machine;
use super::pair;
use outgrow_ir::Diagnostic;
use std::time::Instant;

/// The bytes of the messages that are measured.
pub const SIZES: [usize; 9] = [8, 64, 512, 4 << 10, 32 << 10, 256 << 10, 2 << 20, 16 << 20, 64 << 20];
/// How much is measured of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// About how many bytes go over it for a size and a kind of messages, as far as the numbers of repeats allow.
    pub bytes: usize,
    /// How often a measurement is repeated at least, and at most; the middle one counts.
    pub repeats: [usize; 2],
}

impl Effort {
    /// Some seconds for all sizes on links within a machine.
    pub const FULL: Self = Self { bytes: 256 << 20, repeats: [5, 400] };
    /// Some milliseconds on links within a machine, and on others some hundred times their latency: enough to choose by.
    pub const QUICK: Self = Self { bytes: 4 << 20, repeats: [3, 9] };
}

/// The bytes of the messages that are measured to choose by.
const FEW: [usize; 3] = [64, 64 << 10, 1 << 20];

/// Measures what a group's links cost, in short, and has algorithms chosen by that. `machine` names the machine that this
/// worker is on; links between workers of one machine are taken to be alike, and so are those between two machines: of
/// several pairs that are measured, the dearest counts. All workers call it at the same place, and all get the same.
///
/// # Errors
/// When another worker is lost.
pub fn of_group(group: &mut Communicator, machine: &[u8]) -> Result<Links, Diagnostic> {
    let names = group.exchange(machine, WHAT)?;
    let first = |name: &Vec<u8>| names.iter().position(|other| other == name).unwrap_or_default();
    let homes: Vec<usize> = names.iter().map(first).collect();
    let leaders: Vec<usize> = (0..homes.len()).filter(|worker| homes[*worker] == *worker).collect();
    let beside = |leader: &usize| {
        let second = (leader + 1..homes.len()).find(|other| homes[*other] == *leader)?;
        Some([*leader, second])
    };
    let inside: Vec<[usize; 2]> = leaders.iter().filter_map(beside).collect();
    let between: Vec<[usize; 2]> = leaders.chunks_exact(2).map(|two| [two[0], two[1]]).collect();
    let inside = links(group, &inside, &FEW, Effort::QUICK)?;
    let between = links(group, &between, &FEW, Effort::QUICK)?;
    let dearest = |of: fn(&Calibration) -> f64, all: &[Calibration]| all.iter().map(of).fold(0.0, f64::max);
    // On a machine that is busy otherwise, times may say that bytes cost nothing.
    let usual = Links::usual(group.transport(), group.workers()).between;
    let or = |found: f64, usual: f64| if found > 0.0 { found } else { usual };
    let link = |all: &[Calibration]| Link {
        latency_s: or(dearest(|found| found.link.latency_s, all), usual.latency_s),
        byte_s: or(dearest(|found| found.link.byte_s, all), usual.byte_s),
        gap_s: dearest(|found| found.link.gap_s, all),
    };
    // Where there is no link of one kind, the other kind's is never asked for.
    let [inside, between] = match [&inside[..], &between[..]] {
        [[], all] | [all, []] => [(link(all), all); 2],
        [inside, between] => [(link(inside), inside), (link(between), between)],
    };
    let add = |found: &Calibration| found.add_byte_s;
    let add_byte_s = dearest(add, inside.1).max(dearest(add, between.1));
    let found = Links { machines: homes, inside: inside.0, between: between.0, add_byte_s };
    group.set_costs(found.clone());
    Ok(found)
}

/// Messages in a stream.
const STREAM: [usize; 2] = [4, 100];
/// Repeats before those that count.
const WARM: usize = 2;

/// The middle times of messages of a size between two workers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// How long the messages are.
    pub bytes: usize,
    /// Half of the time there and back.
    pub one_way_s: f64,
    /// The same where the bytes that come are added, as numbers of f32.
    pub added_s: f64,
    /// From the first of [`Sample::messages`] one after the other, to the answer after the last one.
    pub stream_s: f64,
    /// How many messages the stream has.
    pub messages: usize,
}

/// What the link between two workers costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Which workers.
    pub workers: [usize; 2],
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What it costs, in the sense of [`super::cost`].
    pub link: Link,
    /// What adding costs, for each byte.
    pub add_byte_s: f64,
}

/// Measures the link between each two workers, one pair after the other. All workers call it at the same place, and all get
/// the same.
///
/// # Errors
/// When another worker is lost.
pub fn calibrate(
    group: &mut Communicator,
    sizes: &[usize],
    effort: Effort,
) -> Result<Vec<Calibration>, Diagnostic> {
    let workers = group.workers();
    let pairs = (0..workers).flat_map(|one| (one + 1..workers).map(move |other| [one, other]));
    let each = pairs.map(|pair| links(group, &[pair], sizes, effort));
    Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Measures the links between these pairs of workers, all at the same time; each worker is in one of them at most. All
/// workers call it at the same place, and all get the same.
///
/// # Errors
/// When another worker is lost.
pub fn links(
    group: &mut Communicator,
    pairs: &[[usize; 2]],
    sizes: &[usize],
    effort: Effort,
) -> Result<Vec<Calibration>, Diagnostic> {
    let mut own = Vec::new();
    if let Some(pair) = pairs.iter().find(|pair| pair.contains(&group.worker())) {
        for bytes in sizes {
            own.push(Ends::new(group, *pair, *bytes).measure(group, effort)?);
        }
    }
    let told: Vec<u8> = own.iter().flat_map(to_words).flat_map(u64::to_le_bytes).collect();
    let told = group.exchange(&told, WHAT)?;
    let of_pair = |pair: &[usize; 2]| {
        let words = told[pair[0]].as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        of_samples(*pair, words.collect::<Vec<u64>>().as_chunks().0.iter().map(of_words).collect())
    };
    Ok(pairs.iter().map(of_pair).collect())
}

const WHAT: &str = "the calibration of links";

/// The costs with which these times agree best, each weighed by itself: their relative errors are as small as can be.
fn of_samples(workers: [usize; 2], samples: Vec<Sample>) -> Calibration {
    let mut rows = Vec::with_capacity(3 * samples.len());
    for sample in &samples {
        let (bytes, messages) = (sample.bytes as f64, sample.messages as f64);
        // The unknown ones are α, β, the gap and γ.
        let answer = ANSWER as f64;
        rows.push(([1.0, bytes, 0.0, 0.0], sample.one_way_s));
        rows.push(([1.0, bytes, 0.0, bytes], sample.added_s));
        rows.push(([2.0, messages * bytes + answer, messages - 1.0, 0.0], sample.stream_s));
    }
    let [latency_s, byte_s, gap_s, add_byte_s] = least_squares(&rows);
    let link = Link { latency_s, byte_s, gap_s: gap_s.min(latency_s) };
    Calibration { workers, samples, link, add_byte_s }
}

/// The bytes of an answer to a stream.
const ANSWER: usize = 8;

/// Two workers' machines for messages of a size, and what they send.
struct Ends {
    bytes: usize,
    there: Machine,
    back: Machine,
    add_there: Machine,
    add_back: Machine,
    answer: Machine,
    vector: Vec<f32>,
}

impl Ends {
    fn new(group: &Communicator, [one, other]: [usize; 2], bytes: usize) -> Self {
        let machine = |from, to, bytes, add| {
            let mut schedule = pair::send(from, to, group.workers(), 0..bytes);
            schedule.rounds.iter_mut().flat_map(|round| &mut round.transfers).for_each(|t| t.add = add);
            group.machine(&schedule)
        };
        Self {
            bytes,
            there: machine(one, other, bytes, false),
            back: machine(other, one, bytes, false),
            add_there: machine(one, other, bytes, true),
            add_back: machine(other, one, bytes, true),
            answer: machine(other, one, ANSWER, false),
            // Zeros stay zeros, however often they are added.
            vector: vec![0.0; bytes.max(ANSWER).div_ceil(4)],
        }
    }

    fn measure(&mut self, group: &mut Communicator, effort: Effort) -> Result<Sample, Diagnostic> {
        let [least, most] = effort.repeats;
        let repeats = |messages: usize| (effort.bytes / messages / self.bytes.max(1)).clamp(least, most);
        let messages = (effort.bytes / 4 / self.bytes.max(1)).clamp(STREAM[0], STREAM[1]);
        let (single, streams) = (repeats(2), repeats(messages));
        let vector: &mut [u8] = bytemuck::cast_slice_mut(&mut self.vector);
        let vectors = &mut [vector];
        let mut run = |machine: &mut Machine| group.run(machine, WHAT, vectors);
        let one_way_s = middle(single, || run(&mut self.there).and_then(|()| run(&mut self.back)))? / 2.0;
        let added_s =
            middle(single, || run(&mut self.add_there).and_then(|()| run(&mut self.add_back)))? / 2.0;
        let stream_s = middle(streams, || {
            (0..messages).try_for_each(|_| run(&mut self.there))?;
            run(&mut self.answer)
        })?;
        Ok(Sample { bytes: self.bytes, one_way_s, added_s, stream_s, messages })
    }
}

/// The middle one of the times that some work takes, after it has been done a few times.
fn middle(repeats: usize, mut work: impl FnMut() -> Result<(), Diagnostic>) -> Result<f64, Diagnostic> {
    (0..WARM).try_for_each(|_| work())?;
    let mut seconds = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[repeats / 2])
}

/// Numbers by which a sample is told.
const TOLD: usize = 5;

fn to_words(sample: &Sample) -> [u64; TOLD] {
    let Sample { bytes, one_way_s, added_s, stream_s, messages } = *sample;
    [bytes as u64, one_way_s.to_bits(), added_s.to_bits(), stream_s.to_bits(), messages as u64]
}

fn of_words(told: &[u64; TOLD]) -> Sample {
    let [bytes, one_way, added, stream, messages] = *told;
    let [one_way_s, added_s, stream_s] = [one_way, added, stream].map(f64::from_bits);
    Sample { bytes: bytes as usize, one_way_s, added_s, stream_s, messages: messages as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_found_again_in_the_times_that_they_make() {
        let (link, add) = (Link { latency_s: 2e-5, byte_s: 3e-10, gap_s: 4e-6 }, 7e-11);
        let sample = |bytes: usize| {
            let (m, messages) = (bytes as f64, 50);
            let one_way_s = link.latency_s + m * link.byte_s;
            let stream_s =
                2.0 * link.latency_s + 49.0 * link.gap_s + (50.0 * m + ANSWER as f64) * link.byte_s;
            Sample { bytes, one_way_s, added_s: one_way_s + m * add, stream_s, messages }
        };
        let found = of_samples([0, 1], SIZES.map(sample).to_vec());
        let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
        assert!(
            close(found.link.latency_s, link.latency_s) && close(found.link.byte_s, link.byte_s),
            "{found:?}"
        );
        assert!(close(found.link.gap_s, link.gap_s) && close(found.add_byte_s, add), "{found:?}");
        assert_eq!(of_words(&to_words(&sample(4096))), sample(4096));
    }
}
