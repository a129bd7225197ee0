//! From raw records to answers: the transform before the model, and the meaning of its output behind it.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::Tensor;
use outgrow_transform::{Record, TextInput, Transform};

use crate::graph_body::unfit;
use crate::{Answer, Decision, Meaning, Model, Reader};

/// How raw records become a model's inputs, and what its output means.
#[derive(Debug)]
pub struct Interpretation {
    transform: Transform,
    meaning: Meaning,
    header: bool,
}

impl Interpretation {
    pub(crate) fn new(transform: Transform, decision: Option<Decision>, header: bool) -> Self {
        Self { meaning: Meaning::of(&transform, decision), transform, header }
    }

    /// What turns records into inputs.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// What the output means.
    pub fn meaning(&self) -> &Meaning {
        &self.meaning
    }

    /// What reads raw records, as files or as bytes.
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(&self.transform, self.header)
    }

    /// How text becomes tokens, for language models.
    pub fn text(&self) -> Option<&TextInput> {
        self.transform.assembly.text.as_ref()
    }
}

impl Model {
    /// The answer for each record. One that the transform does not take, or whose answer is not finite, keeps no other
    /// from its answer.
    ///
    /// # Errors
    /// When the model does not say how records become inputs, or cannot run.
    pub fn answer(&self, records: &[Record]) -> Result<Vec<Result<Answer, Diagnostic>>, Diagnostics> {
        let transform = self.interpretation()?.transform();
        if records.is_empty() {
            return Ok(Vec::new());
        }
        // Most often all are good, and are transformed at once.
        if let Ok(batch) = transform.apply(records) {
            let answers = self.answer_arrays(&self.in_order(batch.inputs)?)?;
            let placed =
                answers.into_iter().zip(records).map(|(answer, r)| answer.map_err(|d| r.origin.place(d)));
            return Ok(placed.collect());
        }
        let taken: Vec<Option<Diagnostic>> = (records.iter())
            .map(|r| transform.apply(std::slice::from_ref(r)).err().map(|problem| r.origin.place(problem)))
            .collect();
        let good: Vec<Record> = records
            .iter()
            .zip(&taken)
            .filter(|(_, problem)| problem.is_none())
            .map(|(r, _)| r.clone())
            .collect();
        if good.len() == records.len() {
            // Each by itself is good: what is wrong is all of them together.
            transform.apply(records)?;
        }
        let mut answers = self.answer(&good)?.into_iter();
        let lost =
            || Err(Diagnostic::fault("predict.rows", "invariant: there is an answer for each good record"));
        Ok(taken
            .into_iter()
            .map(|problem| problem.map_or_else(|| answers.next().unwrap_or_else(lost), Err))
            .collect())
    }

    /// The arrays that the model takes for these records, in the order of its inputs.
    ///
    /// # Errors
    /// When the model does not say how records become inputs, or its transform does not take one of them.
    pub fn arrays(&self, records: &[Record]) -> Result<Vec<Tensor>, Diagnostics> {
        let batch = self.interpretation()?.transform().apply(records)?;
        Ok(self.in_order(batch.inputs)?)
    }

    /// The answer for each row of these arrays, one for each input of the model.
    ///
    /// # Errors
    /// When the arrays do not fit, the model does not say what its output means, or cannot run.
    pub fn answer_arrays(&self, inputs: &[Tensor]) -> Result<Vec<Result<Answer, Diagnostic>>, Diagnostics> {
        let meaning = self.interpretation()?.meaning();
        let (numbers, rows) = self.numbers(inputs)?;
        Ok(numbers.chunks_exact(numbers.len() / rows).map(|output| meaning.answer(output)).collect())
    }

    /// The output for all rows, side by side, and how many rows there are: at least one, and equally many numbers for
    /// each.
    pub(crate) fn numbers(&self, inputs: &[Tensor]) -> Result<(Vec<f32>, usize), Diagnostics> {
        let rows = inputs.first().and_then(|tensor| tensor.shape().dims().first()).copied().unwrap_or(1);
        let output = self.run(inputs, &[0])?.pop();
        let numbers = output.and_then(|output| output.into_vec::<f32>().ok()).unwrap_or_default();
        if rows == 0 || numbers.is_empty() || !numbers.len().is_multiple_of(rows) {
            return Err(unfit("the output does not hold numbers for each row").into());
        }
        Ok((numbers, rows))
    }

    /// What the transform gives, in the order of the model's inputs.
    pub(crate) fn in_order(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, Diagnostic> {
        let fields = self.interpretation()?.transform().schema().inputs;
        let tensor = |name: &str| tensors.get(fields.iter().position(|field| field.name == name)?).cloned();
        let missing = |name| unfit(format!("the transform does not give the input `{name}`"));
        self.inputs().iter().map(|input| tensor(&input.name).ok_or_else(|| missing(&input.name))).collect()
    }
}
