//! Diagnostics: what every rejection of outside input consists of. A diagnostic says where, what is wrong, what was
//! expected and how to mend it; library code never panics on outside input.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong with something that came from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable, dotted, lower-case code such as `data.csv.ragged-row`.
    pub code: &'static str,
    /// Where it is.
    pub place: Place,
    /// What is wrong, in one line.
    pub problem: String,
    /// What was expected instead.
    pub expected: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Where a diagnostic points: any part may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Option<PathBuf>,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The column in characters, counted from 1.
    pub column: Option<usize>,
    /// The item: a key, field, row, column, node or tensor, as `row 17` or `train.batch`.
    pub item: Option<String>,
}

/// What is wrong, and where. It becomes a [`Diagnostic`] with [`Problem::expected`] or [`Problem::hint`]: nobody is told
/// that something is wrong without a word on what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a problem becomes a diagnostic once it says what was expected or how to mend it"]
pub struct Problem(Diagnostic);

impl Problem {
    /// Says in which file.
    pub fn file(self, file: impl Into<PathBuf>) -> Self {
        Self(self.0.file(file))
    }

    /// Says in which line, counted from 1.
    pub fn line(self, line: usize) -> Self {
        Self(self.0.line(line))
    }

    /// Says in which column, counted from 1.
    pub fn column(self, column: usize) -> Self {
        Self(self.0.column(column))
    }

    /// Says which item.
    pub fn item(self, item: impl Into<String>) -> Self {
        Self(self.0.item(item))
    }

    /// Says what was expected.
    pub fn expected(self, expected: impl Into<String>) -> Diagnostic {
        self.0.expected(expected)
    }

    /// Says how to mend it.
    pub fn hint(self, hint: impl Into<String>) -> Diagnostic {
        self.0.hint(hint)
    }
}

impl Diagnostic {
    /// A diagnostic to be, with a code and a problem.
    // What is made is a diagnostic, once it is complete.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(code: &'static str, problem: impl Into<String>) -> Problem {
        Problem(Self { code, place: Place::default(), problem: problem.into(), expected: None, hint: None })
    }

    /// A mistake of the program itself, which no input should bring about.
    pub fn fault(code: &'static str, problem: impl Into<String>) -> Self {
        Self::new(code, problem)
            .hint("this is a mistake of the program: please report it, with the command and its input")
    }

    /// Says in which file.
    #[must_use]
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.place.file = Some(file.into());
        self
    }

    /// Says in which line, counted from 1.
    #[must_use]
    pub fn line(mut self, line: usize) -> Self {
        self.place.line = Some(line);
        self
    }

    /// Says in which column, counted from 1.
    #[must_use]
    pub fn column(mut self, column: usize) -> Self {
        self.place.column = Some(column);
        self
    }

    /// Says which item.
    #[must_use]
    pub fn item(mut self, item: impl Into<String>) -> Self {
        self.place.item = Some(item.into());
        self
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(file) = &self.file {
            let mut part = file.display().to_string();
            for number in [self.line, self.column].into_iter().flatten() {
                part.push_str(&format!(":{number}"));
            }
            parts.push(part);
        } else if let Some(line) = self.line {
            parts.push(match self.column {
                Some(column) => format!("line {line}, column {column}"),
                None => format!("line {line}"),
            });
        }
        parts.extend(self.item.clone());
        f.write_str(&parts.join(": "))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.to_string();
        if !place.is_empty() {
            write!(f, "{place}: ")?;
        }
        write!(f, "{} [{}]", self.problem, self.code)?;
        if let Some(expected) = &self.expected {
            write!(f, "\n  expected: {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  help: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// Several diagnostics, in the order they were found; never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// `Ok(value)` when nothing was found, else everything that was.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            write!(f, "{}{diagnostic}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
