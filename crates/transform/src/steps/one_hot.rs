//! A 0/1 feature for every value of a column.

use super::date::Order;
use super::selector::is_scalar;
use super::{Fit, Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{ColumnKind, Columns, Record, Role, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Makes a 0/1 feature of every value that a column takes in the training split. A missing value, and one that the
/// training split did not have, sets none of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneHot {
    /// The columns, of text or numbers.
    columns: Selector,
    /// Whether a column of just two values becomes one number, −1 for the first of them in rising order and 1 for the
    /// second, and 0 for a missing or unknown value.
    #[serde(default)]
    signed_pairs: bool,
}

/// The values of each of `columns`, in rising order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneHotFitted {
    columns: Vec<usize>,
    levels: Vec<Vec<String>>,
    /// Whether columns of two values are one number.
    #[serde(default, skip_serializing_if = "is_false")]
    signed_pairs: bool,
    /// Columns in which nearly every record has a value of its own: names, numbers of orders, dates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
    /// Columns of dates among those of a group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dates: Vec<Dates>,
}

/// A column of dates, which says little as so many 0/1 features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dates {
    column: usize,
    values: u64,
    order: Order,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A column that says nothing that holds for other records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    column: usize,
    /// How many different values it has, in how many records.
    values: u64,
    records: u64,
    /// In which order year, month and day stand, if they are dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
}

/// Of so many records or more, a column of a group is left out when more than half of them have a value of their own.
const RECORDS_MIN: u64 = 20;

impl Step for OneHot {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "one_hot", "text or numbers", is_scalar)?;
        let levels = vec![Vec::new(); selected.len()];
        let signed_pairs = self.signed_pairs;
        let (left_out, dates) = (Vec::new(), Vec::new());
        let step = OneHotFitted { levels, columns: selected.clone(), signed_pairs, left_out, dates };
        let counts = vec![0; selected.len()];
        let chosen = !self.columns.is_group(columns);
        Ok(Plan {
            reads: selected.clone(),
            writes: selected.clone(),
            after: step.columns(columns.clone()),
            fitting: Fitting::Learns(Box::new(OneHotFit {
                chosen,
                signed_pairs,
                counts,
                levels: Levels::new(columns, selected),
            })),
        })
    }
}

/// Collects the different values of some columns.
pub(super) struct Levels {
    pub columns: Vec<usize>,
    names: Vec<String>,
    levels: Vec<BTreeSet<String>>,
}

/// More values than this in one column are taken for a mistake (an identifier, free text).
const LEVELS_MAX: usize = 1 << 20;

impl Levels {
    pub fn new(table: &Columns, columns: Vec<usize>) -> Self {
        let names = columns.iter().map(|i| table.0[*i].name.clone()).collect();
        Self { levels: vec![BTreeSet::new(); columns.len()], columns, names }
    }

    pub fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        for ((column, levels), name) in self.columns.iter().zip(&mut self.levels).zip(&self.names) {
            if let Some(level) = level(&record.values[*column])
                && !levels.contains(level.as_ref())
            {
                levels.insert(level.into_owned());
                if levels.len() > LEVELS_MAX {
                    return Err(Diagnostic::new(
                        "data.too-many-categories",
                        format!("column `{name}` takes more than {LEVELS_MAX} different values"),
                    )
                    .hint("use `hash`, which has a fixed number of categories, or leave the column out"));
                }
            }
        }
        Ok(())
    }

    pub fn finish(self) -> (Vec<usize>, Vec<Vec<String>>) {
        (self.columns, self.levels.into_iter().map(|l| l.into_iter().collect()).collect())
    }
}

/// The name of a value as a category.
pub(super) fn level(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::Text(text) => Some(text.into()),
        Value::Number(n) => Some(n.to_string().into()),
        _ => None,
    }
}

/// The number of a value among the levels of its column.
pub(super) fn find(value: &Value, levels: &[String]) -> Option<u32> {
    let level = level(value)?;
    levels.binary_search_by(|l| l.as_str().cmp(level.as_ref())).ok().map(|i| i as u32)
}

struct OneHotFit {
    levels: Levels,
    /// Records with a value in each of the columns.
    counts: Vec<u64>,
    /// Whether the columns were chosen by their names.
    chosen: bool,
    signed_pairs: bool,
}

