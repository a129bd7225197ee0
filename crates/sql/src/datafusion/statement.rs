//! What a statement may be, checked on its text: one query over one table, of functions that always give the same.

use super::functions;
use crate::TABLE;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, Statement as Sql, Visit, Visitor};
use outgrow_ir::{Diagnostic, Diagnostics};
use std::ops::ControlFlow;

/// Characters of a statement.
const CHARACTERS_MAX: usize = 1 << 16;
/// Expressions within expressions. Evaluating follows them down on the stack.
const DEPTH_MAX: usize = 200;
/// What is wanted.
const EXPECTED: &str = "one SELECT, or WITH … SELECT, on the table `data`";

/// Parses a statement and refuses what is not one query over the table.
pub fn parse(text: &str) -> Result<Statement, Diagnostics> {
    let fail = |problem: String| Diagnostic::new("data.sql.statement", problem).expected(EXPECTED);
    if text.len() > CHARACTERS_MAX {
        return Err(fail(format!("the statement is longer than {CHARACTERS_MAX} characters")).into());
    }
    let syntax = |e: &dyn std::fmt::Display| {
        let text = e.to_string();
        let problem = text.split_once("ParserError(").map_or(text.as_str(), |(_, rest)| rest);
        let problem = problem.trim_start_matches('"').split("\")").next().unwrap_or(problem);
        Diagnostic::new("data.sql.syntax", format!("the statement cannot be read: {problem}"))
            .expected(EXPECTED)
    };
    let mut parser = DFParserBuilder::new(text).build().map_err(|e| syntax(&e))?;
    let mut statements = parser.parse_statements().map_err(|e| syntax(&e))?;
    let count = statements.len();
    let (Some(statement), true) = (statements.pop_front(), count == 1) else {
        return Err(match count {
            0 => fail("the statement is empty".into()),
            n => fail(format!("there are {n} statements")),
        }
        .into());
    };
    let Statement::Statement(inner) = &statement else {
        return Err(fail(format!("{} is not a query", keyword(text))).into());
    };
    let Sql::Query(query) = &**inner else {
        return Err(fail(format!("{} is not a query", keyword(text))).into());
    };
    let mut check = Check { depth: 0, found: Diagnostics::default(), unstable: functions::unstable() };
    if let ControlFlow::Break(problem) = query.visit(&mut check) {
        return Err(fail(problem).into());
    }
    check.found.into_result(())?;
    tables(&statement)?;
    Ok(statement)
}

/// The first word of a statement.
fn keyword(text: &str) -> String {
    let word: String = text.trim_start().chars().take_while(|c| c.is_alphabetic()).take(20).collect();
    if word.is_empty() { "this".into() } else { word.to_uppercase() }
}

/// Refuses every table but the one.
fn tables(statement: &Statement) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::default();
    let (tables, _) = resolve_table_references(statement, false).map_err(|e| {
        Diagnostic::new("data.sql.statement", e.strip_backtrace().to_string()).expected(EXPECTED)
    })?;
    for table in tables.iter().filter(|t| t.schema().is_some() || t.table() != TABLE) {
        let name = table.to_string();
        let hint = name.contains(['/', '.', '\\']).then_some(
            "files are named by `data.files`; a statement reads only the records that come from there",
        );
        let mut problem = Diagnostic::new("data.sql.table", format!("there is no table `{name}`"))
            .expected(format!("`{TABLE}`, which holds the source's records"));
        problem.hint = hint.map(str::to_owned);
        found.push(problem);
    }
    found.into_result(())
}

/// Looks at every expression and every query within the statement.
struct Check {
    depth: usize,
    found: Diagnostics,
    unstable: Vec<String>,
}

impl Visitor for Check {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        body(&query.body, 0)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return ControlFlow::Break(format!("expressions are nested more than {DEPTH_MAX} deep"));
        }
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            if self.unstable.contains(&name) {
                self.found.push(
                    Diagnostic::new("data.sql.function", format!("`{name}` gives something else each time"))
                        .expected("functions whose result follows from the records")
                        .hint("prepared data must come out the same whenever it is made"),
                );
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<String> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Refuses what changes something although it stands where a query does.
fn body(set: &SetExpr, depth: usize) -> ControlFlow<String> {
    if depth > DEPTH_MAX {
        return ControlFlow::Break(format!("more than {DEPTH_MAX} queries are combined"));
    }
    match set {
        SetExpr::Select(select) if select.into.is_some() => {
            ControlFlow::Break("SELECT … INTO makes a table".into())
        }
        SetExpr::SetOperation { left, right, .. } => {
            body(left, depth + 1)?;
            body(right, depth + 1)
        }
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        other => {
            let text = other.to_string();
            ControlFlow::Break(format!("{} is not a query", keyword(&text)))
        }
    }
}
