//! Which columns of a CSV file hold numbers, told by its first records; and those that nearly do, where a cell or two would
//! turn a quantity into as many categories as it has values.

use super::CsvFormat;
use crate::spec::ColumnType;
use outgrow_ir::Diagnostic;
use outgrow_transform::{ColumnKind, Value};
use std::collections::BTreeSet;

/// Fewer numbers than this say nothing about the other cells.
const NUMBERS_MIN: u64 = 10;
/// A column whose odd cells are at most this part of its numbers is nearly numeric.
const ODD_PART_MAX: f64 = 0.1;
/// Odd cells that are all the same text stand for a missing value, even where they are as many as the numbers.
const SAME_PART_MAX: f64 = 1.0;
/// How many odd cells are shown.
const SHOWN: usize = 3;

/// What a column has shown so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    numbers: u64,
    /// Cells that are no numbers.
    odd: u64,
    /// Different ones among them, and the first with their lines; one more than is shown at most.
    texts: BTreeSet<String>,
    first: Vec<(usize, String)>,
}

impl Seen {
    /// Takes a cell into account.
    pub fn see(&mut self, field: &str, line: usize, format: &CsvFormat) {
        match format.raw.parse(field, &ColumnKind::Number) {
            Ok(Value::Missing) => {}
            Ok(_) => self.numbers += 1,
            Err(_) => {
                self.odd += 1;
                if self.texts.len() <= SHOWN {
                    self.texts.insert(field.trim().to_owned());
                }
                if self.first.len() < SHOWN {
                    self.first.push((line, field.trim().to_owned()));
                }
            }
        }
    }

    /// What the column holds, unless that was declared.
    pub fn kind(&self, declared: Option<&ColumnType>) -> ColumnKind {
        match declared {
            Some(ColumnType::Number) => ColumnKind::Number,
            Some(ColumnType::Text) => ColumnKind::Text,
            None if self.numbers > 0 && self.odd == 0 => ColumnKind::Number,
            None => ColumnKind::Text,
        }
    }

    /// The diagnostic for a column of numbers with a few cells that are none.
    ///
    /// # Errors
    /// When it is one, with the line of the first odd cell.
    pub fn check(&self, name: &str) -> Result<(), (usize, Diagnostic)> {
        let part = self.odd as f64 / self.numbers.max(1) as f64;
        let most = if self.texts.len() == 1 { SAME_PART_MAX } else { ODD_PART_MAX };
        if self.odd == 0 || self.numbers < NUMBERS_MIN || part > most {
            return Ok(());
        }
        let line = self.first.first().map_or(1, |(line, _)| *line);
        let cells: Vec<String> =
            self.first.iter().map(|(line, text)| format!("{text:?} in line {line}")).collect();
        let more = if self.odd > self.first.len() as u64 { ", …" } else { "" };
        let problem = format!(
            "column `{name}` holds numbers but for {} of the first {} cells: {}{more}",
            self.odd,
            self.numbers + self.odd,
            cells.join(", ")
        );
        let markers: Vec<String> = self.texts.iter().take(SHOWN).map(|text| format!("{text:?}")).collect();
        let header = if line == 1 { "say `header = true` if line 1 names the columns; " } else { "" };
        let found = Diagnostic::new("data.csv.nearly-numbers", problem)
            .item(format!("column `{name}`"))
            .expected("a column of numbers, or one that is declared to be text")
            .hint(format!(
                "{header}mend the cells; or say `missing = [{}]` if they stand for missing values; or `types = {{ {name:?} = \
                 \"text\" }}` if all of the column are names",
                markers.join(", ")
            ));
        Err((line, found))
    }
}
