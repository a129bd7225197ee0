//! Text as a model's input.

use crate::{Batch, Record, TextInput, Value};
use outgrow_ir::Diagnostic;
use outgrow_tensor::Tensor;

impl TextInput {
    /// Makes one sample `i32 [context]` of each record's text: its last `context` tokens. A shorter text is padded
    /// at its end with token 0, which a causal model does not look at when it answers for the text's own positions.
    ///
    /// # Errors
    /// A diagnostic for a record that is not one text, or for a character the vocabulary lacks.
    pub(crate) fn apply(&self, records: &[Record]) -> Result<Batch, Diagnostic> {
        let mut samples = Vec::with_capacity(records.len());
        for record in records {
            let place = |d| record.origin.place(d);
            let [Value::Text(text)] = record.values.as_slice() else {
                return Err(place(
                    Diagnostic::new("data.width", "the record is not one text")
                        .expected("one text for each record"),
                ));
            };
            samples.push(self.vocabulary.encode(text).map_err(place)?);
        }
        self.batch(&samples, self.context)
    }

    /// Makes one sample of each list of tokens, as [`Transform::apply`](crate::Transform::apply) does of texts, but of
    /// the last `length` tokens.
    ///
    /// # Errors
    /// None that tokens could cause.
    pub fn batch(&self, samples: &[Vec<i32>], length: usize) -> Result<Batch, Diagnostic> {
        let mut tokens = Vec::with_capacity(samples.len() * length);
        for sample in samples {
            let window = &sample[sample.len().saturating_sub(length)..];
            tokens.extend_from_slice(window);
            tokens.resize(tokens.len() + length - window.len(), 0);
        }
        let real = samples.len();
        let inputs = Tensor::new([real, length], tokens)
            .map_err(|e| Diagnostic::fault("transform.field", e.to_string()))?;
        Ok(Batch::of_samples(vec![inputs], None, real))
    }
}
