//! Messages of gRPC to and from what the protocol has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use outgrow_ir::{Diagnostic, Problem};
use outgrow_tensor::{DType, Element, Tensor};
use serde_json::{Value as Json, json};

use super::messages::infer_parameter::ParameterChoice;
use super::messages::model_infer_request::InferInputTensor;
use super::messages::model_infer_response::InferOutputTensor;
use super::messages::model_metadata_response::TensorMetadata as TensorMessage;
use super::messages::model_repository_parameter::ParameterChoice as RepositoryChoice;
use super::messages::repository_index_response::ModelIndex;
use super::messages::*;
use crate::protocol::{
    self, BYTES, ConfigTensor, Data, Datatype, IndexEntry, InferRequest, InferResponse, Input, Rejected,
    Wanted, bounded, byte_elements, no_classes, no_shared_memory, shape,
};

type Parameters = BTreeMap<String, InferParameter>;

fn wrong(field: impl Into<String>, problem: impl Into<String>) -> Problem {
    Diagnostic::new("serve.request", problem).item(field)
}

/// The time that a client gives, as gRPC's header `grpc-timeout` says it: up to eight digits and a unit.
pub fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// About how many bytes a request has.
pub fn bytes(request: &ModelInferRequest) -> usize {
    let typed = |contents: &InferTensorContents| {
        let longest =
            [contents.int64_contents.len(), contents.fp64_contents.len(), contents.fp32_contents.len()];
        longest.into_iter().max().unwrap_or(0) * 8
    };
    let typed = request.inputs.iter().filter_map(|input| input.contents.as_ref()).map(typed);
    typed.sum::<usize>() + request.raw_input_contents.iter().map(Bytes::len).sum::<usize>()
}

/// A parameter that is a whole number, 0 or more.
fn number(parameters: &Parameters, name: &str, field: &str) -> Result<Option<u64>, Diagnostic> {
    let Some(choice) = parameters.get(name).and_then(|parameter| parameter.parameter_choice.as_ref()) else {
        return Ok(None);
    };
    let number = match choice {
        ParameterChoice::Int64Param(number) => u64::try_from(*number).ok(),
        ParameterChoice::Uint64Param(number) => Some(*number),
        _ => None,
    };
    number.map(Some).ok_or_else(|| {
        wrong(format!("{field}parameters.{name}"), "the parameter is not what it should be")
            .expected("a whole number, 0 or more, as `int64_param` or `uint64_param`")
    })
}

/// A request as the protocol has it.
///
/// # Errors
/// What is wrong with it, by field.
pub fn request(message: ModelInferRequest) -> Result<InferRequest, Rejected> {
    bounded(message.inputs.len(), "inputs")?;
    bounded(message.outputs.len(), "outputs")?;
    let timeout_us = number(&message.parameters, "timeout", "")?;
    let priority = number(&message.parameters, "priority", "")?.unwrap_or(0);
    let raw = message.raw_input_contents;
    if !raw.is_empty() && raw.len() != message.inputs.len() {
        let problem = format!("there are {} raw contents for {} inputs", raw.len(), message.inputs.len());
        return Err(wrong("raw_input_contents", problem).expected("one for each input, or none").into());
    }
    let mut raw = raw.into_iter();
    let mut names = BTreeSet::new();
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for (i, input) in message.inputs.into_iter().enumerate() {
        let field = format!("inputs[{i}]");
        if !names.insert(input.name.clone()) {
            let problem = format!("the input `{}` is given twice", input.name);
            return Err(wrong(format!("{field}.name"), problem).hint("give it once").into());
        }
        inputs.push(one_input(input, raw.next(), &field)?);
    }
    let mut outputs: Vec<Wanted> = Vec::with_capacity(message.outputs.len());
    for (i, output) in message.outputs.into_iter().enumerate() {
        let prefix = format!("outputs[{i}].");
        if output.parameters.contains_key("shared_memory_region") {
            return Err(no_shared_memory(&prefix).into());
        }
        if number(&output.parameters, "classification", &prefix)?.is_some_and(|classes| classes > 0) {
            return Err(no_classes(&prefix).into());
        }
        if outputs.iter().any(|there| there.name == output.name) {
            let problem = format!("the output `{}` is asked for twice", output.name);
            return Err(wrong(format!("{prefix}name"), problem).hint("ask for it once").into());
        }
        outputs.push(Wanted { name: output.name, binary: None });
    }
    Ok(InferRequest {
        id: Some(message.id).filter(|id| !id.is_empty()),
        priority: u32::try_from(priority).unwrap_or(u32::MAX),
        timeout: timeout_us.filter(|us| *us > 0).map(Duration::from_micros),
        inputs,
        whole: None,
        outputs,
        binary: true,
    })
}

