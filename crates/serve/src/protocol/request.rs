//! A request to infer: JSON, with binary data behind it where a header says so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use outgrow_ir::{Diagnostic, Problem};
use outgrow_tensor::Tensor;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Data, Datatype, InferRequest, Input, RANK_MAX, Rejected, TENSORS_MAX, Wanted, byte_data, data, explain,
};

/// Parameters, whatever they are: clients send ones that nobody has heard of.
pub(super) type Parameters<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct RequestJson<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
    #[serde(borrow)]
    inputs: Vec<InputJson<'a>>,
    #[serde(borrow)]
    outputs: Option<Vec<WantedJson<'a>>>,
}

#[derive(Deserialize)]
struct InputJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WantedJson<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    parameters: Option<Parameters<'a>>,
}

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Problem {
    Diagnostic::new("serve.request", problem).item(field)
}

/// A parameter of this name, if it is there.
fn parameter<'a, T: Deserialize<'a>>(
    parameters: Option<&Parameters<'a>>,
    name: &str,
    field: &str,
    expected: &str,
) -> Result<Option<T>, Diagnostic> {
    let Some(raw) = parameters.and_then(|all| all.get(name)) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|_| {
        wrong(format!("{field}parameters.{name}"), "the parameter is not what it should be")
            .expected(expected)
    })
}

/// Reads a request. `header_length` is what the header says of how many bytes are JSON, if it is there; where it says 0,
/// the body is the one tensor that the model takes.
///
/// # Errors
/// What is wrong with the request, by field.
pub fn parse_request(body: &Bytes, header_length: Option<&str>) -> Result<InferRequest, Rejected> {
    let length = json_length(body.len(), header_length)?;
    if length == 0 && header_length.is_some() {
        let whole = Some(body.clone());
        return Ok(InferRequest { whole, ..InferRequest::default() });
    }
    let (json, binary) = (&body[..length], body.slice(length..));
    let request: RequestJson<'_> =
        serde_json::from_slice(json).map_err(|error| explain::request(json, &error))?;
    let top = request.parameters.as_ref();
    let timeout_us = parameter::<u64>(top, "timeout", "", "microseconds, 0 or more")?;
    let priority = parameter(top, "priority", "", "a number, 0 or more")?;
    let binary_output = parameter(top, "binary_data_output", "", "true or false")?;
    Ok(InferRequest {
        id: request.id.map(Cow::into_owned),
        priority: priority.unwrap_or(0),
        timeout: timeout_us.filter(|us| *us > 0).map(Duration::from_micros),
        inputs: inputs(request.inputs, binary)?,
        whole: None,
        outputs: outputs(request.outputs.unwrap_or_default())?,
        binary: binary_output.unwrap_or(false),
    })
}

/// How many bytes of the body are JSON.
fn json_length(body: usize, header: Option<&str>) -> Result<usize, Rejected> {
    let Some(text) = header else { return Ok(body) };
    let problem =
        |problem: &str| Diagnostic::new("serve.header", problem).item("Inference-Header-Content-Length");
    match text.trim().parse::<usize>() {
        Ok(length) if length <= body => Ok(length),
        Ok(_) => Err(problem("the header says more bytes than the body has")
            .expected(format!("at most {body}"))
            .into()),
        Err(_) => Err(problem("the header is no number of bytes").expected(format!("at most {body}")).into()),
    }
}

/// That there are not too many tensors.
pub(crate) fn bounded(count: usize, field: &str) -> Result<(), Diagnostic> {
    if count <= TENSORS_MAX {
        return Ok(());
    }
    Err(wrong(field, format!("there are {count} tensors")).expected(format!("at most {TENSORS_MAX}")))
}

fn inputs(given: Vec<InputJson<'_>>, mut binary: Bytes) -> Result<Vec<Input>, Diagnostic> {
    bounded(given.len(), "inputs")?;
    let mut names = BTreeSet::new();
    let mut inputs = Vec::with_capacity(given.len());
    for (i, input) in given.into_iter().enumerate() {
        let field = format!("inputs[{i}]");
        if !names.insert(input.name.clone().into_owned()) {
            let problem = format!("the input `{}` is given twice", input.name);
            return Err(wrong(format!("{field}.name"), problem).hint("give it once"));
        }
        let dtype = match &*input.datatype {
            byte_data::BYTES => None,
            name => Some(Datatype::of(name, &format!("{field}.datatype"))?),
        };
        let shape = shape(&input.shape, &format!("{field}.shape"))?;
        let prefix = format!("{field}.");
        let size = parameter(input.parameters.as_ref(), "binary_data_size", &prefix, "a number of bytes")?;
        let data = match (size, input.data) {
            (None, Some(json)) => match dtype {
                Some(dtype) => {
                    Data::Tensor(data::read(json.get(), dtype.0, shape, &format!("{field}.data"))?)
                }
                None => {
                    let texts = byte_data::texts(json.get(), &shape, &field)?;
                    Data::Bytes(shape, texts)
                }
            },
            (Some(size), None) => match dtype {
                Some(dtype) => Data::Tensor(blob(&mut binary, size, dtype, shape, &field)?),
                None => {
                    let elements = byte_data::elements(taken(&mut binary, size, &field)?, &shape, &field)?;
                    Data::Bytes(shape, elements)
                }
            },
            (Some(_), Some(_)) => {
                return Err(wrong(format!("{field}.data"), "the input has binary data too")
                    .hint("leave out either `data` or `parameters.binary_data_size`"));
            }
            (None, None) => {
                let problem = format!("the input `{}` has no data", input.name);
                return Err(wrong(format!("{field}.data"), problem)
                    .expected("`data`, or `parameters.binary_data_size` with binary data behind the JSON"));
            }
        };
        inputs.push(Input { name: input.name.into_owned(), data });
    }
    if !binary.is_empty() {
        let problem = format!("{} bytes of binary data are left that no input takes", binary.len());
        return Err(wrong("inputs", problem).hint("check each input's `parameters.binary_data_size`"));
    }
    Ok(inputs)
}

