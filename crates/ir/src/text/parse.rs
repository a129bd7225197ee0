//! Reads graphs back from their text form. Any text is refused with its place or gives a graph that the verifier
//! accepts; nothing is allocated beyond what the text itself spells out.

use super::lex::{Lexer, SYNTAX, Token, symbols};
use crate::{Attr, AttrReader, Diagnostic, Diagnostics, Dim, Graph, GroupId, Node, Op, Region, RegionId};
use crate::{Output, OutputRole, TensorType, Value};
use outgrow_tensor::{DType, Tensor};
use std::str::FromStr;
use std::sync::Arc;

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token,
}

type Result<T> = std::result::Result<T, Diagnostic>;

impl<'a> Parser<'a> {
    fn error<T>(&self, problem: impl Into<String>) -> Result<T> {
        Err(self.lexer.error(problem))
    }

    fn advance(&mut self) -> Result<Token> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn accept(&mut self, mark: char) -> Result<bool> {
        let found = self.token == Token::Mark(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, mark: char) -> Result<()> {
        if self.accept(mark)? {
            Ok(())
        } else {
            self.error(format!("expected `{mark}`, got {:?}", self.token))
        }
    }

    fn accept_word(&mut self, word: &str) -> Result<bool> {
        let found = matches!(&self.token, Token::Word(w) if w == word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn word(&mut self) -> Result<String> {
        match self.advance()? {
            Token::Word(word) => Ok(word),
            other => self.error(format!("expected a word, got {other:?}")),
        }
    }

    fn quoted(&mut self) -> Result<String> {
        match self.advance()? {
            Token::Text(text) => Ok(text),
            other => self.error(format!("expected quoted text, got {other:?}")),
        }
    }

    fn value(&mut self) -> Result<Value> {
        match self.advance()? {
            Token::Value(n) => Ok(Value(n)),
            other => self.error(format!("expected a value as %1, got {other:?}")),
        }
    }

    /// A number behind a letter, as `r3`.
    fn numbered(&mut self, letter: char) -> Result<u32> {
        let word = self.word()?;
        match word.strip_prefix(letter).and_then(|n| n.parse().ok()) {
            Some(n) => Ok(n),
            None => self.error(format!("expected `{letter}` with a number, got `{word}`")),
        }
    }

    fn dtype(&mut self) -> Result<DType> {
        let word = self.word()?;
        word.parse().or_else(|()| self.error(format!("`{word}` is not an element type")))
    }

    /// Items up to a mark, with commas between them.
    fn items<T>(&mut self, close: char, item: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.accept(close)? {
            if !items.is_empty() {
                self.expect(',')?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn dims(&mut self) -> Result<Vec<Dim>> {
        self.expect('[')?;
        self.items(']', Self::dim)
    }

    fn dim(&mut self) -> Result<Dim> {
        Ok(match self.advance()? {
            Token::Int(n) if n >= 0 => Dim::Fixed(n as usize),
            Token::Symbolic(times, symbols) => Dim::multiple(times, symbols),
            Token::Word(w) => match symbols(&w) {
                Some(symbols) => Dim::multiple(1, symbols),
                None => return self.error(format!("`{w}` is no product of capital letters")),
            },
            other => return self.error(format!("expected a dimension, got {other:?}")),
        })
    }

    fn ty(&mut self) -> Result<TensorType> {
        Ok(TensorType { dtype: self.dtype()?, dims: self.dims()? })
    }

    fn tensor(&mut self, dtype: DType) -> Result<Tensor> {
        let dims = self.dims()?;
        self.expect('(')?;
        let numbers = self.items(')', |parser| {
            Ok(match parser.advance()? {
                Token::Int(n) => (n as f64, n),
                Token::Float(x) => (x, x as i64),
                Token::Word(w) if w == "nan" => (f64::NAN, 0),
                Token::Word(w) if w == "inf" => (f64::INFINITY, 0),
                other => return parser.error(format!("expected a number, got {other:?}")),
            })
        });
        let (floats, ints): (Vec<f64>, Vec<i64>) = numbers?.into_iter().unzip();
        if Dim::product(&dims) != Some(Dim::Fixed(floats.len())) {
            return self.error(format!("{} elements do not fill {dims:?}", floats.len()));
        }
        let shape: Vec<usize> = dims.iter().filter_map(|d| d.fixed()).collect();
        Ok(if dtype.is_float() {
            Tensor::from_f64(dtype, shape, |i| floats[i])
        } else {
            Tensor::from_i64(dtype, shape, |i| ints[i])
        })
    }

    fn attr(&mut self) -> Result<Attr> {
        if self.token == Token::Mark('[') {
            return Ok(Attr::Dims(self.dims()?));
        }
        Ok(match self.advance()? {
            Token::Int(n) => Attr::Int(n),
            Token::Float(x) => Attr::Float(x),
            Token::Text(text) => Attr::Text(text),
            Token::Word(w) if w == "nan" => Attr::Float(f64::NAN),
            Token::Word(w) if w == "inf" => Attr::Float(f64::INFINITY),
            Token::Word(w) => match (DType::from_str(&w), &self.token) {
                (Ok(dtype), Token::Mark('[')) => Attr::Tensor(Arc::new(self.tensor(dtype)?)),
                _ => Attr::Name(w),
            },
            other => return self.error(format!("expected an attribute, got {other:?}")),
        })
    }

    fn attrs(&mut self) -> Result<Vec<(String, Attr)>> {
        if !self.accept('{')? {
            return Ok(Vec::new());
        }
        self.items('}', |parser| {
            let key = parser.word()?;
            parser.expect('=')?;
            Ok((key, parser.attr()?))
        })
    }

    /// Values between parentheses.
    fn values(&mut self) -> Result<Vec<Value>> {
        self.expect('(')?;
        self.items(')', Self::value)
    }

    fn region(&mut self, graph: &mut Graph) -> Result<()> {
        if self.numbered('r')? as usize != graph.regions.len() {
            return self.error("regions must be numbered in order from r0");
        }
        self.expect('=')?;
        let (kind, attrs) = (self.quoted()?, self.attrs()?);
        let operands = self.values()?;
        self.expect('=')?;
        self.expect('>')?;
        let results = self.values()?;
        let origin = if self.accept('@')? { self.quoted()?.into() } else { "".into() };
        let parent = if self.accept_word("in")? { Some(RegionId(self.numbered('r')?)) } else { None };
        graph.regions.push(Region { kind, attrs, operands, results, origin, parent });
        Ok(())
    }

    fn node(&mut self, graph: &mut Graph) -> Result<()> {
        let value = self.value()?;
        if value.index() != graph.nodes.len() {
            return self.error("values must be numbered in order from %0");
        }
        self.expect('=')?;
        let name = self.word()?;
        let place = self.lexer.place;
        let mut inputs = Vec::new();
        while matches!(self.token, Token::Value(_)) {
            inputs.push(self.value()?);
            if !self.accept(',')? {
                break;
            }
        }
        let attrs = self.attrs()?;
        let op = Op::parse(&name, AttrReader::new(attrs)).map_err(|problem| {
            Diagnostic::new("graph.syntax", problem).line(place.0).column(place.1).hint(SYNTAX)
        })?;
        self.expect(':')?;
        let ty = self.ty()?;
        let origin = if self.accept('@')? { self.quoted()?.into() } else { "".into() };
        let region = if self.accept_word("in")? { Some(RegionId(self.numbered('r')?)) } else { None };
        let group = if self.accept_word("group")? { Some(GroupId(self.numbered('g')?)) } else { None };
        if matches!(op, Op::Input(_)) {
            graph.inputs.push(value);
        }
        graph.nodes.push(Node { op, inputs, ty, origin, region, group });
        Ok(())
    }

    /// The role of an output, as `gradient "w"`.
    fn role(&mut self) -> Result<OutputRole> {
        let name = self.word()?;
        let of = match &self.token {
            Token::Text(_) => Some(self.quoted()?),
            _ => None,
        };
        OutputRole::parse(&name, of).or_else(|problem| self.error(problem))
    }

    fn graph(&mut self) -> Result<Graph> {
        if !self.accept_word("graph")? {
            return self.error("expected `graph`");
        }
        let mut graph = Graph { name: self.quoted()?, ..Graph::default() };
        self.expect('{')?;
        while self.accept_word("region")? {
            self.region(&mut graph)?;
        }
        while !self.accept_word("return")? {
            self.node(&mut graph)?;
        }
        graph.outputs = self.items('}', |parser| {
            let name = parser.quoted()?;
            parser.expect('=')?;
            let value = parser.value()?;
            let role = if parser.accept_word("as")? { parser.role()? } else { OutputRole::Result };
            Ok(Output { name, role, value })
        })?;
        match self.token {
            Token::End => Ok(graph),
            _ => self.error("expected nothing after the graph"),
        }
    }
}

impl Graph {
    /// Reads a graph from its text form and verifies it.
    pub fn parse(text: &str) -> std::result::Result<Self, Diagnostics> {
        let mut lexer = Lexer::new(text);
        let token = lexer.next()?;
        let graph = Parser { lexer, token }.graph()?;
        graph.verify()?;
        Ok(graph)
    }
}
