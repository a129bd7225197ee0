//! Answers as bytes: JSON, and binary data behind it for the outputs that were asked for so.

use outgrow_ir::Diagnostic;
use outgrow_tensor::{DType, Tensor};
use serde::Serialize;
use serde_json::json;

use super::{Datatype, InferResponse, Output, Rejected};

/// The body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Vec<u8>,
    /// How many bytes of it are JSON, where binary data follows.
    pub json_length: Option<usize>,
}

/// Writes an answer.
///
/// # Errors
/// When an output has to be in JSON that JSON cannot say.
pub fn encode_response(response: &InferResponse) -> Result<Encoded, Rejected> {
    let mut body = Vec::new();
    body.extend_from_slice(b"{\"model_name\":");
    write(&mut body, &response.model);
    body.extend_from_slice(b",\"model_version\":");
    write(&mut body, &response.version);
    if let Some(id) = &response.id {
        body.extend_from_slice(b",\"id\":");
        write(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    for (i, output) in response.outputs.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write_output(&mut body, output)?;
    }
    body.extend_from_slice(b"]}");
    let length = body.len();
    let mut binary = response.outputs.iter().filter(|output| output.binary).peekable();
    let json_length = binary.peek().map(|_| length);
    binary.for_each(|output| body.extend_from_slice(&output.tensor.le_bytes()));
    Ok(Encoded { body, json_length })
}

/// Writes a value as JSON: into memory, and of what JSON can say, it cannot fail.
pub(super) fn write(body: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let written = serde_json::to_writer(body, value);
    debug_assert!(written.is_ok(), "{written:?}");
}

fn write_output(body: &mut Vec<u8>, Output { name, tensor, binary }: &Output) -> Result<(), Rejected> {
    write_tensor(body, name, tensor, *binary)
        .map_err(|problem| problem.item(format!("output `{name}`")).into())
}

/// Writes a tensor as the protocol has it, of requests and of answers; of binary data only how long it is.
pub(super) fn write_tensor(
    body: &mut Vec<u8>,
    name: &str,
    tensor: &Tensor,
    binary: bool,
) -> Result<(), Diagnostic> {
    body.extend_from_slice(b"{\"name\":");
    write(body, name);
    body.extend_from_slice(b",\"datatype\":");
    write(body, Datatype(tensor.dtype()).name());
    body.extend_from_slice(b",\"shape\":");
    write(body, tensor.shape().dims());
    if binary {
        body.extend_from_slice(b",\"parameters\":");
        write(body, &json!({ "binary_data_size": tensor.bytes() }));
    } else {
        body.extend_from_slice(b",\"data\":");
        write_data(body, tensor)?;
    }
    body.push(b'}');
    Ok(())
}

fn write_data(body: &mut Vec<u8>, tensor: &Tensor) -> Result<(), Diagnostic> {
    let finite = |bad: Option<usize>| match bad {
        None => Ok(()),
        Some(at) => {
            let problem = format!("element {at}, counted from 0, is not finite, which JSON cannot say");
            Err(Diagnostic::new("serve.not-finite", problem)
                .hint("ask for it as binary data, with `binary_data` in the output's parameters"))
        }
    };
    let fault = |error| Diagnostic::fault("serve.output", format!("{error}"));
    match tensor.dtype() {
        DType::Bool => write(body, tensor.as_slice::<bool>().map_err(fault)?),
        DType::U8 => write(body, tensor.as_slice::<u8>().map_err(fault)?),
        DType::I32 => write(body, tensor.as_slice::<i32>().map_err(fault)?),
        DType::I64 => write(body, tensor.as_slice::<i64>().map_err(fault)?),
        DType::F32 => {
            let data = tensor.as_slice::<f32>().map_err(fault)?;
            finite(data.iter().position(|x| !x.is_finite()))?;
            write(body, data);
        }
        DType::F64 => {
            let data = tensor.as_slice::<f64>().map_err(fault)?;
            finite(data.iter().position(|x| !x.is_finite()))?;
            write(body, data);
        }
        DType::BF16 => {
            return Err(Diagnostic::new("serve.data", "floats of 16 bits have no form in JSON")
                .hint("ask for it as binary data, with `binary_data` in the output's parameters"));
        }
    }
    Ok(())
}
