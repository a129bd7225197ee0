//! Diagnostics for people (colour, the line at fault, a caret) and for machines (one JSON object).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::{Map, Value as Json};

/// How far into a file the line at fault is looked for.
const MAX_BYTES: u64 = 64 << 20;
/// The most characters of a line that are shown.
const MAX_WIDTH: usize = 120;

/// Escape sequences, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Palette {
    colour: bool,
}

impl Palette {
    /// With or without colour.
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Red and bold: errors.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Bold: what is wrong.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Blue: the frame around a quoted line.
    pub fn frame(self, text: &str) -> String {
        self.paint("34", text)
    }

    /// Green: help.
    pub fn help(self, text: &str) -> String {
        self.paint("32", text)
    }
}

/// All diagnostics as text, each followed by an empty line.
pub fn render(diagnostics: &Diagnostics, palette: Palette) -> String {
    diagnostics.0.iter().map(|diagnostic| render_one(diagnostic, palette) + "\n").collect()
}

fn render_one(diagnostic: &Diagnostic, palette: Palette) -> String {
    let mut text = String::new();
    let place = &diagnostic.place;
    let head = palette.error("error");
    let _ = writeln!(text, "{head}: {} [{}]", palette.strong(&diagnostic.problem), diagnostic.code);
    let quoted = place.file.as_deref().zip(place.line).and_then(|(file, line)| read_line(file, line));
    let gutter = place.line.filter(|_| quoted.is_some()).map_or(2, |line| line.to_string().len());
    let pad = " ".repeat(gutter);
    let at = match (&place.file, &place.item) {
        (Some(_), Some(item)) => {
            let mut bare = place.clone();
            bare.item = None;
            format!("{bare} ({item})")
        }
        _ => place.to_string(),
    };
    if !at.is_empty() {
        let _ = writeln!(text, "{pad}{} {at}", palette.frame("-->"));
    }
    if let (Some(line), Some(quoted)) = (place.line, quoted) {
        let bar = palette.frame("|");
        let (shown, caret) = window(&quoted, place.column);
        let _ = writeln!(text, "{pad} {bar}");
        let _ = writeln!(text, "{} {bar} {shown}", palette.frame(&line.to_string()));
        if let Some((at, length)) = caret {
            let _ = writeln!(text, "{pad} {bar} {}{}", " ".repeat(at), palette.error(&"^".repeat(length)));
        }
    }
    let equals = palette.frame("=");
    if let Some(expected) = &diagnostic.expected {
        let _ = writeln!(text, "{pad} {equals} expected: {expected}");
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(text, "{pad} {equals} {}: {hint}", palette.help("help"));
    }
    text
}

/// The part of a line to show, and where in it the caret stands: its offset and length in characters.
fn window(line: &str, column: Option<usize>) -> (String, Option<(usize, usize)>) {
    let chars: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = column.map(|column| (column.max(1) - 1).min(chars.len()));
    let start = match column {
        Some(column) if column > MAX_WIDTH / 2 && chars.len() > MAX_WIDTH => column - MAX_WIDTH / 2,
        _ => 0,
    };
    let end = chars.len().min(start + MAX_WIDTH);
    let shown: String = chars[start..end].iter().collect();
    let caret = column.map(|column| {
        let length = token_length(&chars[column..end.max(column)]);
        (column - start, length)
    });
    (shown.trim_end().to_owned(), caret)
}

/// How many characters from here on belong to the same word, number or string.
fn token_length(rest: &[char]) -> usize {
    match rest.first() {
        Some(quote @ ('"' | '\'')) => rest.iter().skip(1).position(|c| c == quote).map_or(1, |at| at + 2),
        Some(c) if c.is_alphanumeric() || "_-+.".contains(*c) => {
            rest.iter().take_while(|c| c.is_alphanumeric() || "_-+.".contains(**c)).count()
        }
        _ => 1,
    }
}

/// A line of a text file, counted from 1; nothing when the file is no text.
fn read_line(file: &Path, number: usize) -> Option<String> {
    if !file.is_file() {
        return None;
    }
    let mut reader = BufReader::new(File::open(file).ok()?.take(MAX_BYTES));
    let mut bytes = Vec::new();
    for _ in 0..number {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).ok()? == 0 {
            return None;
        }
    }
    let line = String::from_utf8(bytes).ok()?;
    let line = line.trim_end_matches(['\n', '\r']);
    (!line.chars().any(|c| c.is_control() && c != '\t')).then(|| line.to_owned())
}

/// All diagnostics as `{"errors": [{"code", "file", "line", "column", "item", "problem", "expected", "help"}]}`, where
/// what is not known is left out.
pub fn to_json(diagnostics: &Diagnostics) -> Json {
    let errors = diagnostics.0.iter().map(|diagnostic| {
        let place = &diagnostic.place;
        let fields = [
            ("code", Some(Json::from(diagnostic.code))),
            ("file", place.file.as_ref().map(|file| Json::from(file.display().to_string()))),
            ("line", place.line.map(Json::from)),
            ("column", place.column.map(Json::from)),
            ("item", place.item.clone().map(Json::from)),
            ("problem", Some(Json::from(diagnostic.problem.clone()))),
            ("expected", diagnostic.expected.clone().map(Json::from)),
            ("help", diagnostic.hint.clone().map(Json::from)),
        ];
        Json::Object(
            fields
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?)))
                .collect::<Map<_, _>>(),
        )
    });
    serde_json::json!({ "errors": errors.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_line_at_fault_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outgrow.toml");
        std::fs::write(&file, "[train]\n  epoch = 3\nlr = \"x y\" # é\n").unwrap();
        let at = |line, column| {
            Diagnostic::new("manifest.test", "something is wrong")
                .file(&file)
                .line(line)
                .column(column)
                .item("train.epoch")
        };
        let found = Diagnostics(vec![
            at(2, 3).hint("did you mean `epochs`?"),
            at(3, 6).expected("a number"),
            at(9, 1).expected("a line that is there"),
            Diagnostic::new("data.empty", "no rows").hint("add some"),
        ]);
        let text = render(&found, Palette::new(false)).replace(&file.display().to_string(), "FILE");
        expect![[r#"
            error: something is wrong [manifest.test]
             --> FILE:2:3 (train.epoch)
              |
            2 |   epoch = 3
              |   ^^^^^
              = help: did you mean `epochs`?

            error: something is wrong [manifest.test]
             --> FILE:3:6 (train.epoch)
              |
            3 | lr = "x y" # é
              |      ^^^^^
              = expected: a number

            error: something is wrong [manifest.test]
              --> FILE:9:1 (train.epoch)
               = expected: a line that is there

            error: no rows [data.empty]
               = help: add some

        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn long_lines_are_cut_around_the_column() {
        let line = format!("{}{}", "x ".repeat(200), "end");
        let (shown, caret) = window(&line, Some(401));
        assert_eq!(caret, Some((60, 3)));
        assert!(shown.ends_with("end") && shown.chars().count() <= MAX_WIDTH);
    }

    #[test]
    fn machines_get_every_part() {
        let found = Diagnostics(vec![
            Diagnostic::new("a.b", "p").file("f").line(1).column(2).item("i").expected("e").hint("h"),
        ]);
        let expect = r#"{"errors":[{"code":"a.b","file":"f","line":1,"column":2,"item":"i","problem":"p","expected":"e","help":"h"}]}"#;
        assert_eq!(to_json(&found).to_string(), expect);
    }
}