fn one_input(input: InferInputTensor, raw: Option<Bytes>, field: &str) -> Result<Input, Diagnostic> {
    if input.parameters.contains_key("shared_memory_region") {
        return Err(no_shared_memory(&format!("{field}.")));
    }
    let dims = shape(&input.shape, &format!("{field}.shape"))?;
    let is_bytes = input.datatype == BYTES;
    let data = match (raw, input.contents) {
        (Some(_), Some(contents)) if contents != InferTensorContents::default() => {
            return Err(wrong(format!("{field}.contents"), "the input has raw contents too")
                .hint("leave out either `contents` or `raw_input_contents`"));
        }
        (Some(raw), _) if is_bytes => {
            let elements = byte_elements(raw, &dims, field)?;
            Data::Bytes(dims, elements)
        }
        (Some(raw), _) => {
            let dtype = Datatype::of(&input.datatype, &format!("{field}.datatype"))?.0;
            let needed = dims.iter().product::<usize>() * dtype.bytes();
            let problem = format!("the raw contents of `{}` have {} bytes", input.name, raw.len());
            let expected = format!("{needed}, for {} of the shape {dims:?}", input.datatype);
            let given = Some(raw).filter(|raw| raw.len() == needed);
            let tensor = given.and_then(|raw| Tensor::from_shared(dtype, dims, raw).ok());
            Data::Tensor(
                tensor.ok_or_else(|| wrong(format!("{field}.contents"), problem).expected(expected))?,
            )
        }
        (None, Some(contents)) if is_bytes => {
            let count = dims.iter().product::<usize>();
            if contents.bytes_contents.len() != count {
                let problem = format!("there are {} elements", contents.bytes_contents.len());
                return Err(wrong(format!("{field}.contents.bytes_contents"), problem)
                    .expected(format!("{count}, by the shape")));
            }
            Data::Bytes(dims, contents.bytes_contents)
        }
        (None, Some(contents)) => {
            let dtype = Datatype::of(&input.datatype, &format!("{field}.datatype"))?.0;
            Data::Tensor(typed(contents, dtype, dims, field)?)
        }
        (None, None) => {
            let problem = format!("the input `{}` has no data", input.name);
            return Err(
                wrong(format!("{field}.contents"), problem).expected("`contents`, or `raw_input_contents`")
            );
        }
    };
    Ok(Input { name: input.name, data })
}

/// A tensor of typed contents.
fn typed(
    contents: InferTensorContents,
    dtype: DType,
    dims: Vec<usize>,
    field: &str,
) -> Result<Tensor, Diagnostic> {
    match dtype {
        DType::Bool => filled("bool_contents", contents.bool_contents, dims, field),
        DType::I32 => filled("int_contents", contents.int_contents, dims, field),
        DType::I64 => filled("int64_contents", contents.int64_contents, dims, field),
        DType::F32 => filled("fp32_contents", contents.fp32_contents, dims, field),
        DType::F64 => filled("fp64_contents", contents.fp64_contents, dims, field),
        DType::U8 => {
            let small: Result<Vec<u8>, _> = contents.uint_contents.iter().map(|x| u8::try_from(*x)).collect();
            let small = small.map_err(|_| {
                wrong(format!("{field}.contents.uint_contents"), "a number is too large for UINT8")
                    .expected("0 to 255")
            })?;
            filled("uint_contents", small, dims, field)
        }
        DType::BF16 => Err(wrong(format!("{field}.contents"), "floats of 16 bits have no typed contents")
            .hint("send them in `raw_input_contents`")),
    }
}

fn filled<T: Element>(
    part: &str,
    given: Vec<T>,
    dims: Vec<usize>,
    field: &str,
) -> Result<Tensor, Diagnostic> {
    let (count, needed) = (given.len(), dims.iter().product::<usize>());
    Tensor::new(dims, given).map_err(|_| {
        wrong(format!("{field}.contents.{part}"), format!("there are {count} elements"))
            .expected(format!("{needed}, by the shape"))
    })
}

/// An answer, its tensors as raw contents.
pub fn response(answer: InferResponse) -> ModelInferResponse {
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    let mut raw_output_contents = Vec::with_capacity(answer.outputs.len());
    for output in answer.outputs {
        outputs.push(InferOutputTensor {
            name: output.name,
            datatype: Datatype(output.tensor.dtype()).name().to_owned(),
            shape: output
                .tensor
                .shape()
                .dims()
                .iter()
                .map(|n| i64::try_from(*n).unwrap_or(i64::MAX))
                .collect(),
            ..InferOutputTensor::default()
        });
        raw_output_contents.push(Bytes::from(output.tensor.le_bytes().into_owned()));
    }
    ModelInferResponse {
        model_name: answer.model,
        model_version: answer.version,
        id: answer.id.unwrap_or_default(),
        parameters: Parameters::new(),
        outputs,
        raw_output_contents,
    }
}

