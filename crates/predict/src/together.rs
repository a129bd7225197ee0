//! Requests of several callers in one run: their rows one after the other, and for each the rows that are its own.

use std::hash::{DefaultHasher, Hash, Hasher};

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::Tensor;

use crate::Model;
use crate::graph_body::{joined, part};

/// How a request may run together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// How many rows its inputs have.
    pub rows: usize,
    /// The same for requests whose inputs differ in nothing but their rows.
    pub group: u64,
}

impl Model {
    /// How a request for these inputs may run together with others; none where the model does not answer by rows.
    ///
    /// # Errors
    /// Everything that does not fit, with the input's name as the item.
    pub fn rows(&self, inputs: &[Tensor]) -> Result<Option<Rows>, Diagnostics> {
        let Some(rows) = self.rows_of(inputs)? else { return Ok(None) };
        let mut hasher = DefaultHasher::new();
        for tensor in inputs {
            let (first, rest) = tensor.shape().dims().split_first().unwrap_or((&0, &[]));
            (first / rows, rest).hash(&mut hasher);
        }
        Ok(Some(Rows { rows, group: hasher.finish() }))
    }

    /// Runs requests of the same group at once, and gives the outputs of these numbers for each: the bits that each
    /// would get by itself.
    ///
    /// # Errors
    /// When one of the requests does not fit, or the run fails.
    pub fn run_together(
        &self,
        requests: &[&[Tensor]],
        outputs: &[usize],
    ) -> Result<Vec<Vec<Tensor>>, Diagnostics> {
        if let [one] = requests {
            return Ok(vec![self.run_by_rows(one, outputs)?]);
        }
        let mut each = Vec::with_capacity(requests.len());
        for inputs in requests {
            each.push(self.rows(inputs)?.ok_or_else(|| unlike("the model does not answer by rows"))?);
        }
        if each.iter().any(|rows| rows.group != each[0].group) {
            return Err(unlike("the inputs differ in more than their rows").into());
        }
        let join = |i: usize| joined(requests.iter().map(|inputs| (&inputs[i], 1, 1)));
        let inputs = (0..self.inputs().len()).map(join).collect::<Result<Vec<_>, _>>()?;
        let answers = self.run_by_rows(&inputs, outputs)?;
        let (all, mut start) = (each.iter().map(|rows| rows.rows).sum::<usize>(), 0);
        let mut shares = Vec::with_capacity(each.len());
        for Rows { rows, .. } in each {
            let share = answers.iter().map(|tensor| part(tensor, all, start, rows, rows));
            shares.push(share.collect::<Result<Vec<_>, _>>()?);
            start += rows;
        }
        Ok(shares)
    }
}

fn unlike(problem: &str) -> Diagnostic {
    Diagnostic::new("predict.together", problem).hint("run the requests one by one")
}
