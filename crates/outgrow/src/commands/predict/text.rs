//! Language models: which token comes next, and how a text goes on.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{RngKey, RngStream};
use outgrow_transform::TextInput;

use super::answer::{NOT_FINITE, argmax, softmax};
use super::model::Predictor;

/// How a text is to go on.
#[derive(Clone, Copy, Debug)]
pub struct Generation {
    /// By how many tokens.
    pub tokens: u32,
    /// By what the logits are divided before a token is drawn; 0 always takes the likeliest one.
    pub temperature: f64,
    /// What the draws follow from.
    pub seed: u64,
}

/// What a model makes of a text.
#[derive(Debug)]
pub struct Continuation {
    /// The probability of each token of the vocabulary to come next.
    pub next: Vec<f64>,
    /// How the text goes on.
    pub text: String,
}

/// Lets the model go on with a text. Every token is drawn given the last ones, as many as the model looks back
/// on. The draws of text number `index` have a random stream of their own.
///
/// # Errors
/// When the text is empty or has a character that the model does not know.
pub fn go_on(
    predictor: &mut Predictor,
    input: &TextInput,
    prompt: &str,
    index: u64,
    how: Generation,
) -> Result<Continuation, Diagnostics> {
    // All of it, so that no unknown character goes unnoticed.
    let tokens = input.vocabulary.encode(prompt)?;
    if tokens.is_empty() {
        return Err(Diagnostic::new("predict.empty", "the text is empty")
            .expected("at least one character to go on from")
            .into());
    }
    let mut all = tokens;
    let prompt_tokens = all.len();
    let mut stream = RngKey::new(how.seed).fold_in_name("predict").fold_in(index).stream();
    let mut next = Vec::new();
    for i in 0..=how.tokens {
        let window = &all[all.len().saturating_sub(input.context)..];
        let logits = logits(predictor, input, window)?;
        if i == 0 {
            next = softmax(&logits, 1.0);
        }
        if i == how.tokens {
            break;
        }
        all.push(choose(&logits, how.temperature, &mut stream) as i32);
    }
    Ok(Continuation { next, text: continuation(input, &all, prompt_tokens) })
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

/// The logits of the token after the window.
fn logits(predictor: &mut Predictor, input: &TextInput, window: &[i32]) -> Result<Vec<f32>, Diagnostics> {
    let out = predictor.outputs_of(input.batch(&[window.to_vec()])?.inputs, 1)?;
    let vocab = input.vocabulary.len();
    let at = (window.len() - 1) * vocab;
    match out.get(at..at + vocab) {
        Some(logits) if out.len() == input.context * vocab && logits.iter().all(|x| x.is_finite()) => {
            Ok(logits.to_vec())
        }
        Some(logits) if logits.iter().any(|x| !x.is_finite()) => {
            Err(Diagnostic::new("predict.non-finite", "the model's answer is not finite")
                .hint(NOT_FINITE)
                .into())
        }
        _ => Err(Diagnostic::new(
            "predict.package",
            format!(
                "the model gives {} numbers for {} {}",
                out.len(),
                input.context,
                input.vocabulary.unit()
            ),
        )
        .expected(format!("{vocab} for each"))
        .into()),
    }
}

/// The next token: the likeliest, or one drawn by its probability.
fn choose(logits: &[f32], temperature: f64, stream: &mut RngStream) -> usize {
    if temperature == 0.0 {
        return argmax(logits);
    }
    let probabilities = softmax(logits, temperature);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0f32, 1.0, -1.0];
        let mut stream = RngKey::new(1).stream();
        assert!((0..10).all(|_| choose(&logits, 0.0, &mut stream) == 1));
        for temperature in [0.5, 1.0, 2.0] {
            let mut counts = [0.0; 3];
            let n = 20_000;
            (0..n).for_each(|_| counts[choose(&logits, temperature, &mut stream)] += 1.0 / f64::from(n));
            for (count, probability) in counts.iter().zip(softmax(&logits, temperature)) {
                assert!((count - probability).abs() < 0.015, "{temperature}: {counts:?}");
            }
        }
    }
}