/// What a model says of itself.
pub fn metadata(metadata: protocol::ModelMetadata) -> ModelMetadataResponse {
    let tensor = |tensor: protocol::TensorMetadata| TensorMessage {
        name: tensor.name,
        datatype: tensor.datatype.to_owned(),
        shape: tensor.shape,
    };
    ModelMetadataResponse {
        name: metadata.name,
        versions: metadata.versions,
        platform: metadata.platform.to_owned(),
        inputs: metadata.inputs.into_iter().map(tensor).collect(),
        outputs: metadata.outputs.into_iter().map(tensor).collect(),
    }
}

/// How a model is served.
pub fn config(config: protocol::ModelConfig) -> ModelConfig {
    let data_type =
        |tensor: &ConfigTensor| DataType::from_str_name(&tensor.data_type).unwrap_or_default().into();
    let groups = config.instance_group.as_array().into_iter().flatten().map(|group| ModelInstanceGroup {
        name: group["name"].as_str().unwrap_or_default().to_owned(),
        count: group["count"].as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or_default(),
        kind: model_instance_group::Kind::Cpu.into(),
    });
    let latest = model_version_policy::Latest { num_versions: 1 };
    ModelConfig {
        name: config.name,
        platform: config.platform.to_owned(),
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(model_version_policy::PolicyChoice::Latest(latest)),
        }),
        max_batch_size: i32::try_from(config.max_batch_size).unwrap_or(i32::MAX),
        instance_group: groups.collect(),
        dynamic_batching: config.dynamic_batching.map(|_| ModelDynamicBatching::default()),
        backend: config.backend.to_owned(),
        input: config
            .input
            .into_iter()
            .map(|tensor| ModelInput { data_type: data_type(&tensor), name: tensor.name, dims: tensor.dims })
            .collect(),
        output: config
            .output
            .into_iter()
            .map(|tensor| ModelOutput { data_type: data_type(&tensor), name: tensor.name, dims: tensor.dims })
            .collect(),
    }
}

/// What has happened to a model's requests.
pub fn statistics(counted: &protocol::ModelStatistics) -> ModelStatistics {
    let duration = |json: &Json| {
        let part = |name: &str| json[name].as_u64().unwrap_or_default();
        Some(StatisticDuration { count: part("count"), ns: part("ns") })
    };
    let all = |name: &str| duration(&counted.inference_stats[name]);
    let batch = |json: &Json| InferBatchStatistics {
        batch_size: json["batch_size"].as_u64().unwrap_or_default(),
        compute_input: duration(&json["compute_input"]),
        compute_infer: duration(&json["compute_infer"]),
        compute_output: duration(&json["compute_output"]),
    };
    ModelStatistics {
        name: counted.name.clone(),
        version: counted.version.clone(),
        last_inference: counted.last_inference,
        inference_count: counted.inference_count,
        execution_count: counted.execution_count,
        inference_stats: Some(InferStatistics {
            success: all("success"),
            fail: all("fail"),
            queue: all("queue"),
            compute_input: all("compute_input"),
            compute_infer: all("compute_infer"),
            compute_output: all("compute_output"),
            cache_hit: all("cache_hit"),
            cache_miss: all("cache_miss"),
        }),
        batch_stats: counted.batch_stats.as_array().into_iter().flatten().map(batch).collect(),
    }
}

/// One version of a model.
pub fn entry(entry: IndexEntry) -> ModelIndex {
    let state = match entry.state {
        protocol::State::Ready => "READY",
        protocol::State::Loading => "LOADING",
        protocol::State::Unavailable => "UNAVAILABLE",
    };
    ModelIndex { name: entry.name, version: entry.version, state: state.to_owned(), reason: entry.reason }
}

