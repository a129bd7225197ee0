//! What a worker does in the course of a step: when it moves bytes, when it waits for others. In all other time it
//! computes.

use std::time::Instant;

/// Spans that are kept of one step; what comes later is left out.
const MOST: usize = 4096;

/// Something other than computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Moving bytes to or from others, and adding what came.
    Communicating,
    /// Nothing, since nothing has come.
    Waiting,
}

/// A stretch of time, in nanoseconds since the beginning of the step. Waiting lies within communicating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub doing: Doing,
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub to: u64,
}

/// The course of one step on one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The number of the step, from 1 on.
    pub step: u64,
    /// How long it took.
    pub nanoseconds: u64,
    /// What was done besides computing, in the order of its end.
    pub spans: Vec<Span>,
}

impl Timeline {
    /// As bytes, to be sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let span = |span: &Span| [u64::from(span.doing == Doing::Waiting), span.from, span.to];
        let words = [self.step, self.nanoseconds].into_iter().chain(self.spans.iter().flat_map(span));
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// From bytes that another worker has sent; nothing if they are none of a timeline.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let (step, nanoseconds) = (words.next()?, words.next()?);
        let words: Vec<u64> = words.collect();
        let (spans, left) = words.as_chunks::<3>();
        let span = |&[doing, from, to]: &[u64; 3]| {
            let doing = if doing == 0 { Doing::Communicating } else { Doing::Waiting };
            (from <= to && to <= nanoseconds).then_some(Span { doing, from, to })
        };
        let spans: Vec<Span> = spans.iter().map(span).collect::<Option<_>>()?;
        (rest.is_empty() && left.is_empty() && spans.len() <= MOST).then_some(Self {
            step,
            nanoseconds,
            spans,
        })
    }
}

/// Takes down what a worker does. Its memory is asked for once.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    since: Option<Instant>,
    timeline: Timeline,
}

impl Recorder {
    /// Begins anew, at step `step`.
    pub fn start(&mut self, step: u64) {
        self.timeline.spans.reserve(MOST);
        self.timeline.spans.clear();
        self.timeline.step = step;
        self.since = Some(Instant::now());
    }

    /// Takes down what was done from `from` until now.
    pub fn add(&mut self, doing: Doing, from: Instant) {
        let Some(since) = self.since.filter(|_| self.timeline.spans.len() < MOST) else { return };
        let at = |moment: Instant| moment.saturating_duration_since(since).as_nanos() as u64;
        self.timeline.spans.push(Span { doing, from: at(from), to: at(Instant::now()) });
    }

    /// Ends the step.
    pub fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.timeline.nanoseconds = since.elapsed().as_nanos() as u64;
        }
    }

    /// The last step that was taken down.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timelines_are_sent_whole_or_refused() {
        let mut recorder = Recorder::default();
        recorder.add(Doing::Waiting, Instant::now());
        assert_eq!(recorder.timeline(), &Timeline::default(), "nothing is taken down before the start");
        recorder.start(7);
        recorder.add(Doing::Waiting, Instant::now());
        recorder.add(Doing::Communicating, Instant::now());
        recorder.stop();
        recorder.add(Doing::Waiting, Instant::now());
        let timeline = recorder.timeline();
        assert_eq!((timeline.step, timeline.spans.len()), (7, 2));
        let bytes = timeline.to_bytes();
        assert_eq!(Timeline::from_bytes(&bytes).as_ref(), Some(timeline));
        for length in (0..bytes.len()).filter(|length| ![16, 40].contains(length)) {
            assert_eq!(Timeline::from_bytes(&bytes[..length]), None, "{length} bytes");
        }
        let late = Timeline { nanoseconds: 1, ..timeline.clone() };
        assert_eq!(Timeline::from_bytes(&late.to_bytes()), None, "it ends after the step");
    }
}
