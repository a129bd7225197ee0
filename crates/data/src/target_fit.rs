//! What is to be predicted, learned from the training split: the classes, or how numbers are spread; and which of both
//! a label of whole numbers is.

use crate::DataSpec;
use crate::problems::{empty, one_class};
use crate::source::RecordSource;
use crate::spec::Task;
use outgrow_ir::Diagnostic;
use outgrow_transform::{ColumnKind, Columns, Record, Role, TargetEncoder, TargetMoments, Transform, Value};
use std::collections::BTreeSet;

/// More classes than this are taken for a regression by mistake.
const CLASSES_MAX: usize = 1 << 16;
/// Whole numbers of so few values, each found in so many records on average, are taken for classes unless the manifest
/// says what they are.
const GUESSED_CLASSES_MAX: usize = 20;
const GUESSED_RECORDS_MIN: u64 = 5;

/// Learns the classes, or the spread of numbers.
pub(crate) enum TargetFit {
    Known(TargetEncoder),
    Texts {
        column: usize,
        seen: BTreeSet<String>,
    },
    /// Bits of numbers, ordered like the numbers.
    Numbers {
        column: usize,
        seen: BTreeSet<u64>,
    },
    /// Quantities; or classes, if it turns out that they are whole numbers of few values.
    Quantities {
        columns: Vec<usize>,
        spread: Vec<Spread>,
        /// The different values so far of the one label that may be classes.
        few: Option<BTreeSet<u64>>,
    },
}

/// Running mean and squares (Welford, "Note on a method for calculating corrected sums of squares and products", 1962).
#[derive(Clone, Copy, Default)]
pub(crate) struct Spread {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn see(&mut self, x: f64) {
        self.count += 1;
        let delta = x - self.mean;
        self.mean += delta / self.count as f64;
        self.squares += delta * (x - self.mean);
    }

    fn moments(self) -> TargetMoments {
        let deviation = libm::sqrt(self.squares / (self.count as f64).max(1.0));
        TargetMoments { mean: self.mean, deviation }
    }
}

impl TargetFit {
    pub(crate) fn new(
        spec: &DataSpec,
        source: &dyn RecordSource,
        columns: &Columns,
    ) -> Result<Self, Diagnostic> {
        let labels = columns.with_role(Role::Label);
        let kind = |i: &usize| &columns.0[*i].kind;
        let fail = |item: &str, problem: String, expected: &str| {
            Err(Diagnostic::new("data.target", problem).item(item.to_owned()).expected(expected.to_owned()))
        };
        for i in &labels {
            if !matches!(kind(i), ColumnKind::Number | ColumnKind::Text) {
                let name = &columns.0[*i].name;
                return fail(
                    "data.label",
                    format!("the label `{name}` is a column of kind {}", kind(i).name()),
                    "a column of numbers or text",
                );
            }
        }
        let all_numbers = labels.iter().all(|i| *kind(i) == ColumnKind::Number);
        let classify = match spec.task {
            Some(task) => task == Task::Classify,
            None => !all_numbers || source.labels_are_classes() || spec.classes.is_some(),
        };
        if !classify {
            if spec.classes.is_some() {
                return fail(
                    "data.classes",
                    "`classes` and `task = \"regress\"` contradict each other".into(),
                    "one of them",
                );
            }
            if !all_numbers {
                return fail(
                    "data.task",
                    "a label of text cannot be regressed on".into(),
                    "task = \"classify\"",
                );
            }
            let few = (spec.task.is_none() && labels.len() == 1).then(BTreeSet::new);
            return Ok(Self::Quantities {
                spread: vec![Spread::default(); labels.len()],
                columns: labels,
                few,
            });
        }
        let [column] = *labels.as_slice() else {
            return fail(
                "data.label",
                "several labels cannot be classes".into(),
                "one label, or task = \"regress\"",
            );
        };
        if let Some(names) = spec.classes.clone().or_else(|| source.class_names()) {
            if names.len() < 2 || names.iter().collect::<BTreeSet<_>>().len() < names.len() {
                return fail(
                    "data.classes",
                    "the classes are not two or more different names".into(),
                    "a name for each class",
                );
            }
            return Ok(Self::Known(match all_numbers {
                true => TargetEncoder::ClassNumber { column, names },
                false => TargetEncoder::ClassName { column, names },
            }));
        }
        Ok(match all_numbers {
            true => Self::Numbers { column, seen: BTreeSet::new() },
            false => Self::Texts { column, seen: BTreeSet::new() },
        })
    }