/// What is to be loaded, in the JSON that HTTP has for it. Bytes are of files, which are refused by their names.
pub fn parameters(given: &BTreeMap<String, ModelRepositoryParameter>) -> Vec<u8> {
    let value = |parameter: &ModelRepositoryParameter| match &parameter.parameter_choice {
        Some(RepositoryChoice::BoolParam(value)) => json!(value),
        Some(RepositoryChoice::Int64Param(value)) => json!(value),
        Some(RepositoryChoice::StringParam(value)) => json!(value),
        Some(RepositoryChoice::BytesParam(_)) | None => Json::Null,
    };
    let given: serde_json::Map<String, Json> =
        given.iter().map(|(name, parameter)| (name.clone(), value(parameter))).collect();
    json!({ "parameters": given }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> ModelInferRequest {
        let (name, datatype) = ("x".to_owned(), datatype.to_owned());
        let input = InferInputTensor {
            name,
            datatype,
            shape: shape.to_vec(),
            contents,
            ..InferInputTensor::default()
        };
        ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
    }

    #[test]
    fn typed_and_raw_contents_are_the_same_tensors() {
        let none = InferTensorContents::default;
        for (datatype, contents, tensor) in [
            (
                "BOOL",
                InferTensorContents { bool_contents: vec![true, false], ..none() },
                Tensor::new([2], vec![true, false]).unwrap(),
            ),
            (
                "UINT8",
                InferTensorContents { uint_contents: vec![0, 255], ..none() },
                Tensor::new([2], vec![0u8, 255]).unwrap(),
            ),
            (
                "INT32",
                InferTensorContents { int_contents: vec![-1, 2], ..none() },
                Tensor::new([2], vec![-1i32, 2]).unwrap(),
            ),
            (
                "INT64",
                InferTensorContents { int64_contents: vec![i64::MIN, 2], ..none() },
                Tensor::new([2], vec![i64::MIN, 2]).unwrap(),
            ),
            (
                "FP32",
                InferTensorContents { fp32_contents: vec![0.1, -2.0], ..none() },
                Tensor::new([2], vec![0.1f32, -2.0]).unwrap(),
            ),
            (
                "FP64",
                InferTensorContents { fp64_contents: vec![0.1, -2.0], ..none() },
                Tensor::new([2], vec![0.1f64, -2.0]).unwrap(),
            ),
        ] {
            let raw = Bytes::from(tensor.le_bytes().into_owned());
            let mut by_bytes = asked(datatype, &[2], None);
            by_bytes.raw_input_contents.push(raw);
            for message in [asked(datatype, &[2], Some(contents)), by_bytes] {
                let read = request(message).unwrap();
                let Data::Tensor(read) = &read.inputs[0].data else { panic!("{read:?}") };
                assert!(read.same_bits(&tensor), "{datatype}: {read:?}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let floats = |fp32_contents: Vec<f32>| {
            Some(InferTensorContents { fp32_contents, ..InferTensorContents::default() })
        };
        let two = || asked("FP32", &[2], floats(vec![1.0, 2.0]));
        let raw = |mut message: ModelInferRequest, parts: &[&'static [u8]]| {
            message.raw_input_contents = parts.iter().map(|part| Bytes::from_static(part)).collect();
            message
        };
        let parameter = |mut message: ModelInferRequest, name: &str, choice: ParameterChoice| {
            message.parameters.insert(name.to_owned(), InferParameter { parameter_choice: Some(choice) });
            message
        };
        let mut twice = two();
        twice.inputs.push(twice.inputs[0].clone());
        let large = InferTensorContents { uint_contents: vec![1, 256], ..InferTensorContents::default() };
        for (message, expect) in [
            (
                asked("FP32", &[2], floats(vec![1.0])),
                "inputs[0].contents.fp32_contents: there are 1 elements",
            ),
            (asked("FP32", &[2], None), "inputs[0].contents: the input `x` has no data"),
            (asked("FP32", &[-2], floats(vec![])), "inputs[0].shape: "),
            (asked("FP16", &[2], floats(vec![])), "inputs[0].datatype: "),
            (asked("BF16", &[2], floats(vec![1.0, 2.0])), "raw_input_contents"),
            (asked("UINT8", &[2], Some(large)), "uint_contents: a number is too large"),
            (asked("BYTES", &[2], floats(vec![])), "bytes_contents: there are 0 elements"),
            (raw(two(), &[b"12345678"]), "inputs[0].contents: the input has raw contents too"),
            (raw(asked("FP32", &[2], None), &[b"1234567"]), "have 7 bytes"),
            (raw(asked("FP32", &[2], None), &[b"12345678", b""]), "2 raw contents for 1 inputs"),
            (twice, "inputs[1].name: the input `x` is given twice"),
            (parameter(two(), "timeout", ParameterChoice::Int64Param(-1)), "parameters.timeout: "),
            (parameter(two(), "priority", ParameterChoice::BoolParam(true)), "parameters.priority: "),
        ] {
            let found = request(message).unwrap_err();
            assert!(found.message().contains(expect), "{expect}: {}", found.message());
            assert_eq!(found.status(), 400);
        }
        let good = parameter(two(), "timeout", ParameterChoice::Uint64Param(7));
        let good = parameter(good, "unknown", ParameterChoice::BoolParam(true));
        assert_eq!(request(good).unwrap().timeout, Some(Duration::from_micros(7)));
    }

    #[test]
    fn the_time_that_a_client_gives_is_read() {
        for (text, expect) in [
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("2H", Some(Duration::from_secs(7200))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("999999999S", None),
            ("5é", None),
        ] {
            assert_eq!(timeout(text), expect, "{text}");
        }
    }
}
