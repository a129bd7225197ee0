//! Requests that were recorded with their answers and travel with a version of a model: it is served only if it still
//! gives these answers. One JSON object per line of `samples.jsonl`: a request as the protocol has it, whose `outputs`
//! have `shape`, `datatype` and `data` as an answer has them.

use std::path::Path;

use bytes::Bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::{DType, Tensor};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::{Data, parse_request};
use crate::raw::Form;
use crate::served::Served;

/// The file in the folder of a version.
const FILE: &str = "samples.jsonl";
/// Most bytes that are read of it.
const BYTES_MAX: u64 = 64 << 20;
/// By which part of its size, and of 1, a number may differ: other processors add in other orders.
const TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Recorded<'a> {
    #[serde(borrow)]
    outputs: &'a RawValue,
}

/// Checks a version, opened from this path, against the samples that lie there, if there are any.
///
/// # Errors
/// For the first sample that is no sample, or to which the model says something else.
pub fn check(served: &Served, path: &Path) -> Result<(), Diagnostics> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let file = folder.join(FILE);
    let wrong =
        |problem: String, line: usize| Diagnostic::new("serve.sample", problem).file(&file).line(line);
    match std::fs::metadata(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if found.len() > BYTES_MAX => {
            return Err(wrong("the samples are too large".into(), 1)
                .expected(format!("at most {BYTES_MAX} bytes"))
                .into());
        }
        _ => {}
    }
    let text = std::fs::read(&file).map_err(|error| {
        wrong(format!("the samples cannot be read: {error}"), 1).hint("see what the system says")
    })?;
    for (i, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = |mut found: Diagnostics| {
            for problem in &mut found.0 {
                problem.place.file = Some(file.clone());
                problem.place.line = Some(i + 1);
            }
            found
        };
        one(served, line).map_err(place)?;
    }
    Ok(())
}

fn one(served: &Served, line: &[u8]) -> Result<(), Diagnostics> {
    let parsed = |body: Bytes| parse_request(&body, None).map_err(|rejected| rejected.problems);
    let request = parsed(Bytes::copy_from_slice(line))?;
    let recorded: Recorded<'_> = serde_json::from_slice(line).map_err(|error| {
        Diagnostic::new("serve.sample", format!("the sample has no answer: {error}"))
            .item("outputs")
            .expected("outputs with `shape`, `datatype` and `data`")
    })?;
    // The tensors of an answer are written as those of a request.
    let expected = parsed(format!("{{\"inputs\":{}}}", recorded.outputs.get()).into_bytes().into())?;
    let prepared = served.prepare(Form::Typed, &request).map_err(|rejected| rejected.problems)?;
    let answer = served.run(&[&prepared.inputs])?.remove(0);
    let outputs = served.chosen(&prepared.outputs, &answer);
    for (output, expected) in outputs.iter().zip(&expected.inputs) {
        let Data::Tensor(expected) = &expected.data else { continue };
        same(&output.tensor, expected).map_err(|problem| {
            Diagnostic::new("serve.sample", format!("the answer is not the recorded one: {problem}"))
                .item(format!("output `{}`", output.name))
                .hint("record the samples again if this model is right")
        })?;
    }
    Ok(())
}

fn same(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if (found.dtype(), found.shape()) != (expected.dtype(), expected.shape()) {
        let of = |tensor: &Tensor| format!("{}{}", tensor.dtype(), tensor.shape());
        return Err(format!("it is {}, and {} was recorded", of(found), of(expected)));
    }
    let number = |tensor: &Tensor, i: usize| match tensor.dtype() {
        DType::F32 | DType::F64 | DType::BF16 => tensor.get_f64(i),
        _ => tensor.get_i64(i) as f64,
    };
    for i in 0..found.elements() {
        let (a, b) = (number(found, i), number(expected, i));
        let off = (a - b).abs();
        // What is not a number is no answer that was recorded.
        if off.is_nan() || off > TOLERANCE * b.abs().max(1.0) {
            return Err(format!("element {i} is {a}, and {b} was recorded"));
        }
    }
    Ok(())
}
