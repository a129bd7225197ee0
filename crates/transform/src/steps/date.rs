//! Makes numbers of dates: year, month, day and weekday.

use super::selector::is_text;
use super::{Fitted, FittedStep, Fitting, Plan, Selector, Step};
use crate::{Column, ColumnKind, Columns, Record, Role, Run, Value};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes four columns of numbers of each column of dates, such as `sold.year`, `sold.month`, `sold.day` and
/// `sold.weekday` (0 for Monday). The model no longer sees the dates themselves. A missing date has four missing parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Date {
    /// The columns, of text such as `2024-02-29`; a time of day behind it, after a blank or a `T`, is passed over.
    columns: Selector,
    /// In which order year, month and day stand. They are separated by `-`, `/` or `.`.
    #[serde(default)]
    order: Order,
}

/// In which order the parts of a date stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `2024-02-29`
    #[default]
    YearMonthDay,
    /// `29.02.2024`
    DayMonthYear,
    /// `02/29/2024`
    MonthDayYear,
}

impl Order {
    const ALL: [Self; 3] = [Self::YearMonthDay, Self::DayMonthYear, Self::MonthDayYear];

    /// The first order in which all texts are dates; none for no texts.
    pub(super) fn of(texts: &[String]) -> Option<Self> {
        let fits = |order: &Self| texts.iter().all(|text| parse(text, *order).is_some());
        Self::ALL.into_iter().find(|order| !texts.is_empty() && fits(order))
    }

    /// The step, as a manifest has it, for a column of such dates.
    pub(super) fn line(self, column: &str) -> String {
        let text = |value: serde_json::Result<String>| value.unwrap_or_default();
        let order = match self {
            Self::YearMonthDay => String::new(),
            _ => format!(", order = {}", text(serde_json::to_string(&self))),
        };
        format!("{{ date = {{ columns = [{}]{order} }} }}", text(serde_json::to_string(column)))
    }
}

/// Makes new columns of `columns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DateFitted {
    columns: Vec<usize>,
    order: Order,
}

/// The parts of a date, in the order of the columns that are made.
const PARTS: [&str; 4] = ["year", "month", "day", "weekday"];

impl Step for Date {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        let selected = self.columns.resolve(columns, "date", "text", is_text)?;
        let step = DateFitted { columns: selected.clone(), order: self.order };
        let after = step.columns(columns.clone());
        for made in &after.0[columns.0.len()..] {
            if columns.position(&made.name).is_some() {
                let problem = format!("there is a column `{}` already", made.name);
                return Err(Diagnostic::new("data.date.column", problem)
                    .expected("no column of the name of one that `date` makes")
                    .hint("rename it with `data.columns`"));
            }
        }
        let writes = selected.iter().copied().chain(columns.0.len()..after.0.len()).collect();
        Ok(Plan { reads: selected, writes, after, fitting: Fitting::Ready(FittedStep::Date(step)) })
    }
}

impl Fitted for DateFitted {
    fn columns(&self, mut before: Columns) -> Columns {
        for i in &self.columns {
            let Column { name, role, .. } = before.0[*i].clone();
            before.0[*i].role = Role::Excluded;
            let part =
                |part: &&str| Column { role, ..Column::new(format!("{name}.{part}"), ColumnKind::Number) };
            before.0.extend(PARTS.iter().map(part));
        }
        before
    }

    fn touches(&self) -> &[usize] {
        &self.columns
    }

    fn apply(&self, record: &mut Record, _: &mut Run) -> Result<Option<String>, Diagnostic> {
        for i in &self.columns {
            let parts = match &record.values[*i] {
                Value::Text(text) => {
                    let parts = parse(text, self.order).ok_or_else(|| wrong(text, self.order))?;
                    parts.map(|part| Value::Number(f64::from(part)))
                }
                _ => PARTS.map(|_| Value::Missing),
            };
            record.values.extend(parts);
        }
        Ok(None)
    }
}

