//! The filter expressions of the manifest: parsed and checked against a table's columns, then evaluated on records.
//!
//! ```text
//! or      := and ("or" and)*
//! and     := not ("and" not)*
//! not     := "not" not | compare
//! compare := sum (("=" | "==" | "!=" | "<" | "<=" | ">" | ">=") sum | "is" "not"? "missing"
//!                 | "not"? "in" "(" sum ("," sum)* ")")?
//! sum     := product (("+" | "-") product)*
//! product := unary (("*" | "/") unary)*
//! unary   := "-" unary | number | string | column | "(" or ")"
//! ```
//! Truth has three values, as in SQL: a comparison with something missing is unknown.

mod lexer;
mod parser;

use crate::{Columns, Record, Value};
use outgrow_ir::Diagnostic;
use serde::{Deserialize, Serialize};

/// A parsed expression that is either true, false or unknown for a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(Node);

/// A part of an expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    Column(usize),
    Number(f64),
    Text(String),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Compare(Compare, Box<Node>, Box<Node>),
    IsMissing(Box<Node>),
    In(Box<Node>, Vec<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compare {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// A scalar that an expression computes.
#[derive(Clone, Debug, PartialEq)]
enum Scalar<'a> {
    Missing,
    Number(f64),
    Text(&'a str),
}

impl Expression {
    /// Parses an expression over these columns.
    ///
    /// # Errors
    /// A diagnostic with the column (in characters) of the mistake: a syntax error, an unknown column, or an
    /// operation between kinds that do not fit.
    pub fn parse(text: &str, columns: &Columns) -> Result<Self, Diagnostic> {
        parser::parse(text, columns).map(Self)
    }

    /// Whether the expression is true for the record; unknown is not true.
    pub fn is_true(&self, record: &Record) -> bool {
        self.0.truth(record) == Some(true)
    }

    /// Numbers of the columns it reads, each once, in rising order.
    pub fn columns(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.0.collect_columns(&mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Node {
    fn collect_columns(&self, found: &mut Vec<usize>) {
        match self {
            Self::Column(i) => found.push(*i),
            Self::Number(_) | Self::Text(_) => {}
            Self::IsMissing(a) | Self::Not(a) => a.collect_columns(found),
            Self::Arithmetic(_, a, b) | Self::Compare(_, a, b) => {
                a.collect_columns(found);
                b.collect_columns(found);
            }
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().for_each(|node| node.collect_columns(found));
            }
            Self::In(a, list) => {
                a.collect_columns(found);
                list.iter().for_each(|node| node.collect_columns(found));
            }
        }
    }

    /// Levels below and including this one.
    fn depth(&self) -> usize {
        1 + match self {
            Self::Column(_) | Self::Number(_) | Self::Text(_) => 0,
            Self::IsMissing(a) | Self::Not(a) => a.depth(),
            Self::Arithmetic(_, a, b) | Self::Compare(_, a, b) => a.depth().max(b.depth()),
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::depth).max().unwrap_or(0),
            Self::In(a, list) => list.iter().map(Self::depth).fold(a.depth(), usize::max),
        }
    }

    fn scalar<'a>(&'a self, record: &'a Record) -> Scalar<'a> {
        match self {
            Self::Column(i) => match record.values.get(*i) {
                Some(Value::Number(n)) => Scalar::Number(*n),
                Some(Value::Text(t)) => Scalar::Text(t),
                _ => Scalar::Missing,
            },
            Self::Number(n) => Scalar::Number(*n),
            Self::Text(t) => Scalar::Text(t),
            Self::Arithmetic(op, a, b) => match (a.scalar(record), b.scalar(record)) {
                (Scalar::Number(a), Scalar::Number(b)) => Scalar::Number(match op {
                    Arithmetic::Add => a + b,
                    Arithmetic::Subtract => a - b,
                    Arithmetic::Multiply => a * b,
                    Arithmetic::Divide => a / b,
                }),
                _ => Scalar::Missing,
            },
            _ => Scalar::Missing,
        }
    }

    fn truth(&self, record: &Record) -> Option<bool> {
        match self {
            Self::Compare(op, a, b) => compare(*op, &a.scalar(record), &b.scalar(record)),
            Self::IsMissing(a) => Some(match &**a {
                Self::Column(i) => record.values.get(*i).is_none_or(Value::is_missing),
                other => other.scalar(record) == Scalar::Missing,
            }),
            Self::In(a, list) => {
                let value = a.scalar(record);
                any(list.iter().map(|item| compare(Compare::Equal, &value, &item.scalar(record))))
            }
            Self::And(parts) => not(any(parts.iter().map(|part| not(part.truth(record))))),
            Self::Or(parts) => any(parts.iter().map(|part| part.truth(record))),
            Self::Not(a) => not(a.truth(record)),
            Self::Column(_) | Self::Number(_) | Self::Text(_) | Self::Arithmetic(..) => None,
        }
    }
}

/// Whether any part is true: unknown when none is, but one is unknown.
fn any(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut result = Some(false);
    for part in parts {
        match part {
            Some(true) => return part,
            Some(false) => {}
            None => result = None,
        }
    }
    result
}

fn not(a: Option<bool>) -> Option<bool> {
    a.map(|a| !a)
}

fn compare(op: Compare, a: &Scalar<'_>, b: &Scalar<'_>) -> Option<bool> {
    let order = match (a, b) {
        (Scalar::Number(a), Scalar::Number(b)) => a.partial_cmp(b)?,
        (Scalar::Text(a), Scalar::Text(b)) => a.cmp(b),
        _ => return None,
    };
    Some(match op {
        Compare::Equal => order.is_eq(),
        Compare::Unequal => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::LessEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterEqual => order.is_ge(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, ColumnKind};

    fn columns() -> Columns {
        Columns(vec![
            Column::new("age", ColumnKind::Number),
            Column::new("hours-per-week", ColumnKind::Number),
            Column::new("city", ColumnKind::Text),
            Column::new("odd name", ColumnKind::Number),
        ])
    }

    /// The record every case is evaluated on: the city is "Bern" and the odd name is missing.
    fn record() -> Record {
        let text = Value::Text("Bern".into());
        Record::new(vec![Value::Number(40.0), Value::Number(38.5), text, Value::Missing])
    }

    #[test]
    fn expressions_evaluate() {
        let cases = [
            ("age > 17 and hours-per-week < 99", true),
            ("age > 17 and not (hours-per-week < 99)", false),
            ("age - hours-per-week = 1.5", true),
            ("age-1 = 39", true),
            ("-age + 2 * 20 == 0", true),
            ("2 + 3 * 4 = 14 and (2 + 3) * 4 = 20", true),
            ("8 / 4 / 2 = 1", true),
            ("city = \"Bern\"", true),
            ("city != 'Bern' or age <= 40", true),
            ("city in ('Basel', 'Bern')", true),
            ("city not in ('Basel', 'Bern')", false),
            ("age in (1, 2)", false),
            ("`odd name` is missing", true),
            ("`odd name` is not missing", false),
            ("`odd name` > 3", false),
            ("not `odd name` > 3", false),
            ("`odd name` > 3 or age >= 40", true),
            ("`odd name` > 3 or `odd name` is missing", true),
            ("age = 1 or age = 2 or age = 40", true),
            ("age = 40 or age = 40 and age = 1", true),
        ];
        for (text, expect) in cases {
            let expression = Expression::parse(text, &columns()).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(expression.is_true(&record()), expect, "{text}");
            let json = serde_json::to_string(&expression).unwrap();
            assert_eq!(serde_json::from_str::<Expression>(&json).unwrap(), expression, "{text}");
        }
        let reads = Expression::parse("age > 1 and city in ('a') or age < 0", &columns()).unwrap().columns();
        assert_eq!(reads, [0, 2]);
    }

    #[test]
    fn mistakes_are_placed() {
        let cases = [
            ("", 1, "expression ends"),
            ("age >", 6, "expression ends"),
            ("age > 17 and", 13, "expression ends"),
            ("age > 17 age", 10, "`age`"),
            ("ages > 17", 1, "no column `ages`"),
            ("age & 2", 5, "'&'"),
            ("age > \"x\"", 5, "a number cannot be compared with text"),
            ("age + city > 3", 5, "text"),
            ("age", 1, "true or false"),
            ("(age > 1", 9, "expression ends"),
            ("city = 'Bern", 8, "not closed"),
            ("age > 1e999", 7, "1e999"),
            ("age and 3", 1, "true or false"),
            ("not age", 5, "true or false"),
            ("(age > 1) + 2 = 3", 1, "number"),
            ("age is here", 8, "`here`"),
        ];
        for (text, column, problem) in cases {
            let error = Expression::parse(text, &columns()).unwrap_err();
            assert_eq!(error.place.column, Some(column), "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
        let deep = "(".repeat(1000);
        assert!(Expression::parse(&deep, &columns()).unwrap_err().problem.contains("nested"));
        let long = "not ".repeat(1000);
        assert!(Expression::parse(&long, &columns()).unwrap_err().problem.contains("nested"));
        let chain = vec!["age = 1"; 5000].join(" or ");
        assert!(Expression::parse(&chain, &columns()).unwrap_err().problem.contains("long"));
        let sum = vec!["age"; 500].join(" + ") + " > 1";
        assert!(Expression::parse(&sum, &columns()).unwrap_err().problem.contains("nested"));
        let many = vec!["age = 1"; 500].join(" or ") + " or age = 40";
        let many = Expression::parse(&many, &columns()).unwrap();
        assert!(many.is_true(&record()));
        let json = serde_json::to_string(&many).unwrap();
        assert_eq!(serde_json::from_str::<Expression>(&json).unwrap(), many);
    }
}
