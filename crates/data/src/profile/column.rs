//! What one column holds.

use crate::Split;
use outgrow_transform::{Column, Role, Value};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// What a column holds.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnProfile {
    /// Its name.
    pub name: String,
    /// `number`, `text` or `image`.
    pub kind: String,
    /// What it is for.
    pub role: Role,
    /// What it holds in each split, in the order of [`Split::ALL`].
    pub splits: [SplitColumn; 3],
}

/// What a column holds in one split.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SplitColumn {
    /// Records.
    pub records: u64,
    /// Those whose value is missing.
    pub missing: u64,
    /// Of numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<NumberProfile>,
    /// Of texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub texts: Option<TextProfile>,
}

/// The distribution of numbers.
#[derive(Clone, Debug, Serialize)]
pub struct NumberProfile {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation (of the population).
    pub deviation: f64,
    /// The 5th, 25th, 50th, 75th and 95th percentile; of a sample where there are more than 4,096 numbers.
    pub percentiles: [f64; 5],
    /// A random sample of at most 4,096 of them, in order.
    #[serde(skip)]
    pub sample: Vec<f64>,
}

/// The distribution of texts.
#[derive(Clone, Debug, Serialize)]
pub struct TextProfile {
    /// How many different ones there are.
    pub different: u64,
    /// Whether there are more than that: texts are told apart up to a bound.
    pub more: bool,
    /// The most frequent ones and how often they occur.
    pub top: Vec<(String, u64)>,
    /// Characters of a text, on average.
    pub mean_chars: f64,
}

/// Numbers that are kept to tell the distribution by.
const SAMPLE: usize = 4096;
/// Texts that are told apart.
const TEXTS: usize = 100_000;
/// Longer texts are told apart by so many characters.
const TEXT_CHARS: usize = 200;
/// Frequent texts that are told.
const TOP: usize = 10;

/// A value for people.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Missing => "–".into(),
        Value::Number(n) => n.to_string(),
        Value::Text(text) => text.chars().take(TEXT_CHARS).collect(),
        Value::Encoded(_) | Value::Pixels(_) => "an image".into(),
        Value::Category(i) => i.to_string(),
    }
}

/// Looks at the values of a column.
pub(super) struct ColumnWatch {
    name: String,
    kind: String,
    role: Role,
    splits: [Watch; 3],
}

#[derive(Default)]
struct Watch {
    records: u64,
    missing: u64,
    /// Mean and sum of squared deviations, by Welford's recurrence.
    count: u64,
    mean: f64,
    squares: f64,
    range: Option<(f64, f64)>,
    /// Numbers of the records whose hashes are lowest.
    sample: BTreeMap<u128, f64>,
    texts: HashMap<String, u64>,
    more: bool,
    chars: u64,
}

impl ColumnWatch {
    pub fn new(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            kind: column.kind.name().into(),
            role: column.role,
            splits: Default::default(),
        }
    }

    pub fn see(&mut self, split: Split, value: &Value, identity: u128) {
        let watch = &mut self.splits[split.index()];
        watch.records += 1;
        match value {
            Value::Missing => watch.missing += 1,
            Value::Number(n) => watch.number(*n, identity),
            Value::Text(text) => watch.text(text),
            Value::Encoded(_) | Value::Pixels(_) | Value::Category(_) => {}
        }
    }

    pub fn finish(self) -> ColumnProfile {
        let Self { name, kind, role, splits } = self;
        ColumnProfile { name, kind, role, splits: splits.map(Watch::finish) }
    }
}

impl Watch {
    fn number(&mut self, n: f64, identity: u128) {
        self.count += 1;
        let delta = n - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (n - self.mean);
        let (min, max) = self.range.unwrap_or((n, n));
        self.range = Some((min.min(n), max.max(n)));
        let last = self.sample.last_key_value().map(|(identity, _)| *identity);
        if self.sample.len() < SAMPLE || last.is_some_and(|last| identity < last) {
            // Equal records have equal hashes; one of them stands for all.
            self.sample.insert(identity, n);
            if self.sample.len() > SAMPLE {
                self.sample.pop_last();
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.chars += text.chars().count() as u64;
        self.count += 1;
        let key: String = text.chars().take(TEXT_CHARS).collect();
        if let Some(count) = self.texts.get_mut(&key) {
            *count += 1;
        } else if self.texts.len() < TEXTS {
            self.texts.insert(key, 1);
        } else {
            self.more = true;
        }
    }

    fn finish(self) -> SplitColumn {
        let mut sample: Vec<f64> = self.sample.into_values().collect();
        sample.sort_by(f64::total_cmp);
        let numbers = self.range.map(|(min, max)| NumberProfile {
            min,
            max,
            mean: self.mean,
            deviation: (self.squares / self.count.max(1) as f64).sqrt(),
            percentiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(|p| percentile(&sample, p)),
            sample,
        });
        let texts = (!self.texts.is_empty()).then(|| {
            let different = self.texts.len() as u64;
            let mut top: Vec<(String, u64)> = self.texts.into_iter().collect();
            top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            top.truncate(TOP);
            let mean_chars = self.chars as f64 / self.count.max(1) as f64;
            TextProfile { different, more: self.more, top, mean_chars }
        });
        SplitColumn { records: self.records, missing: self.missing, numbers, texts }
    }
}

/// Of sorted numbers, between the two nearest ranks.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = p * (sorted.len().saturating_sub(1)) as f64;
    let (low, part) = (at.floor() as usize, at.fract());
    match (sorted.get(low), sorted.get(low + 1)) {
        (Some(a), Some(b)) => a + (b - a) * part,
        (Some(a), None) => *a,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_transform::ColumnKind;

    #[test]
    fn numbers_are_summed_up() {
        let mut watch = ColumnWatch::new(&Column::new("x", ColumnKind::Number));
        for i in 0..=100u32 {
            watch.see(Split::Train, &Value::Number(f64::from(i)), u128::from(i * 7919 % 101));
        }
        watch.see(Split::Train, &Value::Missing, 5);
        let [train, validation, _] = watch.finish().splits;
        assert_eq!((train.records, train.missing), (102, 1));
        let numbers = train.numbers.unwrap();
        assert_eq!(
            (numbers.min, numbers.max, numbers.percentiles),
            (0.0, 100.0, [5.0, 25.0, 50.0, 75.0, 95.0])
        );
        assert!((numbers.mean - 50.0).abs() < 1e-9 && (numbers.deviation - 850f64.sqrt()).abs() < 1e-9);
        assert!(validation.numbers.is_none() && validation.records == 0);
    }

    #[test]
    fn the_sample_is_a_fair_one() {
        let mut watch = Watch::default();
        for i in 0..50_000u64 {
            // A multiplicative hash, as good as any for this.
            let identity = u128::from(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 32;
            watch.number(i as f64, identity);
        }
        let numbers = watch.finish().numbers.unwrap();
        assert_eq!(numbers.sample.len(), SAMPLE);
        assert!((numbers.percentiles[2] / 25_000.0 - 1.0).abs() < 0.1, "{:?}", numbers.percentiles);
    }

    #[test]
    fn texts_are_counted_and_told_apart_up_to_a_bound() {
        let mut watch = Watch::default();
        for i in 0..TEXTS + 10 {
            watch.text(&i.to_string());
        }
        watch.text("7");
        let texts = watch.finish().texts.unwrap();
        assert_eq!((texts.different, texts.more), (TEXTS as u64, true));
        assert_eq!(texts.top[0], ("7".to_owned(), 2));
    }
}
