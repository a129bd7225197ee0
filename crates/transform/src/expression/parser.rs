//! Builds an expression from its tokens by recursive descent, checking the kinds of its parts as it goes.

use super::lexer::{Kind, Token, fail, tokens};
use super::{Arithmetic, Compare, Node};
use crate::{ColumnKind, Columns};
use outgrow_ir::Diagnostic;

/// Deeper nesting than this is refused, so that neither parsing nor evaluating can exhaust the stack, and the
/// expression can be read back from JSON, whose reader has a limit of its own.
const DEPTH_MAX: usize = 40;

/// What a part of an expression amounts to.
#[derive(Clone, Copy, PartialEq)]
enum Sort {
    Number,
    Text,
    Truth,
    /// A column without scalars, which can only be asked whether it is missing.
    Other,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Text => "text",
            Self::Truth => "true or false",
            Self::Other => "neither a number nor text",
        }
    }
}

/// A part, what it amounts to, and where it starts.
struct Part {
    node: Node,
    sort: Sort,
    column: usize,
}

struct Parser<'a> {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    columns: &'a Columns,
}

pub(super) fn parse(text: &str, columns: &Columns) -> Result<Node, Diagnostic> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, columns };
    let part = parser.or()?;
    let rest = parser.peek();
    if rest.kind != Kind::End {
        return Err(fail(rest.column, format!("{} does not belong here", rest.kind.describe()))
            .expected("an operator, `and`, `or`, or the end"));
    }
    truth(&part)?;
    if part.node.depth() > DEPTH_MAX {
        return Err(too_deep(part.column));
    }
    Ok(part.node)
}

fn too_deep(column: usize) -> Diagnostic {
    fail(column, format!("the expression is nested more than {DEPTH_MAX} deep"))
        .expected(format!("at most {DEPTH_MAX} levels"))
        .hint("write it as several `filter` steps: records must pass all of them")
}

