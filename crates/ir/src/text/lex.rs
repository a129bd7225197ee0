//! Splits the text form of graphs into tokens.

use crate::{Diagnostic, Symbol, Symbols};

/// What to do about text that is no graph.
pub const SYNTAX: &str = "the text form is what `outgrow graph` prints";

/// A token of the text form.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A word, as `add`, `f32` or `r3`.
    Word(String),
    /// A value, as `%3`.
    Value(u32),
    /// An integer.
    Int(i64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A multiple of a product of symbols, as `4BT`.
    Symbolic(usize, Symbols),
    /// Quoted text.
    Text(String),
    /// Any other character.
    Mark(char),
    /// The end.
    End,
}

/// The product that these letters spell.
pub fn symbols(letters: &str) -> Option<Symbols> {
    Symbols::product(letters.chars().map(Symbol::new).collect::<Option<Vec<_>>>()?)
}

/// Hands out tokens with their places.
pub struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    column: usize,
    /// Where the last token began.
    pub place: (usize, usize),
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { rest: text.chars().peekable(), line: 1, column: 1, place: (1, 1) }
    }

    /// A diagnostic at the last token.
    pub fn error(&self, problem: impl Into<String>) -> Diagnostic {
        Diagnostic::new("graph.syntax", problem).line(self.place.0).column(self.place.1).hint(SYNTAX)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        (self.line, self.column) = if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        Some(c)
    }

    fn take_while(&mut self, mut accept: impl FnMut(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(c) = self.rest.peek().copied().filter(|c| accept(*c)) {
            taken.push(c);
            self.bump();
        }
        taken
    }

    pub fn next(&mut self) -> Result<Token, Diagnostic> {
        self.take_while(char::is_whitespace);
        self.place = (self.line, self.column);
        let Some(c) = self.rest.peek().copied() else { return Ok(Token::End) };
        if c.is_ascii_alphabetic() || c == '_' {
            return Ok(Token::Word(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')));
        }
        if c.is_ascii_digit() || c == '-' {
            return self.number();
        }
        self.bump();
        match c {
            '%' => {
                let digits = self.take_while(|c| c.is_ascii_digit());
                digits.parse().map(Token::Value).map_err(|_| self.error("`%` must be followed by a number"))
            }
            '"' => self.text(),
            c => Ok(Token::Mark(c)),
        }
    }

    fn text(&mut self) -> Result<Token, Diagnostic> {
        let mut text = String::new();
        loop {
            match self.bump() {
                Some('"') => return Ok(Token::Text(text)),
                Some('\\') => match self.bump() {
                    Some('n') => text.push('\n'),
                    Some(c @ ('"' | '\\')) => text.push(c),
                    _ => return Err(self.error("unknown escape in quoted text")),
                },
                Some(c) => text.push(c),
                None => return Err(self.error("quoted text does not end")),
            }
        }
    }

    fn number(&mut self) -> Result<Token, Diagnostic> {
        let mut last = ' ';
        let digits = self.take_while(|c| {
            let accept = c.is_ascii_digit()
                || c == '.'
                || c == 'e'
                || (c == '-' && (last == ' ' || last == 'e'))
                || (c == '+' && last == 'e');
            last = c;
            accept
        });
        if digits == "-" && self.rest.peek() == Some(&'i') {
            let word = self.take_while(|c| c.is_ascii_alphabetic());
            return if word == "inf" {
                Ok(Token::Float(f64::NEG_INFINITY))
            } else {
                Err(self.error("not a number"))
            };
        }
        if self.rest.peek().is_some_and(char::is_ascii_uppercase) {
            let letters = self.take_while(|c| c.is_ascii_uppercase());
            let times = digits.parse().ok().filter(|k| *k > 0);
            let multiple =
                times.zip(symbols(&letters)).map(|(times, symbols)| Token::Symbolic(times, symbols));
            return multiple.ok_or_else(|| self.error(format!("not a multiple of `{letters}`")));
        }
        if let Ok(n) = digits.parse::<i64>() {
            return Ok(Token::Int(n));
        }
        match digits.parse::<f64>() {
            Ok(x) if digits.contains(['.', 'e']) => Ok(Token::Float(x)),
            _ => Err(self.error(format!("`{digits}` is not a number"))),
        }
    }
}
