//! A manifest as a tree of values that remember where they were written: in the file, or in a `--set` flag.

use std::ops::Range;
use std::path::PathBuf;

use outgrow_ir::Diagnostic;
use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the manifest's text, at these bytes.
    Text(Range<usize>),
    /// In the text of the manifest with this index among those that it extends, at these bytes.
    Base(usize, Range<usize>),
    /// In the `--set` flag with this index.
    Flag(usize),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written; for a table with a header, where the header is.
    pub origin: Origin,
}

/// A value of TOML, without dates: nothing in a manifest takes one.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// An array.
    Array(Vec<Node>),
    /// A table, in the order in which it was written.
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub origin: Origin,
    /// The value.
    pub node: Node,
}

/// The texts that a manifest was read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The manifest's file, if it came from one.
    pub file: Option<PathBuf>,
    /// The manifest's text.
    pub text: String,
    /// The manifests that it extends, the nearest first: their files and texts.
    pub bases: Vec<(PathBuf, String)>,
    /// The `--set` flags, as given.
    pub flags: Vec<String>,
}

impl Sources {
    /// Gives a diagnostic its place: file, line and column, or the flag; and the path of the item.
    pub fn locate(&self, diagnostic: Diagnostic, origin: &Origin, path: &str) -> Diagnostic {
        match origin {
            Origin::Flag(index) => {
                let flag = self.flags.get(*index).map_or("", String::as_str);
                diagnostic.item(if path.is_empty() {
                    format!("--set {flag}")
                } else {
                    format!("{path} (--set {flag})")
                })
            }
            Origin::Text(span) => {
                let diagnostic = at(diagnostic, &self.text, span.start, path);
                match &self.file {
                    Some(file) => diagnostic.file(file),
                    None => diagnostic,
                }
            }
            Origin::Base(index, span) => match self.bases.get(*index) {
                Some((file, text)) => at(diagnostic, text, span.start, path).file(file),
                None => diagnostic,
            },
        }
    }
}

/// Gives a diagnostic the place of a byte of a text, and the path of the item.
fn at(diagnostic: Diagnostic, text: &str, byte: usize, path: &str) -> Diagnostic {
    let (line, column) = line_and_column(text, byte);
    let diagnostic = diagnostic.line(line).column(column);
    if path.is_empty() { diagnostic } else { diagnostic.item(path) }
}

/// Line and column in characters, both from 1, of a byte of a text.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

impl Node {
    /// Reads the sources' text. What could be read is returned beside the diagnostics, so that the rest can still be
    /// checked.
    pub fn parse(sources: &Sources) -> (Self, Vec<Diagnostic>) {
        let (mut node, mut found) = Self::parse_text(sources, &sources.text, &Origin::Text);
        for (index, (_, text)) in sources.bases.iter().enumerate() {
            let (base, problems) = Self::parse_text(sources, text, &|span| Origin::Base(index, span));
            found.extend(problems);
            node.fill_from(base);
        }
        (node, found)
    }

    /// Takes from a table what this one does not say, key by key in tables within it.
    fn fill_from(&mut self, base: Self) {
        let (Value::Table(own), Value::Table(others)) = (&mut self.value, base.value) else { return };
        for other in others {
            match own.iter_mut().find(|entry| entry.key == other.key) {
                Some(entry) => entry.node.fill_from(other.node),
                None => own.push(other),
            }
        }
    }

    fn parse_text(
        sources: &Sources,
        text: &str,
        place: &dyn Fn(Range<usize>) -> Origin,
    ) -> (Self, Vec<Diagnostic>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut found: Vec<_> = errors
            .into_iter()
            .map(|error| {
                let diagnostic = Diagnostic::new("manifest.syntax", one_line(error.message()))
                    .expected("TOML: `key = value`, `[section]`");
                sources.locate(diagnostic, &place(error.span().unwrap_or(0..0)), "")
            })
            .collect();
        let mut reader = Reader { place, found: Vec::new() };
        let node = Node { value: reader.table(table.get_ref()), origin: place(0..0) };
        found.extend(
            reader.found.into_iter().map(|(origin, diagnostic)| sources.locate(diagnostic, &origin, "")),
        );
        (node, found)
    }

