//! Chains of steps: fitting them over the training split, and running them.

use crate::steps::{Fit, Fitted, FittedStep, Fitting, Step, StepSpec};
use crate::{Columns, Record};
use outgrow_ir::{Diagnostic, Diagnostics};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Fitted steps in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chain(pub Vec<FittedStep>);

/// What a chain remembers while it goes through the records of one split, and what it did to them.
#[derive(Debug, Default)]
pub struct Run {
    /// How many values were filled in, by column number.
    filled: Vec<u64>,
    /// How many records were left out, by reason.
    dropped: BTreeMap<String, u64>,
    /// Hashes of the records that came by `drop_duplicates`.
    seen: HashSet<u128>,
    /// Hash of the present record's raw content.
    hash: u128,
}

/// What became of the records of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowEffects {
    /// How many records were left out, with the reason of each group.
    pub dropped: Vec<(String, u64)>,
    /// How many missing values were filled in, by column.
    pub filled: Vec<(String, u64)>,
}

impl Run {
    /// Counts a filled value.
    pub(crate) fn filled(&mut self, column: usize) {
        if self.filled.len() <= column {
            self.filled.resize(column + 1, 0);
        }
        self.filled[column] += 1;
    }

    /// Counts a record that was left out.
    pub fn dropped(&mut self, reason: &str) {
        match self.dropped.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.dropped.insert(reason.to_owned(), 1)),
        }
    }

    /// Whether the present record was not there before.
    pub(crate) fn first_seen(&mut self) -> bool {
        self.seen.insert(self.hash)
    }

    /// What was done so far, with the names of these columns.
    pub fn effects(&self, columns: &Columns) -> RowEffects {
        let name = |i: usize| columns.0.get(i).map_or_else(|| format!("column {i}"), |c| c.name.clone());
        RowEffects {
            dropped: self.dropped.iter().map(|(reason, count)| (reason.clone(), *count)).collect(),
            filled: (self.filled.iter().enumerate())
                .filter(|(_, count)| **count > 0)
                .map(|(i, count)| (name(i), *count))
                .collect(),
        }
    }
}

impl Chain {
    /// The columns after the chain.
    pub fn columns(&self, before: &Columns) -> Columns {
        self.0.iter().fold(before.clone(), |columns, step| step.columns(columns))
    }

    /// Numbers of the columns that its steps found to be of no use to the model.
    pub fn left_out(&self) -> Vec<usize> {
        self.0.iter().flat_map(Fitted::left_out).collect()
    }

    /// What people should know of what its steps found in records of these columns.
    pub fn notes(&self, before: &Columns) -> Vec<String> {
        let mut columns = before.clone();
        let mut notes = Vec::new();
        for step in &self.0 {
            notes.extend(step.notes(&columns));
            columns = step.columns(columns);
        }
        notes
    }

