//! Hashes values into a fixed number of categories ("feature hashing": Weinberger et al., ICML 2009).

use super::one_hot::level;
use super::selector::is_scalar;
use super::{Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{Column, ColumnKind, Columns, Record, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hashes columns into a fixed number of categories; nothing is learned, and values never seen before have a place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// The columns, of text or numbers.
    columns: Selector,
    /// How many categories.
    buckets: u32,
    /// Whether to hash the combination of all the columns into one new column, leaving them as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cross: bool,
    /// What the model gets: 0/1 features, or an index for embeddings.
    #[serde(default)]
    output: HashOutput,
}

/// How the model sees hashed categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashOutput {
    /// One 0/1 feature per bucket.
    #[default]
    OneHot,
    /// One index, for embeddings.
    Index,
}

/// Hashes `columns`, each in place, or all of them into the new column `cross`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HashFitted {
    columns: Vec<usize>,
    buckets: u32,
    cross: Option<String>,
    output: HashOutput,
}

/// More buckets than this are taken for a mistake.
const BUCKETS_MAX: u32 = 1 << 24;
/// More 0/1 features than this would make every record needlessly large.
const INDICATORS_MAX: u32 = 1 << 14;

impl Step for Hash {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "hash", "text or numbers", is_scalar)?;
        let limit = if self.output == HashOutput::OneHot { INDICATORS_MAX } else { BUCKETS_MAX };
        if self.buckets == 0 || self.buckets > limit {
            return Err(Diagnostic::new(
                "data.hash.buckets",
                format!("`hash` cannot use {} buckets", self.buckets),
            )
            .expected(format!("1 to {limit} with this `output`")));
        }
        let cross = self
            .cross
            .then(|| selected.iter().map(|i| columns.0[*i].name.as_str()).collect::<Vec<_>>().join(" x "));
        if let Some(name) = &cross {
            if selected.len() < 2 {
                return Err(Diagnostic::new("data.hash.cross", "`cross` needs at least two columns")
                    .hint("name more columns, or leave `cross` out"));
            }
            if columns.position(name).is_some() {
                return Err(Diagnostic::new("data.hash.cross", format!("column `{name}` is already there"))
                    .hint("these columns are crossed twice: remove one of the steps"));
            }
        }
        let writes = if cross.is_some() { vec![columns.0.len()] } else { selected.clone() };
        let step =
            HashFitted { columns: selected.clone(), buckets: self.buckets, cross, output: self.output };
        Ok(Plan {
            reads: selected,
            writes,
            after: step.columns(columns.clone()),
            fitting: Fitting::Ready(FittedStep::Hash(step)),
        })
    }
}

/// FNV-1a over the bytes of the parts, each closed by a byte that UTF-8 never contains, finished by the mixer of
/// MurmurHash3 so that the low bits are well spread.
fn hash<'a>(parts: impl Iterator<Item = &'a Value>) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        let text = level(part).unwrap_or_default();
        let kind = u8::from(part.is_missing());
        for byte in text.bytes().chain([0xff, kind]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^= state >> 33;
    state = state.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ state >> 33
}

impl Fitted for HashFitted {
    fn columns(&self, mut before: Columns) -> Columns {
        let kind = ColumnKind::Category {
            size: self.buckets as usize,
            indicators: self.output == HashOutput::OneHot,
            levels: Vec::new(),
        };
        match &self.cross {
            Some(name) => before.0.push(Column::new(name, kind)),
            None => self.columns.iter().for_each(|i| before.0[*i].kind = kind.clone()),
        }
        before
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        let bucket = |hash: u64| Value::Category((hash % u64::from(self.buckets)) as u32);
        if self.cross.is_some() {
            let crossed = hash(self.columns.iter().map(|i| &record.values[*i]));
            record.values.push(bucket(crossed));
        } else {
            for i in &self.columns {
                let value = &mut record.values[*i];
                *value = bucket(hash(std::iter::once(&*value)));
            }
        }
        Ok(None)
    }
}