fn wrong(text: &str, order: Order) -> Diagnostic {
    let example = match order {
        Order::YearMonthDay => "2024-02-29",
        Order::DayMonthYear => "29.02.2024",
        Order::MonthDayYear => "02/29/2024",
    };
    let shown = crate::record::shorten(text, 60);
    Diagnostic::new("data.date", format!("{shown:?} is not a date"))
        .expected(format!("a date such as {example}, by `order`"))
        .hint(
            "set `order` to \"year_month_day\", \"day_month_year\" or \"month_day_year\", or name the text in \
             `data.missing` if it stands for a missing value",
        )
}

/// Year, month, day and weekday of a date in the proleptic Gregorian calendar.
fn parse(text: &str, order: Order) -> Option<[i32; 4]> {
    let date = text.split(['T', ' ']).next().unwrap_or_default();
    let separator = date.chars().find(|c| ['-', '/', '.'].contains(c))?;
    let mut numbers = date.split(separator).map(|part| {
        let digits = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i32>().ok().filter(|_| digits)
    });
    let [a, b, c] = [numbers.next()??, numbers.next()??, numbers.next()??];
    if numbers.next().is_some() {
        return None;
    }
    let (year, month, day) = match order {
        Order::YearMonthDay => (a, b, c),
        Order::DayMonthYear => (c, b, a),
        Order::MonthDayYear => (c, a, b),
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (1..=days).contains(&day).then(|| [year, month, day, weekday(year, month, day)])
}

/// 0 for Monday (T. Sakamoto's method, which counts from Sunday, turned by a day).
fn weekday(year: i32, month: i32, day: i32) -> i32 {
    const OFFSETS: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let year = if month < 3 { year - 1 } else { year };
    let from_sunday = year + year / 4 - year / 100 + year / 400 + OFFSETS[month as usize - 1] + day;
    (from_sunday + 6).rem_euclid(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_dates_is_that_in_which_all_are_dates() {
        let of = |texts: &[&str]| Order::of(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["2024-02-29", "2023-01-01"]), Some(Order::YearMonthDay));
        assert_eq!(of(&["01.02.2024", "29.02.2024"]), Some(Order::DayMonthYear));
        assert_eq!(of(&["01/02/2024", "02/29/2024"]), Some(Order::MonthDayYear));
        assert_eq!(of(&["29.02.2024", "02.29.2024"]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(Order::YearMonthDay.line("a \"b\""), r#"{ date = { columns = ["a \"b\""] } }"#);
        let line = Order::DayMonthYear.line("sold");
        assert_eq!(line, r#"{ date = { columns = ["sold"], order = "day_month_year" } }"#);
    }

    #[test]
    fn dates_have_parts() {
        use Order::{DayMonthYear, MonthDayYear, YearMonthDay};
        for (text, order, expected) in [
            ("2024-02-29", YearMonthDay, Some([2024, 2, 29, 3])),
            ("2012/01/01", YearMonthDay, Some([2012, 1, 1, 6])),
            ("1970-1-1 00:00:00", YearMonthDay, Some([1970, 1, 1, 3])),
            ("2000-12-31T23:59:59Z", YearMonthDay, Some([2000, 12, 31, 6])),
            ("29.02.2024", DayMonthYear, Some([2024, 2, 29, 3])),
            ("02/29/2024", MonthDayYear, Some([2024, 2, 29, 3])),
            ("2023-02-29", YearMonthDay, None),
            ("1900-02-29", YearMonthDay, None),
            ("2024-13-01", YearMonthDay, None),
            ("2024-00-01", YearMonthDay, None),
            ("2024-04-31", YearMonthDay, None),
            ("2024-04", YearMonthDay, None),
            ("2024-04-01-02", YearMonthDay, None),
            ("2024-+4-01", YearMonthDay, None),
            ("29.02.2024", YearMonthDay, None),
            ("yesterday", YearMonthDay, None),
            ("", YearMonthDay, None),
        ] {
            assert_eq!(parse(text, order), expected, "{text:?} {order:?}");
        }
    }
}