    /// Runs the chain while preparing data: answers whether the record stays, and counts in `run` what was done.
    /// `hash` is that of the record's raw content, by which duplicates are judged.
    ///
    /// # Errors
    /// A diagnostic, placed where the record came from, for a value that a step cannot work on.
    pub fn prepare(&self, record: &mut Record, hash: u128, run: &mut Run) -> Result<bool, Diagnostic> {
        run.hash = hash;
        for step in &self.0 {
            if let Some(reason) = step.apply(record, run).map_err(|d| record.origin.place(d))? {
                run.dropped(&reason);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs the chain on a record to be predicted: steps that only select records are skipped.
    ///
    /// # Errors
    /// As [`Chain::prepare`].
    pub fn encode(&self, record: &mut Record) -> Result<(), Diagnostic> {
        let mut run = Run::default();
        for step in self.0.iter().filter(|s| !s.selects_rows()) {
            step.apply(record, &mut run).map_err(|d| record.origin.place(d))?;
        }
        Ok(())
    }

    /// Checks a chain that was read from a file against the columns it is for.
    pub(crate) fn check(&self, before: &Columns) -> Result<(), Diagnostic> {
        let mut columns = before.clone();
        for step in &self.0 {
            let touched = step.touches().iter().copied();
            if touched.chain(step.left_out()).any(|i| i >= columns.0.len()) {
                return Err(Diagnostic::new(
                    "transform.column",
                    "a step of the transform names a column that is not there",
                )
                .hint("the file is damaged or was made by another version"));
            }
            columns = step.columns(columns);
        }
        Ok(())
    }
}

/// Fits a chain by as few passes over the training split as its steps allow: a pass ends where a step needs values
/// that a step fitted in the same pass is still to change.
///
/// ```text
/// while !fit.is_complete() {
///     fit.begin_pass()?;
///     for record in training_records { fit.see(record)?; }
///     fit.end_pass()?;
/// }
/// ```
pub struct ChainFit {
    raw: Columns,
    waiting: Vec<(usize, StepSpec)>,
    done: Chain,
    pass: Vec<Active>,
    run: Run,
}

/// A step during a pass.
enum Active {
    Ready(FittedStep),
    Learns(usize, Box<dyn Fit + Send>),
}

fn place_step(step: usize, diagnostic: Diagnostic) -> Diagnostic {
    let inner = diagnostic.place.item.as_ref().map_or(String::new(), |item| format!(" {item}"));
    diagnostic.item(format!("data.clean[{step}]{inner}"))
}

impl ChainFit {
    /// Checks the steps against the raw columns.
    ///
    /// # Errors
    /// Everything that is wrong with the list, each under its step's number.
    pub fn new(specs: &[StepSpec], raw: &Columns) -> Result<Self, Diagnostics> {
        let mut problems = Diagnostics::default();
        let mut columns = raw.clone();
        let is_duplicates = |s: &&StepSpec| matches!(s, StepSpec::DropDuplicates(_));
        if specs.iter().filter(is_duplicates).count() > 1 {
            problems.push(
                Diagnostic::new("data.clean.twice", "`drop_duplicates` stands twice")
                    .item("data.clean")
                    .hint("remove one of them"),
            );
        }
        for (i, spec) in specs.iter().enumerate() {
            match spec.plan(&columns) {
                Ok(plan) => columns = plan.after,
                Err(problem) => problems.push(place_step(i, problem)),
            }
        }
        let waiting = specs.iter().cloned().enumerate().collect();
        let raw = raw.clone();
        problems.into_result(Self {
            raw,
            waiting,
            done: Chain::default(),
            pass: Vec::new(),
            run: Run::default(),
        })
    }

    /// Whether every step is fitted.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty() && self.pass.is_empty()
    }

    /// Prepares the next pass. When nothing has to be learned any more, the chain is complete without one.
    ///
    /// # Errors
    /// What [`Step::plan`] rejects.
    pub fn begin_pass(&mut self) -> Result<(), Diagnostic> {
        let mut columns = self.done.columns(&self.raw);
        let mut changing: HashSet<usize> = HashSet::new();
        let mut taken = 0;
        for (number, spec) in &self.waiting {
            let plan = spec.plan(&columns).map_err(|d| place_step(*number, d))?;
            if plan.reads.iter().chain(&plan.writes).any(|c| changing.contains(c)) {
                break;
            }
            taken += 1;
            match plan.fitting {
                Fitting::Ready(step) if self.pass.is_empty() => self.done.0.push(step),
                Fitting::Ready(step) => self.pass.push(Active::Ready(step)),
                Fitting::Learns(fit) => {
                    changing.extend(&plan.writes);
                    self.pass.push(Active::Learns(*number, fit));
                }
            }
            columns = plan.after;
        }
        self.waiting.drain(..taken);
        self.run = Run::default();
        Ok(())
    }

    /// Whether the pass just begun has something to learn.
    pub fn needs_pass(&self) -> bool {
        !self.pass.is_empty()
    }

    /// Shows a raw record of the training split to the steps that learn. `hash` is that of its raw content.
    ///
    /// # Errors
    /// What the steps reject, placed where the record came from.
    pub fn see(&mut self, mut record: Record, hash: u128) -> Result<(), Diagnostic> {
        if !self.done.prepare(&mut record, hash, &mut self.run)? {
            return Ok(());
        }
        for active in &mut self.pass {
            let dropped = match active {
                Active::Ready(step) => step.apply(&mut record, &mut self.run),
                Active::Learns(_, fit) => fit.see(&record).map(|()| None),
            };
            if dropped.map_err(|d| record.origin.place(d))?.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends the pass.
    ///
    /// # Errors
    /// When a step has learned nothing it could use.
    pub fn end_pass(&mut self) -> Result<(), Diagnostic> {
        for active in std::mem::take(&mut self.pass) {
            self.done.0.push(match active {
                Active::Ready(step) => step,
                Active::Learns(number, fit) => fit.finish().map_err(|d| place_step(number, d))?,
            });
        }
        Ok(())
    }

    /// The fitted chain.
    pub fn finish(self) -> Chain {
        self.done
    }
}
