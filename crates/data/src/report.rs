//! What became of the records while a data set was prepared.

use crate::Split;
use outgrow_transform::RowEffects;
use serde::{Deserialize, Serialize};

/// How many records came in, how many are left, and why the others are not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanReport {
    /// One for each split, in the order of [`Split::ALL`].
    pub splits: [SplitReport; 3],
    /// Whether classes are divided among the splits each by itself, so that every split has them in the same proportions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stratified: bool,
    /// What the source does not read as one might expect, such as columns that it leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What became of one split's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Records (for text: characters) that came in.
    pub rows_in: u64,
    /// Those that are left.
    pub rows_out: u64,
    /// Raw values that were missing, by column; columns without any are left out.
    pub missing: Vec<(String, u64)>,
    /// Records left out, by reason, and values filled in, by column.
    #[serde(flatten)]
    pub effects: RowEffects,
}

impl CleanReport {
    /// The report of one split.
    pub fn split(&self, split: Split) -> &SplitReport {
        &self.splits[split.index()]
    }

    /// Records that came in, over all splits.
    pub fn rows_in(&self) -> u64 {
        self.splits.iter().map(|s| s.rows_in).sum()
    }

    /// Records that are left, over all splits.
    pub fn rows_out(&self) -> u64 {
        self.splits.iter().map(|s| s.rows_out).sum()
    }

    /// Records left out over all splits, by reason, the most frequent first.
    pub fn dropped(&self) -> Vec<(String, u64)> {
        sum(self.splits.iter().flat_map(|s| &s.effects.dropped))
    }

    /// Values filled in over all splits, by column, the most frequent first.
    pub fn filled(&self) -> Vec<(String, u64)> {
        sum(self.splits.iter().flat_map(|s| &s.effects.filled))
    }
}

fn sum<'a>(groups: impl Iterator<Item = &'a (String, u64)>) -> Vec<(String, u64)> {
    let mut totals = std::collections::BTreeMap::<&str, u64>::new();
    for (name, count) in groups {
        *totals.entry(name).or_default() += count;
    }
    let mut totals: Vec<(String, u64)> = totals.into_iter().map(|(n, c)| (n.to_owned(), c)).collect();
    totals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    totals
}
