//! The raw form of a model, `NAME.raw`: records as the model was trained on them, each in one element of bytes, through
//! the very transform that it was trained with. What comes of them runs with the requests of the typed form.

use bytes::Bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::Model;
use outgrow_tensor::Tensor;
use outgrow_transform::Record;

use crate::protocol::{Data, InferRequest, Kind, Rejected, TensorMetadata};

/// In which form a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By tensors for its inputs.
    Typed,
    /// By raw records.
    Raw,
}

/// What is added to a model's name.
pub const SUFFIX: &str = ".raw";
/// The one input.
pub const INPUT: &str = "raw";
/// With what packed bytes begin. They are not unpacked: how large they would be is not known.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Whether a model takes raw records: one that was trained here, on records that stand for themselves.
pub fn takes(model: &Model) -> bool {
    model.interpretation().is_ok_and(|interpretation| interpretation.text().is_none())
}

/// The input of the raw form.
pub fn input() -> TensorMetadata {
    TensorMetadata { name: INPUT.to_owned(), datatype: "BYTES", shape: vec![-1] }
}

/// The records in a request, as the arrays that the model takes.
pub fn arrays(model: &Model, request: &InferRequest) -> Result<Vec<Tensor>, Rejected> {
    let elements = match (&request.whole, request.inputs.as_slice()) {
        (Some(body), _) => std::slice::from_ref(body),
        (None, [one]) if one.name == INPUT => match &one.data {
            Data::Bytes(shape, elements) if shape.len() == 1 || shape[1..].iter().all(|n| *n == 1) => {
                elements
            }
            Data::Bytes(shape, _) => {
                let problem = Diagnostic::new("serve.input", format!("the records have the shape {shape:?}"));
                return Err(problem.item("inputs[0].shape").expected("[n], for n records").into());
            }
            Data::Tensor(tensor) => {
                let problem = format!("the records are of {}{}", tensor.dtype(), tensor.shape());
                return Err(Diagnostic::new("serve.input", problem)
                    .item("inputs[0].datatype")
                    .expected("BYTES; numbers go to the model without `.raw`")
                    .into());
            }
        },
        (None, given) => {
            let problem = format!("there are {} inputs, or one of another name", given.len());
            return Err(Diagnostic::new("serve.input", problem)
                .item("inputs")
                .expected(format!("one input, `{INPUT}`"))
                .into());
        }
    };
    of_elements(model, elements, &|i| format!("inputs[0].data[{i}]"))
}

/// Records, each in one element, as the arrays that the model takes. `field` says where each stands.
///
/// # Errors
/// When there are none, and for all that are no record of the model's, by their fields.
pub fn of_elements(
    model: &Model,
    elements: &[Bytes],
    field: &dyn Fn(usize) -> String,
) -> Result<Vec<Tensor>, Rejected> {
    if elements.is_empty() {
        let problem = Diagnostic::new("serve.input", "there are no records");
        return Err(problem.item("inputs").expected("at least one").into());
    }
    let invalid = |problems| Rejected::new(Kind::Invalid, problems);
    let reader = model.interpretation().map_err(|problem| invalid(problem.into()))?.reader();
    let mut problems = Diagnostics::default();
    let mut records = Vec::with_capacity(elements.len());
    for (i, element) in elements.iter().enumerate() {
        match one(&reader, element) {
            Ok(record) => records.push(record),
            Err(problem) => problems.push(placed(problem, &field(i))),
        }
    }
    problems.into_result(()).map_err(invalid)?;
    model.arrays(&records).map_err(|found| {
        // Whose fault it is, if it is one record's.
        let mut each = Diagnostics::default();
        for (i, record) in records.iter().enumerate() {
            if let Err(found) = model.arrays(std::slice::from_ref(record)) {
                each.0.extend(found.0.into_iter().map(|problem| placed(problem, &field(i))));
            }
        }
        invalid(if each.0.is_empty() { found } else { each })
    })
}

fn one(reader: &outgrow_predict::Reader<'_>, element: &Bytes) -> Result<Record, Diagnostic> {
    if element.starts_with(&GZIP) {
        return Err(Diagnostic::new("serve.record", "the record is packed by gzip")
            .hint("pack the whole body, with `Content-Encoding: gzip`"));
    }
    let mut records = reader.bytes(element.clone())?;
    let first = records.next().transpose()?.ok_or_else(|| {
        Diagnostic::new("serve.record", "there is no record in it").expected("one record in each element")
    })?;
    if records.next().is_some() {
        return Err(Diagnostic::new("serve.record", "there is more than one record in it")
            .expected("one record in each element"));
    }
    Ok(first)
}

/// A problem within a record, by the record's field. Lines and files mean nothing in a request.
fn placed(mut problem: Diagnostic, field: &str) -> Diagnostic {
    let within = problem.place.item.take();
    problem.place = outgrow_ir::Place::default();
    problem.item(within.map_or_else(|| field.to_owned(), |item| format!("{field}: {item}")))
}