    /// Whether it has turned out that quantities are predicted.
    pub(crate) fn is_quantity(&self) -> bool {
        matches!(self, Self::Quantities { few: None, .. })
    }

    pub(crate) fn learns(&self) -> bool {
        !matches!(self, Self::Known(_))
    }

    pub(crate) fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        let count = match self {
            Self::Known(_) => 0,
            Self::Texts { column, seen } => {
                if let Value::Text(text) = &record.values[*column]
                    && !seen.contains(text)
                {
                    seen.insert(text.clone());
                }
                seen.len()
            }
            Self::Numbers { column, seen } => {
                if let Value::Number(n) = record.values[*column] {
                    seen.insert(ordered_bits(n + 0.0));
                }
                seen.len()
            }
            Self::Quantities { columns, spread, few } => {
                for (column, spread) in columns.iter().zip(spread) {
                    let Value::Number(n) = record.values[*column] else { continue };
                    spread.see(n);
                    if let Some(seen) = few {
                        seen.insert(ordered_bits(n + 0.0));
                        if n.fract() != 0.0 || seen.len() > GUESSED_CLASSES_MAX {
                            *few = None;
                        }
                    }
                }
                0
            }
        };
        if count > CLASSES_MAX {
            return Err(Diagnostic::new(
                "data.classes",
                format!("the label takes more than {CLASSES_MAX} values"),
            )
            .item("data.label")
            .hint("set task = \"regress\" if the label is a quantity"));
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<TargetEncoder, Diagnostic> {
        let encoder = match self {
            Self::Known(encoder) => return Ok(encoder),
            Self::Texts { column, seen } => {
                TargetEncoder::ClassName { column, names: seen.into_iter().collect() }
            }
            Self::Numbers { column, seen } => classes_of_numbers(column, seen),
            Self::Quantities { columns, spread, few } => {
                let records = spread.first().map_or(0, |spread| spread.count);
                let enough =
                    |few: &BTreeSet<u64>| few.len() > 1 && few.len() as u64 * GUESSED_RECORDS_MIN <= records;
                return match (few.filter(enough), columns.as_slice()) {
                    (Some(seen), [column]) => Ok(classes_of_numbers(*column, seen)),
                    _ if records == 0 => Err(empty()),
                    _ => Ok(TargetEncoder::Numbers {
                        columns,
                        moments: spread.into_iter().map(Spread::moments).collect(),
                    }),
                };
            }
        };
        let names = match &encoder {
            TargetEncoder::ClassName { names, .. } | TargetEncoder::ClassNumber { names, .. } => {
                names.as_slice()
            }
            _ => &[],
        };
        match names {
            [] => Err(empty()),
            [only] => Err(one_class(only)),
            _ => Ok(encoder),
        }
    }
}

/// What was guessed of the label, for people: that its numbers are classes.
pub(crate) fn notes(spec: &DataSpec, source: &dyn RecordSource, transform: &Transform) -> Vec<String> {
    let (TargetEncoder::ClassName { column, names } | TargetEncoder::ClassNumber { column, names }) =
        &transform.assembly.target
    else {
        return Vec::new();
    };
    let said = spec.task.is_some() || spec.classes.is_some() || source.labels_are_classes();
    let label = &transform.chain.columns(&transform.columns).0[*column];
    if said || label.kind != ColumnKind::Number {
        return Vec::new();
    }
    let (first, last) = (names.first().map_or("", String::as_str), names.last().map_or("", String::as_str));
    vec![format!(
        "the {} whole numbers of `{}`, {first} to {last}, are taken for classes; if they are quantities, say \
         `task = \"regress\"` in `[data]`",
        names.len(),
        label.name
    )]
}

/// The classes that these numbers are.
fn classes_of_numbers(column: usize, seen: BTreeSet<u64>) -> TargetEncoder {
    let numbers: Vec<f64> = seen.into_iter().map(from_ordered_bits).collect();
    let counting = numbers.iter().enumerate().all(|(i, n)| *n == i as f64);
    let names = numbers.iter().map(ToString::to_string).collect();
    match counting {
        true => TargetEncoder::ClassNumber { column, names },
        false => TargetEncoder::ClassName { column, names },
    }
}

/// Maps finite numbers to integers in the same order.
fn ordered_bits(n: f64) -> u64 {
    let bits = n.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn from_ordered_bits(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}
