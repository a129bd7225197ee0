//! Requests as people write them, in the form of TensorFlow Serving: `instances`, one value for each row, or `inputs`,
//! one value for all rows. Values are numbers, nested as the input's shape says, or raw records: texts, objects with the
//! columns of a table, and `{"b64": …}` for bytes, as those of an image.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outgrow_ir::{Diagnostic, Problem};
use outgrow_predict::Port;
use outgrow_tensor::{DType, Tensor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json, json};

use crate::protocol::{Data, InferRequest, Input, RANK_MAX, Rejected, Wanted, read_data};
use crate::raw::{self, Form};
use crate::served::Served;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// A request.
#[derive(Debug)]
pub struct Plain {
    /// What it asks for.
    pub request: InferRequest,
    /// Which form of the model is asked.
    pub form: Form,
    /// Whether rows are answered one by one, as they were given.
    pub by_instances: bool,
}

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Problem {
    Diagnostic::new("serve.request", problem).item(field)
}

/// Reads a request to a model; one to the raw form takes nothing but records.
///
/// # Errors
/// What is wrong with it, by field.
pub fn parse(served: &Served, form: Form, body: &[u8]) -> Result<Plain, Rejected> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|error| {
        Diagnostic::new("serve.json", format!("the body is not as it should be: {error}"))
            .item("body")
            .expected("one JSON object with `instances` or `inputs`")
    })?;
    let (field, value, by_instances) = match (body.instances, body.inputs) {
        (Some(value), None) => ("instances", value, true),
        (None, Some(value)) => ("inputs", value, false),
        _ => {
            return Err(wrong("body", "there is not one of `instances` and `inputs`")
                .expected("`instances`, an array with a value for each row, or `inputs`, a value for all")
                .into());
        }
    };
    let ports = served.model().inputs();
    if let Some(columns) = object(value).filter(|columns| !by_instances && is_of(columns, ports)) {
        let inputs = ports.iter().map(|port| {
            let value = columns[&Cow::Borrowed(port.name.as_str())];
            input(port, value.get(), &format!("{field}.{}", port.name))
        });
        let inputs = inputs.collect::<Result<_, _>>()?;
        return Ok(Plain { request: asked(inputs), form: Form::Typed, by_instances });
    }
    let rows: Vec<&RawValue> = match serde_json::from_str(value.get()) {
        Ok(rows) => rows,
        Err(_) if !by_instances => vec![value],
        Err(_) => {
            return Err(wrong(field, "is no array").expected("an array with a value for each row").into());
        }
    };
    let is_raw = form == Form::Raw
        || (raw::takes(served.model()) && rows.first().is_some_and(|row| is_record(row, ports)));
    let inputs = if is_raw {
        let element = |(i, row): (usize, &&RawValue)| element(row, &format!("{field}[{i}]"));
        let elements: Vec<Bytes> = rows.iter().enumerate().map(element).collect::<Result<_, _>>()?;
        vec![Input { name: raw::INPUT.to_owned(), data: Data::Bytes(vec![elements.len()], elements) }]
    } else if let ([port], false) = (ports, rows.first().is_some_and(|row| object(row).is_some())) {
        vec![input(port, value.get(), field)?]
    } else {
        columns(ports, &rows, field)?
    };
    let form = if is_raw { Form::Raw } else { Form::Typed };
    Ok(Plain { request: asked(inputs), form, by_instances })
}

/// Says where something is wrong by the fields that the client has written, and not by those of the protocol that they
/// became.
pub fn by_own_fields(mut rejected: Rejected, by_instances: bool) -> Rejected {
    let own = if by_instances { "instances" } else { "inputs" };
    for problem in &mut rejected.problems.0 {
        let Some(item) = &mut problem.place.item else { continue };
        let rest = item.strip_prefix("inputs[").and_then(|rest| rest.split_once(']'));
        if let Some((_, rest)) = rest {
            *item = format!("{own}{}", rest.strip_prefix(".data").unwrap_or(rest));
        }
    }
    rejected
}

fn asked(inputs: Vec<Input>) -> InferRequest {
    InferRequest { inputs, outputs: Vec::<Wanted>::new(), ..InferRequest::default() }
}

fn object<'a>(value: &'a RawValue) -> Option<BTreeMap<Cow<'a, str>, &'a RawValue>> {
    value.get().starts_with('{').then(|| serde_json::from_str(value.get()).ok()).flatten()
}

/// Whether an object has the model's inputs, and nothing else.
fn is_of(object: &BTreeMap<Cow<'_, str>, &RawValue>, ports: &[Port]) -> bool {
    object.len() == ports.len() && ports.iter().all(|port| object.contains_key(port.name.as_str()))
}

fn is_record(value: &RawValue, ports: &[Port]) -> bool {
    let text = value.get();
    text.starts_with('"') || object(value).is_some_and(|object| !is_of(&object, ports))
}

/// The bytes of a record.
fn element(value: &RawValue, field: &str) -> Result<Bytes, Diagnostic> {
    let text = value.get();
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).unwrap_or_default();
        return Ok(Bytes::from(text));
    }
    let Some(members) = object(value) else {
        let problem = wrong(field, "is no record");
        return Err(
            problem.expected("text, an object with the columns of a table, or {\"b64\": …} for bytes")
        );
    };
    let packed = match (members.len(), members.get("b64")) {
        (1, Some(packed)) => packed,
        _ => return Ok(Bytes::copy_from_slice(text.as_bytes())),
    };
    let packed: Option<Cow<'_, str>> = serde_json::from_str(packed.get()).ok();
    let bytes = packed.and_then(|packed| STANDARD.decode(packed.as_bytes()).ok());
    bytes
        .map(Bytes::from)
        .ok_or_else(|| wrong(format!("{field}.b64"), "is no base64").expected("bytes as base64"))
}

