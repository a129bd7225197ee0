//! Cuts an expression into tokens.

use outgrow_ir::{Diagnostic, Problem};

/// A token and where it starts, in characters counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub column: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Number(f64),
    Text(String),
    /// A bare word: a keyword or the name of a column.
    Word(String),
    /// A name in backquotes.
    Quoted(String),
    Symbol(&'static str),
    End,
}

impl Kind {
    /// The token as a message shows it.
    pub fn describe(&self) -> String {
        match self {
            Self::Number(n) => format!("the number {n}"),
            Self::Text(t) => format!("the text {t:?}"),
            Self::Word(w) | Self::Quoted(w) => format!("`{w}`"),
            Self::Symbol(s) => format!("`{s}`"),
            Self::End => "the end".into(),
        }
    }
}

/// The symbols, longer ones before their beginnings.
const SYMBOLS: [&str; 14] = ["==", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "(", ")", ","];

/// More tokens than this are taken for a mistake; it bounds the depth of what the parser builds.
const TOKENS_MAX: usize = 4096;

/// What is wrong with an expression at `column`.
pub(super) fn fail(column: usize, problem: impl Into<String>) -> Problem {
    Diagnostic::new("data.filter.syntax", problem).item("filter").column(column)
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Diagnostic> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let column = at + 1;
        let c = chars[at];
        let kind = if c.is_whitespace() {
            at += 1;
            continue;
        } else if c.is_ascii_digit() || (c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit)) {
            number(&chars, &mut at)?
        } else if matches!(c, '"' | '\'' | '`') {
            let content = quoted(&chars, &mut at)?;
            if c == '`' { Kind::Quoted(content) } else { Kind::Text(content) }
        } else if c.is_alphabetic() || c == '_' {
            word(&chars, &mut at)
        } else {
            let symbol = SYMBOLS
                .into_iter()
                .find(|s| s.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c)))
                .ok_or_else(|| {
                    fail(column, format!("the character {c:?} has no meaning here"))
                        .hint("names with unusual characters go in backquotes: `odd name`")
                })?;
            at += symbol.len();
            Kind::Symbol(symbol)
        };
        tokens.push(Token { kind, column });
        if tokens.len() > TOKENS_MAX {
            return Err(fail(
                column,
                format!("the expression is too long, with more than {TOKENS_MAX} parts"),
            )
            .expected(format!("at most {TOKENS_MAX} names, numbers and signs"))
            .hint("write it as several `filter` steps: records must pass all of them"));
        }
    }
    tokens.push(Token { kind: Kind::End, column: chars.len() + 1 });
    Ok(tokens)
}

fn number(chars: &[char], at: &mut usize) -> Result<Kind, Diagnostic> {
    let start = *at;
    while let Some(c) = chars.get(*at) {
        let exponent_sign = matches!(c, '+' | '-') && matches!(chars[*at - 1], 'e' | 'E') && *at > start;
        if !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || exponent_sign) {
            break;
        }
        *at += 1;
    }
    let text: String = chars[start..*at].iter().collect();
    match text.parse() {
        Ok(n) if f64::is_finite(n) => Ok(Kind::Number(n)),
        _ => Err(fail(start + 1, format!("{text} is not a number that can be used"))
            .expected("a finite number, as `-3.5` or `1e6`")),
    }
}

/// What stands between a quotation mark and the next of the same kind; doubled, it stands for itself.
fn quoted(chars: &[char], at: &mut usize) -> Result<String, Diagnostic> {
    let start = *at;
    let mark = chars[start];
    let mut content = String::new();
    *at += 1;
    while let Some(c) = chars.get(*at) {
        *at += 1;
        if *c != mark {
            content.push(*c);
        } else if chars.get(*at) == Some(&mark) {
            content.push(mark);
            *at += 1;
        } else {
            return Ok(content);
        }
    }
    Err(fail(start + 1, "the quotation is not closed").hint("close it with the same mark"))
}

/// A bare word. A hyphen inside of it belongs to the name, as in `hours-per-week`, when a letter follows; with
/// blanks around it, or before a digit, it is a minus.
fn word(chars: &[char], at: &mut usize) -> Kind {
    let start = *at;
    while let Some(c) = chars.get(*at) {
        let inner = c.is_alphanumeric()
            || matches!(c, '_' | '.')
            || (*c == '-' && chars.get(*at + 1).is_some_and(|next| next.is_alphabetic()));
        if !inner {
            break;
        }
        *at += 1;
    }
    Kind::Word(chars[start..*at].iter().collect())
}