    /// Reads one value, as in a `--set` flag: TOML, or the text itself where it is a bare word.
    pub fn parse_flag_value(text: &str, flag: usize) -> Result<Self, Diagnostic> {
        let place = |_| Origin::Flag(flag);
        let bare = || Node { value: Value::String(text.to_owned()), origin: Origin::Flag(flag) };
        match DeValue::parse(text) {
            Ok(value) if matches!(value.get_ref(), DeValue::Datetime(_)) => Ok(bare()),
            Ok(value) => {
                let mut reader = Reader { place: &place, found: Vec::new() };
                let node = reader.value(&value);
                match reader.found.pop() {
                    Some((_, diagnostic)) => Err(diagnostic),
                    None => Ok(node),
                }
            }
            Err(_) if !text.trim_start().starts_with(['"', '\'', '[', '{']) => Ok(bare()),
            Err(error) => Err(Diagnostic::new("manifest.set", one_line(error.message()))
                .expected("a TOML value, such as 1, 0.5, true, \"text\", [1, 2] or { name = \"adam\" }")
                .hint("put the whole flag in single quotes, so that the shell leaves it alone")),
        }
    }

    /// The value as JSON, for serde.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::String(text) => Json::String(text.clone()),
            Value::Integer(number) => Json::from(*number),
            Value::Float(number) => Json::from(*number),
            Value::Bool(truth) => Json::Bool(*truth),
            Value::Array(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Table(entries) => {
                Json::Object(entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The entries, if it is a table.
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Where the item with this path was written (as `model.layers[2].padding`), or the nearest thing around it.
    pub fn origin_of(&self, path: &str) -> Origin {
        let mut node = self;
        let mut origin = &self.origin;
        for step in path.split('.') {
            let (key, indices) = step.split_once('[').unwrap_or((step, ""));
            let Some(entry) = node.entry(key) else { break };
            node = &entry.node;
            // A table is best shown by its key, any other value by itself.
            origin = if matches!(node.value, Value::Table(_)) { &entry.origin } else { &node.origin };
            for index in
                indices.split('[').filter_map(|index| index.trim_end_matches(']').parse::<usize>().ok())
            {
                let Value::Array(items) = &node.value else { break };
                let Some(item) = items.get(index) else { break };
                node = item;
                origin = &node.origin;
            }
        }
        origin.clone()
    }
}

/// Turns the parser's values into nodes.
struct Reader<'a> {
    place: &'a dyn Fn(Range<usize>) -> Origin,
    found: Vec<(Origin, Diagnostic)>,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Value {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        Value::Table(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key: key.get_ref().to_string(),
                    origin: (self.place)(key.span()),
                    node: self.value(value),
                })
                .collect(),
        )
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>) -> Node {
        let origin = (self.place)(value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Integer(number),
                Err(_) => self.refuse(&origin, "an integer that does not fit in 64 bits"),
            },
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(number) if number.is_finite() => Value::Float(number),
                _ => self.refuse(&origin, "a number that is not finite"),
            },
            DeValue::Datetime(_) => {
                self.refuse(&origin, "a date or time; nothing here takes one (quote it?)")
            }
            DeValue::Array(items) => Value::Array(items.iter().map(|item| self.value(item)).collect()),
            DeValue::Table(table) => self.table(table),
        };
        Node { value, origin }
    }

    fn refuse(&mut self, origin: &Origin, what: &str) -> Value {
        self.found.push((
            origin.clone(),
            Diagnostic::new("manifest.value", what)
                .expected("a string, a finite number, true, false, an array or a table"),
        ));
        Value::Bool(false)
    }
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