/// The shape, if it has as many elements as can be counted.
pub(crate) fn shape(given: &[i64], field: &str) -> Result<Vec<usize>, Diagnostic> {
    let problem = |problem: String| wrong(field, problem);
    if given.len() > RANK_MAX {
        return Err(
            problem(format!("there are {} dimensions", given.len())).expected(format!("at most {RANK_MAX}"))
        );
    }
    let extents: Option<Vec<usize>> = given.iter().map(|n| usize::try_from(*n).ok()).collect();
    let extents = extents
        .ok_or_else(|| problem(format!("{given:?} has a negative dimension")).expected("0 or more"))?;
    // Zeros left out, so that the others may be multiplied in any order.
    let bytes = extents.iter().filter(|n| **n > 0).try_fold(8usize, |product, n| product.checked_mul(*n));
    match bytes.filter(|bytes| isize::try_from(*bytes).is_ok()) {
        Some(_) => Ok(extents),
        None => Err(problem(format!("{given:?} is too large")).expected("a tensor that fits into memory")),
    }
}

/// A tensor of the next bytes of the binary data.
fn blob(
    binary: &mut Bytes,
    size: usize,
    dtype: Datatype,
    shape: Vec<usize>,
    field: &str,
) -> Result<Tensor, Diagnostic> {
    let needed = shape.iter().product::<usize>() * dtype.0.bytes();
    let problem = |problem: String| wrong(format!("{field}.parameters.binary_data_size"), problem);
    if size != needed {
        let expected = format!("{needed}, for {} of the shape {shape:?}", dtype.name());
        return Err(problem(format!("the binary data is said to have {size} bytes")).expected(expected));
    }
    let bytes = taken(binary, size, field)?;
    Tensor::from_shared(dtype.0, shape, bytes)
        .map_err(|error| problem(error.to_string()).expected(needed.to_string()))
}

/// The next bytes of the binary data.
fn taken(binary: &mut Bytes, size: usize, field: &str) -> Result<Bytes, Diagnostic> {
    if size <= binary.len() {
        return Ok(binary.split_to(size));
    }
    let problem = format!("{size} bytes are more than are left of the body");
    let problem = wrong(format!("{field}.parameters.binary_data_size"), problem);
    Err(problem.expected(format!("at most {}", binary.len())))
}

/// That a tensor is to be in memory that is shared.
pub(crate) fn no_shared_memory(prefix: &str) -> Diagnostic {
    wrong(format!("{prefix}parameters.shared_memory_region"), "there is no shared memory here")
        .hint("leave it out: tensors come with the request and the answer")
}

/// That an output is to be turned into classes.
pub(crate) fn no_classes(prefix: &str) -> Diagnostic {
    wrong(format!("{prefix}parameters.classification"), "outputs are not turned into classes")
        .hint("leave it out, and look for the largest numbers of the output")
}

fn outputs(given: Vec<WantedJson<'_>>) -> Result<Vec<Wanted>, Diagnostic> {
    bounded(given.len(), "outputs")?;
    let mut wanted: Vec<Wanted> = Vec::with_capacity(given.len());
    for (i, output) in given.into_iter().enumerate() {
        let prefix = format!("outputs[{i}].");
        let parameters = output.parameters.as_ref();
        if parameters.is_some_and(|all| all.contains_key("shared_memory_region")) {
            return Err(no_shared_memory(&prefix));
        }
        let classes = parameter::<u64>(parameters, "classification", &prefix, "a number")?;
        if classes.is_some_and(|classes| classes > 0) {
            return Err(no_classes(&prefix));
        }
        if wanted.iter().any(|there| there.name == output.name) {
            let problem = format!("the output `{}` is asked for twice", output.name);
            return Err(wrong(format!("{prefix}name"), problem).hint("ask for it once"));
        }
        let binary = parameter(parameters, "binary_data", &prefix, "true or false")?;
        wanted.push(Wanted { name: output.name.into_owned(), binary });
    }
    Ok(wanted)
}