impl Fit for OneHotFit {
    fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        for (column, count) in self.levels.columns.iter().zip(&mut self.counts) {
            *count += u64::from(!record.values[*column].is_missing());
        }
        self.levels.see(record)
    }

    fn finish(self: Box<Self>) -> Result<FittedStep, Diagnostic> {
        let (all, levels) = self.levels.finish();
        let mut step = OneHotFitted {
            columns: Vec::new(),
            levels: Vec::new(),
            signed_pairs: self.signed_pairs,
            left_out: Vec::new(),
            dates: Vec::new(),
        };
        for ((column, levels), records) in all.into_iter().zip(levels).zip(self.counts) {
            let values = levels.len() as u64;
            let order = if self.chosen { None } else { Order::of(&levels) };
            if self.chosen || records < RECORDS_MIN || values * 2 <= records {
                step.dates.extend(order.map(|order| Dates { column, values, order }));
                step.columns.push(column);
                step.levels.push(levels);
            } else {
                step.left_out.push(LeftOut { column, values, records, order });
            }
        }
        Ok(FittedStep::OneHot(step))
    }
}

impl OneHotFitted {
    /// Whether a column of these values becomes one number.
    fn is_pair(&self, levels: &[String]) -> bool {
        self.signed_pairs && levels.len() == 2
    }
}

impl Fitted for OneHotFitted {
    fn columns(&self, mut before: Columns) -> Columns {
        for (column, levels) in self.columns.iter().zip(&self.levels) {
            before.0[*column].kind = if self.is_pair(levels) {
                ColumnKind::Number
            } else {
                ColumnKind::Category { size: levels.len(), indicators: true, levels: levels.clone() }
            };
        }
        self.left_out.iter().for_each(|out| before.0[out.column].role = Role::Excluded);
        before
    }

    fn left_out(&self) -> Vec<usize> {
        self.left_out.iter().map(|out| out.column).collect()
    }

    fn notes(&self, before: &Columns) -> Vec<String> {
        let name = |column: usize| before.0.get(column).map_or("?", |column| &column.name);
        let out = self.left_out.iter().map(|out| {
            let (name, LeftOut { values, records, .. }) = (name(out.column), out);
            let use_it = match out.order {
                Some(order) => {
                    format!("{} in `clean`, before `one_hot`, makes numbers of it", order.line(name))
                }
                None => "name it in a step of its own".to_owned(),
            };
            format!(
                "column `{name}` is left out: it has {values} different texts in {records} training records; \
                 {use_it} if it is of use"
            )
        });
        let dates = self.dates.iter().map(|Dates { column, values, order }| {
            let name = name(*column);
            format!(
                "column `{name}` holds dates, and each of {values} becomes a feature of its own; {} in `clean`, before \
                 `one_hot`, makes year, month, day and weekday of them",
                order.line(name)
            )
        });
        out.chain(dates).collect()
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for (column, levels) in self.columns.iter().zip(&self.levels) {
            let value = &mut record.values[*column];
            let found = find(value, levels);
            *value = if self.is_pair(levels) {
                Value::Number(found.map_or(0.0, |i| if i == 0 { -1.0 } else { 1.0 }))
            } else {
                found.map_or(Value::Missing, Value::Category)
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;

    #[test]
    fn pairs_are_signs_where_that_is_asked_for() {
        let step: OneHot = serde_json::from_str(r#"{"columns": "text", "signed_pairs": true}"#).unwrap();
        let columns =
            Columns(["a", "b"].map(|name| Column::new(name, ColumnKind::Text)).into_iter().collect());
        let Fitting::Learns(mut fit) = step.plan(&columns).unwrap().fitting else { panic!("it learns") };
        let record = |a: &str, b: &str| Record::new(vec![Value::Text(a.into()), Value::Text(b.into())]);
        for (a, b) in [("yes", "red"), ("no", "blue"), ("no", "green")] {
            fit.see(&record(a, b)).unwrap();
        }
        let step = fit.finish().unwrap();
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(serde_json::from_str::<FittedStep>(&text).unwrap(), step);
        let kinds = step.columns(columns);
        assert_eq!(kinds.0[0].kind, ColumnKind::Number);
        assert!(matches!(kinds.0[1].kind, ColumnKind::Category { size: 3, indicators: true, .. }));
        let apply = |a: Value, b: &str| {
            let mut record = Record::new(vec![a, Value::Text(b.into())]);
            step.apply(&mut record, &mut Run::default()).unwrap();
            record.values
        };
        assert_eq!(apply(Value::Text("no".into()), "red"), [Value::Number(-1.0), Value::Category(2)]);
        assert_eq!(apply(Value::Text("yes".into()), "?"), [Value::Number(1.0), Value::Missing]);
        assert_eq!(apply(Value::Missing, "blue")[0], Value::Number(0.0));
    }
}