/// One input after the other, of rows that are objects with a value for each.
fn columns(ports: &[Port], rows: &[&RawValue], field: &str) -> Result<Vec<Input>, Diagnostic> {
    let names = || ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut columns = vec![String::from("["); ports.len()];
    for (i, row) in rows.iter().enumerate() {
        let members = object(row).filter(|members| is_of(members, ports)).ok_or_else(|| {
            wrong(format!("{field}[{i}]"), "does not have a value for each input")
                .expected(format!("an object with {}", names()))
        })?;
        for (port, column) in ports.iter().zip(&mut columns) {
            if i > 0 {
                column.push(',');
            }
            column.push_str(members[&Cow::Borrowed(port.name.as_str())].get());
        }
    }
    columns.iter_mut().for_each(|column| column.push(']'));
    ports.iter().zip(columns).map(|(port, column)| input(port, &column, field)).collect()
}

/// A tensor, whose shape is how deep and wide the numbers are nested.
fn input(port: &Port, json: &str, field: &str) -> Result<Input, Diagnostic> {
    let mut shape = Vec::new();
    let mut inner = json;
    while inner.starts_with('[') && shape.len() < RANK_MAX {
        let level: Vec<&RawValue> = serde_json::from_str(inner).unwrap_or_default();
        shape.push(level.len());
        inner = level.first().map_or("", |first| first.get());
    }
    let tensor = read_data(json, port.dtype.unwrap_or(DType::F32), shape, field)?;
    Ok(Input { name: port.name.clone(), data: Data::Tensor(tensor) })
}

/// The answer to a request: for raw records what the numbers mean, else the numbers.
///
/// # Errors
/// For an output that JSON cannot say.
pub fn answer(served: &Served, plain: &Plain, outputs: &[Tensor]) -> Result<Vec<u8>, Rejected> {
    let key = if plain.by_instances { "predictions" } else { "outputs" };
    let value = match plain.form {
        Form::Raw => meaning(served, outputs)?,
        Form::Typed => numbers(served, plain.by_instances, outputs)?,
    };
    Ok(json!({ key: value }).to_string().into_bytes())
}

fn meaning(served: &Served, outputs: &[Tensor]) -> Result<Json, Diagnostic> {
    let meaning = served.model().interpretation()?.meaning();
    let fault = || Diagnostic::fault("serve.output", "the output does not hold numbers for each row");
    let output = outputs.first().ok_or_else(fault)?;
    let rows = output.shape().dims().first().copied().unwrap_or(1).max(1);
    let numbers = output.as_slice::<f32>().map_err(|_| fault())?;
    let row = |numbers: &[f32]| Ok(Json::Object(meaning.to_json(&meaning.answer(numbers)?)));
    numbers.chunks(numbers.len().div_ceil(rows).max(1)).map(row).collect()
}

/// Rows one by one or all together; the numbers of one output, or by their outputs' names.
fn numbers(served: &Served, by_instances: bool, outputs: &[Tensor]) -> Result<Json, Diagnostic> {
    let ports = served.model().outputs();
    let nested = |(port, tensor): (&Port, &Tensor)| {
        nested(tensor).ok_or_else(|| {
            Diagnostic::new("serve.not-finite", "the output has numbers that JSON cannot say")
                .item(format!("output `{}`", port.name))
                .hint("ask for it as binary data, by /v2/models/NAME/infer")
        })
    };
    let mut all = ports.iter().zip(outputs).map(nested).collect::<Result<Vec<_>, _>>()?;
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    let named = |values: Vec<Json>| {
        Json::Object(ports.iter().map(|port| port.name.clone()).zip(values).collect::<Map<_, _>>())
    };
    if !by_instances {
        return Ok(named(all));
    }
    let rows = all.first().and_then(Json::as_array).map_or(0, Vec::len);
    let row = |i: usize| named(all.iter().map(|output| output[i].clone()).collect());
    Ok((0..rows).map(row).collect())
}

/// A tensor as nested arrays; nothing where an element is not finite.
fn nested(tensor: &Tensor) -> Option<Json> {
    let element = |i: usize| -> Option<Json> {
        match tensor.dtype() {
            DType::Bool => Some(json!(tensor.get_i64(i) != 0)),
            DType::U8 | DType::I32 | DType::I64 => Some(json!(tensor.get_i64(i))),
            // With the digits of its own type: as a double it would have more than it means.
            DType::F32 => {
                let x = tensor.get_f64(i) as f32;
                x.is_finite().then(|| serde_json::from_str(&serde_json::to_string(&x).ok()?).ok()).flatten()
            }
            DType::F64 | DType::BF16 => Some(tensor.get_f64(i)).filter(|x| x.is_finite()).map(|x| json!(x)),
        }
    };
    fn level(dims: &[usize], next: &mut usize, element: &dyn Fn(usize) -> Option<Json>) -> Option<Json> {
        match dims.split_first() {
            Some((n, rest)) => (0..*n).map(|_| level(rest, next, element)).collect(),
            None => {
                *next += 1;
                element(*next - 1)
            }
        }
    }
    level(tensor.shape().dims(), &mut 0, &element)
}
