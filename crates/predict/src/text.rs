//! Language models: which token comes next, and how a text goes on.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{RngKey, RngStream};
use outgrow_transform::TextInput;

use crate::answer::{NOT_FINITE, argmax, softmax};
use crate::{Answer, Extent, Model};

/// How a text is to go on.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// By how many tokens.
    pub tokens: u32,
    /// By what the logits are divided before a token is drawn; 0 always takes the likeliest one.
    pub temperature: f64,
    /// Of how many of the likeliest tokens one is drawn; 0 draws from all.
    pub top_k: usize,
    /// What the draws follow from.
    pub seed: u64,
}

impl Generation {
    /// Whether a text can go on like this.
    ///
    /// # Errors
    /// For a temperature that is negative or not finite.
    pub fn check(&self) -> Result<(), Diagnostic> {
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        Err(Diagnostic::new("predict.option", format!("a temperature of {}", self.temperature))
            .item("temperature")
            .expected("a number from 0 up")
            .hint("0 always takes the likeliest token, 1 draws by the model's probabilities"))
    }
}

impl Model {
    /// Lets the model go on with a text: the answer has the probability of each token to come next, and how the text
    /// goes on. Every token is drawn given the last ones, as many as the model looks back on. The draws of text number
    /// `index` have a random stream of their own.
    ///
    /// # Errors
    /// When the model is none of language, or the text is empty or has a character that it does not know.
    pub fn go_on(&self, prompt: &str, index: u64, how: Generation) -> Result<Answer, Diagnostics> {
        how.check()?;
        let input = self.interpretation()?.text().ok_or_else(|| {
            Diagnostic::new("predict.input", "the model goes on with no text")
                .expected("a model of text, trained with `source = \"text\"`")
        })?;
        // All of it, so that no unknown character goes unnoticed.
        let mut all = input.vocabulary.encode(prompt)?;
        if all.is_empty() {
            return Err(Diagnostic::new("predict.empty", "the text is empty")
                .expected("at least one character to go on from")
                .into());
        }
        let prompt_tokens = all.len();
        let mut stream = RngKey::new(how.seed).fold_in_name("predict").fold_in(index).stream();
        let mut next = Vec::new();
        for i in 0..=how.tokens {
            let window = &all[all.len().saturating_sub(input.context)..];
            let logits = self.logits(input, window)?;
            if i == 0 {
                next = softmax(&logits, 1.0);
            }
            if i == how.tokens {
                break;
            }
            all.push(choose(&logits, how, &mut stream) as i32);
        }
        Ok(Answer {
            class: argmax(&next),
            numbers: next,
            continuation: Some(continuation(input, &all, prompt_tokens)),
        })
    }

    /// The logits of the token after the window.
    fn logits(&self, input: &TextInput, window: &[i32]) -> Result<Vec<f32>, Diagnostics> {
        // Few programs, of which none does more than twice the work.
        let length = match self.inputs().first().and_then(|port| port.dims.as_ref()?.get(1)) {
            Some(Extent::Fixed(n)) => *n,
            _ => window.len().next_power_of_two().min(input.context),
        };
        let inputs = self.in_order(input.batch(&[window.to_vec()], length)?.inputs)?;
        let (out, _) = self.numbers(&inputs)?;
        let vocab = input.vocabulary.len();
        let at = window.len().saturating_sub(1) * vocab;
        match out.get(at..at + vocab) {
            Some(logits) if out.len() == length * vocab && logits.iter().all(|x| x.is_finite()) => {
                Ok(logits.to_vec())
            }
            Some(logits) if logits.iter().any(|x| !x.is_finite()) => {
                Err(Diagnostic::new("predict.non-finite", "the model's answer is not finite")
                    .hint(NOT_FINITE)
                    .into())
            }
            _ => {
                let unit = input.vocabulary.unit();
                let problem = format!("the model gives {} numbers for {length} {unit}", out.len());
                let expected = format!("{vocab} for each");
                Err(Diagnostic::new("predict.package", problem).expected(expected).into())
            }
        }
    }
}

/// The text that the tokens behind the prompt add to it. They are decoded together with it: whether a word begins
/// with a blank, and what incomplete bytes mean, may depend on what goes before.
fn continuation(input: &TextInput, tokens: &[i32], prompt_tokens: usize) -> String {
    let (prompt, new) = tokens.split_at(prompt_tokens);
    let whole = input.vocabulary.decode(tokens);
    match whole.strip_prefix(input.vocabulary.decode(prompt).as_str()) {
        Some(text) => text.to_owned(),
        None => input.vocabulary.decode(new),
    }
}

/// The next token: the likeliest, or one of the likeliest that is drawn by its probability among them.
fn choose(logits: &[f32], how: Generation, stream: &mut RngStream) -> usize {
    if how.temperature == 0.0 {
        return argmax(logits);
    }
    let kept = if how.top_k == 0 { logits.len() } else { how.top_k.min(logits.len()) };
    let probabilities = softmax(&only_greatest(logits, kept), how.temperature);
    let mut left = stream.uniform();
    for (token, probability) in probabilities.iter().enumerate() {
        left -= probability;
        if left < 0.0 {
            return token;
        }
    }
    // What rounding leaves over goes to the likeliest.
    argmax(logits)
}

/// The logits with all but the `kept` greatest impossible; of equal ones, the first are greater.
fn only_greatest(logits: &[f32], kept: usize) -> Vec<f32> {
    if kept == logits.len() {
        return logits.to_vec();
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.select_nth_unstable_by(kept, |a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    let mut masked = vec![f32::NEG_INFINITY; logits.len()];
    order[..kept].iter().for_each(|i| masked[*i] = logits[*i]);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0f32, 1.0, -1.0];
        let how = |temperature, top_k| Generation { tokens: 0, temperature, top_k, seed: 0 };
        let mut stream = RngKey::new(1).stream();
        assert!((0..10).all(|_| choose(&logits, how(0.0, 0), &mut stream) == 1));
        for (temperature, top_k) in [(0.5, 0), (1.0, 3), (2.0, 7), (1.0, 2), (3.0, 1)] {
            let mut counts = [0.0; 3];
            let n = 20_000;
            let mut draw = || choose(&logits, how(temperature, top_k), &mut stream);
            (0..n).for_each(|_| counts[draw()] += 1.0 / f64::from(n));
            let mut possible = logits;
            match top_k {
                2 => possible[2] = f32::NEG_INFINITY,
                1 => possible = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY],
                _ => {}
            }
            for (count, probability) in counts.iter().zip(softmax(&possible, temperature)) {
                assert!((count - probability).abs() < 0.015, "{temperature} {top_k}: {counts:?}");
                assert!(probability > 0.0 || *count == 0.0);
            }
        }
        assert_eq!(only_greatest(&[2.0, 1.0, 2.0, 2.0], 2), [2.0, f32::NEG_INFINITY, 2.0, f32::NEG_INFINITY]);
    }
}