fn truth(part: &Part) -> Result<(), Diagnostic> {
    if part.sort == Sort::Truth {
        return Ok(());
    }
    Err(fail(part.column, format!("this is {}, not true or false", part.sort.name()))
        .expected("a comparison such as `age > 17`"))
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // The last token is `End`, and nothing moves past it.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Word(w) if w.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, symbols: &[(&'static str, usize)]) -> Option<(usize, usize)> {
        let token = self.peek();
        let Kind::Symbol(symbol) = token.kind else { return None };
        let found = symbols.iter().find(|(s, _)| *s == symbol).map(|(_, code)| (*code, token.column));
        self.at += usize::from(found.is_some());
        found
    }

    fn expect_symbol(&mut self, symbol: &'static str) -> Result<(), Diagnostic> {
        if self.take_symbol(&[(symbol, 0)]).is_some() {
            return Ok(());
        }
        let token = self.peek();
        let problem = match token.kind {
            Kind::End => "the expression ends too early".to_owned(),
            _ => format!("{} does not belong here", token.kind.describe()),
        };
        Err(fail(token.column, problem).expected(format!("`{symbol}`")))
    }

    /// Runs `inner` one level deeper.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Diagnostic>) -> Result<T, Diagnostic> {
        if self.depth == DEPTH_MAX {
            return Err(too_deep(self.peek().column));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Part, Diagnostic> {
        self.joined("or", Self::and, Node::Or)
    }

    fn and(&mut self) -> Result<Part, Diagnostic> {
        self.joined("and", Self::not, Node::And)
    }

    /// One part, or several with `word` between them.
    fn joined(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Part, Diagnostic>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Part, Diagnostic> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        truth(&first)?;
        let column = first.column;
        let mut nodes = vec![first.node];
        while self.take_word(word) {
            let next = part(self)?;
            truth(&next)?;
            nodes.push(next.node);
        }
        Ok(Part { node: join(nodes), sort: Sort::Truth, column })
    }

    fn not(&mut self) -> Result<Part, Diagnostic> {
        let column = self.peek().column;
        if self.take_word("not") {
            let inner = self.nested(Self::not)?;
            truth(&inner)?;
            return Ok(Part { node: Node::Not(Box::new(inner.node)), sort: Sort::Truth, column });
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Part, Diagnostic> {
        const OPERATORS: [(&str, Compare); 7] = [
            ("=", Compare::Equal),
            ("==", Compare::Equal),
            ("!=", Compare::Unequal),
            ("<", Compare::Less),
            ("<=", Compare::LessEqual),
            (">", Compare::Greater),
            (">=", Compare::GreaterEqual),
        ];
        let codes: Vec<(&'static str, usize)> = OPERATORS.iter().enumerate().map(|(i, o)| (o.0, i)).collect();
        let left = self.sum()?;
        let column = left.column;
        let done = |node| Ok(Part { node, sort: Sort::Truth, column });
        if let Some((code, at)) = self.take_symbol(&codes) {
            let right = self.sum()?;
            comparable(&left, &right, at)?;
            return done(Node::Compare(OPERATORS[code].1, Box::new(left.node), Box::new(right.node)));
        }
        if self.take_word("is") {
            let negated = self.take_word("not");
            if !self.take_word("missing") {
                let token = self.peek();
                return Err(fail(token.column, format!("{} does not follow `is`", token.kind.describe()))
                    .expected("`missing` or `not missing`"));
            }
            let missing = Node::IsMissing(Box::new(left.node));
            return done(if negated { Node::Not(Box::new(missing)) } else { missing });
        }
        let negated = self.take_word("not");
        if self.take_word("in") {
            let at = self.peek().column;
            self.expect_symbol("(")?;
            let mut list = Vec::new();
            loop {
                let item = self.sum()?;
                comparable(&left, &item, at)?;
                list.push(item.node);
                if self.take_symbol(&[(",", 0)]).is_none() {
                    break;
                }
            }
            self.expect_symbol(")")?;
            let found = Node::In(Box::new(left.node), list);
            return done(if negated { Node::Not(Box::new(found)) } else { found });
        }
        if negated {
            let token = self.peek();
            return Err(fail(token.column, format!("{} does not follow `not`", token.kind.describe()))
                .expected("`in`"));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Part, Diagnostic> {
        let mut left = self.product()?;
        while let Some((code, at)) = self.take_symbol(&[("+", 0), ("-", 1)]) {
            let right = self.product()?;
            let op = [Arithmetic::Add, Arithmetic::Subtract][code];
            left = arithmetic(op, left, right, at)?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Part, Diagnostic> {
        let mut left = self.unary()?;
        while let Some((code, at)) = self.take_symbol(&[("*", 0), ("/", 1)]) {
            let right = self.unary()?;
            let op = [Arithmetic::Multiply, Arithmetic::Divide][code];
            left = arithmetic(op, left, right, at)?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Part, Diagnostic> {
        let Token { kind, column } = self.peek().clone();
        let part = |node, sort| Ok(Part { node, sort, column });
        match kind {
            Kind::Symbol("-") => {
                self.at += 1;
                let inner = self.nested(Self::unary)?;
                let zero = Part { node: Node::Number(0.0), sort: Sort::Number, column };
                arithmetic(Arithmetic::Subtract, zero, inner, column)
            }
            Kind::Symbol("(") => {
                self.at += 1;
                let inner = self.nested(Self::or)?;
                self.expect_symbol(")")?;
                part(inner.node, inner.sort)
            }
            Kind::Number(n) => {
                self.at += 1;
                part(Node::Number(n), Sort::Number)
            }
            Kind::Text(text) => {
                self.at += 1;
                part(Node::Text(text), Sort::Text)
            }
            Kind::Word(name) | Kind::Quoted(name) => {
                self.at += 1;
                let i = self.columns.require(&name).map_err(|mut d| {
                    d.place.column = Some(column);
                    d.item("filter")
                        .hint("text goes in quotation marks; a minus between columns needs blanks")
                })?;
                let sort = match self.columns.0[i].kind {
                    ColumnKind::Number => Sort::Number,
                    ColumnKind::Text => Sort::Text,
                    ColumnKind::Image | ColumnKind::Category { .. } => Sort::Other,
                };
                part(Node::Column(i), sort)
            }
            Kind::End => {
                Err(fail(column, "the expression ends too early").expected("a column, number or text"))
            }
            Kind::Symbol(_) => Err(fail(column, format!("{} does not belong here", kind.describe()))
                .expected("a column, number or text")),
        }
    }
}

fn comparable(left: &Part, right: &Part, at: usize) -> Result<(), Diagnostic> {
    if left.sort == right.sort && matches!(left.sort, Sort::Number | Sort::Text) {
        return Ok(());
    }
    let problem = format!("{} cannot be compared with {}", left.sort.name(), right.sort.name());
    Err(fail(at, problem).expected("two numbers, or two texts"))
}

fn arithmetic(op: Arithmetic, left: Part, right: Part, at: usize) -> Result<Part, Diagnostic> {
    for side in [&left, &right] {
        if side.sort != Sort::Number {
            let at = if side.sort == Sort::Truth { side.column } else { at };
            return Err(fail(at, format!("arithmetic with {} instead of a number", side.sort.name()))
                .expected("a number"));
        }
    }
    let node = Node::Arithmetic(op, Box::new(left.node), Box::new(right.node));
    Ok(Part { node, sort: Sort::Number, column: left.column })
}
