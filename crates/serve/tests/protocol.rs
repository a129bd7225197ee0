//! Requests and answers as bytes: what is read and written, and for everything that is wrong the field that is.

use std::time::Duration;

use bytes::Bytes;
use outgrow_serve::protocol::{
    Data, Encoded, InferRequest, InferResponse, Input, Output, Rejected, Wanted, encode_response,
    parse_request,
};
use outgrow_tensor::Tensor;

fn parse(json: &str) -> Result<InferRequest, Rejected> {
    parse_request(&Bytes::copy_from_slice(json.as_bytes()), None)
}

fn with_binary(json: &str, binary: &[u8]) -> Result<InferRequest, Rejected> {
    let body = [json.as_bytes(), binary].concat();
    parse_request(&body.into(), Some(&json.len().to_string()))
}

/// The numbers of an input.
fn tensor(input: &Input) -> &Tensor {
    match &input.data {
        Data::Tensor(tensor) => tensor,
        Data::Bytes(..) => panic!("{input:?}"),
    }
}

fn elements(input: &Input) -> usize {
    match &input.data {
        Data::Tensor(tensor) => tensor.elements(),
        Data::Bytes(_, elements) => elements.len(),
    }
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::vector(values.to_vec())
}

#[test]
fn a_request_is_read() {
    let json = r#" {"inputs": [
        {"name": "a\u0062", "shape": [2, 1], "datatype": "FP32", "data": [[0.1], [-7]], "extra": {"x": [1]}},
        {"name": "i", "shape": [1], "datatype": "INT64", "data": [9007199254740993], "parameters": {}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": false}}, {"name": "z"}],
        "id": "7\"", "unknown": [[[1]]], "parameters": {"timeout": 1500, "priority": 2, "binary_data_output": true,
        "triton_enable_empty_final_response": true, "sequence_id": 0, "deep": [{"x": [[]]}]}} "#;
    let expect = InferRequest {
        id: Some("7\"".into()),
        priority: 2,
        timeout: Some(Duration::from_micros(1500)),
        inputs: vec![
            Input { name: "ab".into(), data: Data::Tensor(Tensor::new([2, 1], vec![0.1f32, -7.0]).unwrap()) },
            Input { name: "i".into(), data: Data::Tensor(Tensor::vector(vec![9_007_199_254_740_993i64])) },
        ],
        outputs: vec![
            Wanted { name: "y".into(), binary: Some(false) },
            Wanted { name: "z".into(), binary: None },
        ],
        whole: None,
        binary: true,
    };
    assert_eq!(parse(json).unwrap(), expect);
    let short = parse(r#"{"inputs":[]}"#).unwrap();
    assert_eq!((short.id, short.priority, short.timeout, short.outputs.len()), (None, 0, None, 0));
}

#[test]
fn binary_data_is_taken_in_the_order_of_the_inputs() {
    let json = r#"{"inputs":[
        {"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},
        {"name":"j","shape":[1],"datatype":"INT32","data":[5]},
        {"name":"b","shape":[3],"datatype":"BOOL","parameters":{"binary_data_size":3}},
        {"name":"h","shape":[1],"datatype":"BF16","parameters":{"binary_data_size":2}},
        {"name":"e","shape":[0,4],"datatype":"INT64","parameters":{"binary_data_size":0}}]}"#;
    let mut binary = Vec::new();
    // NaN is a number like any other here, to the bit.
    let nan = f32::from_bits(0x7fc0_1234);
    binary.extend(nan.to_le_bytes());
    binary.extend((-0.0f32).to_le_bytes());
    binary.extend([1, 0, 255]);
    binary.extend([0x80, 0x3f]);
    let request = with_binary(json, &binary).unwrap();
    let tensor = |i: usize| tensor(&request.inputs[i]);
    assert!(tensor(0).same_bits(&vector(&[nan, -0.0])));
    assert_eq!(*tensor(1), Tensor::vector(vec![5i32]));
    assert_eq!(*tensor(2), Tensor::vector(vec![true, false, true]));
    assert_eq!((tensor(3).get_f64(0), tensor(4).elements()), (1.0, 0));
}

/// Every request here is the client's fault, and says where.
#[test]
fn what_is_wrong_is_named() {
    let input = |rest: &str| format!(r#"{{"inputs":[{{"name":"x",{rest}}}]}}"#);
    let data = |data: &str| input(&format!(r#""shape":[2],"datatype":"FP32","data":{data}"#));
    let cases: Vec<(String, &str)> = vec![
        (String::new(), "body: "),
        ("[]".into(), "body: "),
        ("{}".into(), "inputs: `inputs` is missing"),
        (r#"{"inputs":3}"#.into(), "inputs: "),
        (r#"{"inputs":null}"#.into(), "inputs: "),
        (r#"{"inputs":[3]}"#.into(), "inputs[0]: "),
        (r#"{"inputs":[{}]}"#.into(), "inputs[0].name: `inputs[0].name` is missing"),
        (r#"{"inputs":[{"name":3}]}"#.into(), "inputs[0].name: "),
        (input(r#""datatype":"FP32","data":[]"#), "inputs[0].shape: `inputs[0].shape` is missing"),
        (input(r#""shape":[1.5],"datatype":"FP32","data":[1]"#), "inputs[0].shape: "),
        (input(r#""shape":"2","datatype":"FP32","data":[1]"#), "inputs[0].shape: "),
        (input(r#""shape":[-1],"datatype":"FP32","data":[1]"#), "[-1] has a negative dimension"),
        (input(r#""shape":[4294967296,4294967296],"datatype":"FP32","data":[1]"#), "is too large"),
        (input(r#""shape":[0,9223372036854775807,3],"datatype":"FP32","data":[]"#), "is too large"),
        (input(r#""shape":[99999999999],"datatype":"FP32","data":[1]"#), "there are 1 elements"),
        (input(&format!(r#""shape":[{}1],"datatype":"FP32","data":[1]"#, "1,".repeat(16))), "17 dimensions"),
        (input(r#""shape":[1],"datatype":"FP8","data":[1]"#), "inputs[0].datatype: there is no datatype"),
        (input(r#""shape":[1],"datatype":"UINT16","data":[1]"#), "inputs[0].datatype: no model takes"),
        (input(r#""shape":[2],"datatype":"BYTES","data":["a"]"#), "inputs[0].data: there are 1 elements"),
        (input(r#""shape":[1],"datatype":"BYTES","data":[7]"#), "inputs[0].data: the elements are no texts"),
        (input(r#""shape":[1],"datatype":"FP32""#), "inputs[0].data: the input `x` has no data"),
        (input(r#""shape":[1],"datatype":"FP32","parameters":3,"data":[1]"#), "inputs[0].parameters: "),
        (
            input(r#""shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4},"data":[1]"#),
            "inputs[0].data: the input has binary data too",
        ),
        (
            input(r#""shape":[1],"datatype":"FP32","parameters":{"binary_data_size":-4}"#),
            "inputs[0].parameters.binary_data_size: ",
        ),
        (
            input(r#""shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}"#),
            "4 bytes are more than are left",
        ),
        (
            input(r#""shape":[2],"datatype":"FP32","parameters":{"binary_data_size":4}"#),
            "expected: 8, for FP32 of the shape [2]",
        ),
        (data("[1]"), "inputs[0].data: there are 1 elements"),
        (data("[1,NaN]"), "JSON has no others"),
        (data("[NaN,1]"), "JSON has no others"),
        (data("[1, -Infinity]"), "JSON has no others"),
        (data("[1, Infinity]"), "JSON has no others"),
        (data("[1,null]"), "inputs[0].data: element 1, counted from 0, is no number"),
        (data("[1,2"), "body: "),
        (data("[1,2]") + "{", "body: "),
        (
            data("[1,2]").replace("}]", r#"},{"name":"x","shape":[0],"datatype":"FP32","data":[]}]"#),
            "given twice",
        ),
        (r#"{"inputs":[],"inputs":[]}"#.into(), "duplicate field"),
        (r#"{"inputs":[],"id":5}"#.into(), "id: "),
        (r#"{"inputs":[],"outputs":{}}"#.into(), "outputs: "),
        (r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#.into(), "outputs[1].name: "),
        (r#"{"inputs":[],"outputs":[{"nam":"y"}]}"#.into(), "outputs[0].name: "),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"binary_data":1}}]}"#.into(),
            "outputs[0].parameters.binary_data: ",
        ),
        (
            r#"{"inputs":[],"outputs":[{"name":"y","parameters":{"classification":3}}]}"#.into(),
            "outputs[0].parameters.classification: ",
        ),
        (r#"{"inputs":[],"parameters":{"timeout":-1}}"#.into(), "parameters.timeout: "),
        (r#"{"inputs":[],"parameters":{"priority":"high"}}"#.into(), "parameters.priority: "),
        ("[".repeat(1 << 20), "body: "),
        (format!(r#"{{"inputs":{}}}"#, "[".repeat(1 << 20)), "body: "),
        (data(&("[".repeat(1 << 20) + &"]".repeat(1 << 20))), "is not where the shape has it"),
        (
            format!(
                r#"{{"inputs":[{}]}}"#,
                vec![r#"{"name":"x","shape":[],"datatype":"FP32"}"#; 257].join(",")
            ),
            "257 tensors",
        ),
    ];
    for (json, expect) in cases {
        let rejected = parse(&json).unwrap_err();
        let (message, shown) = (rejected.message(), &json[..json.len().min(150)]);
        assert!(message.contains(expect), "{shown}: {message}");
        assert_eq!(rejected.status(), 400, "{shown}: {message}");
        let body: serde_json::Value = serde_json::from_slice(&rejected.body()).unwrap();
        assert_eq!(body["error"], message);
        assert!(message.len() < 1000 && !message.contains('\n'), "{shown}: {message}");
    }
    let not_text =
        parse_request(&Bytes::from_static(b"{\"inputs\":[{\"name\":\"\xff\"}]}"), None).unwrap_err();
    assert_eq!(not_text.status(), 400);
}

#[test]
fn the_header_is_checked() {
    let json =
        r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}"#;
    let body = Bytes::from([json.as_bytes(), &1.5f32.to_le_bytes()].concat());
    let length = json.len().to_string();
    assert_eq!(*tensor(&parse_request(&body, Some(&length)).unwrap().inputs[0]), vector(&[1.5]));
    for (header, status) in [
        ("99999999999", 400),
        ("99999999999999999999999", 400),
        ("-1", 400),
        ("", 400),
        ("x", 400),
        (&(json.len() + 5).to_string(), 400),
        (&(json.len() - 1).to_string(), 400),
    ] {
        let rejected = parse_request(&body, Some(header)).unwrap_err();
        assert_eq!(rejected.status(), status, "{header}: {}", rejected.message());
    }
    // Nothing of the body is JSON: all of it is the one tensor.
    let whole = parse_request(&body, Some("0")).unwrap();
    assert_eq!((whole.whole, whole.inputs.len()), (Some(body.clone()), 0));
    let more = Bytes::from([&body[..], &[0]].concat());
    assert!(
        parse_request(&more, Some(&length))
            .unwrap_err()
            .message()
            .contains("1 bytes of binary data are left")
    );
}

/// Whatever is cut off, added or changed in a request: it is read or refused.
#[test]
fn damaged_requests_are_read_or_refused() {
    let json = r#"{"id":"a","parameters":{"timeout":5},"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[[1.5,-2e3],[3,4]]},{"name":"y","shape":[2],"datatype":"INT32","parameters":{"binary_data_size":8}}],"outputs":[{"name":"o","parameters":{"binary_data":true}}]}"#;
    let body = [json.as_bytes(), &[1, 0, 0, 0, 2, 0, 0, 0]].concat();
    let mut read = 0;
    for at in 0..body.len() {
        for byte in b"\0\"[]{},:-e0n\xff\xc3" {
            for mut damaged in
                [body[..at].to_vec(), body.clone(), [&body[..at], &[*byte], &body[at..]].concat()]
            {
                if damaged.len() == body.len() {
                    damaged[at] = *byte;
                }
                let length = json.len().min(damaged.len()).to_string();
                let result = parse_request(&damaged.into(), Some(&length));
                read += u32::from(result.as_ref().is_ok_and(|r| r.inputs.iter().all(|i| elements(i) <= 4)));
                if let Err(rejected) = result {
                    assert_eq!(rejected.status(), 400, "{}", rejected.message());
                }
            }
        }
    }
    assert!(read > 100, "{read} of the damages do no harm");
}

fn answer(outputs: Vec<Output>) -> InferResponse {
    InferResponse { model: "m\"".into(), version: "3".into(), id: Some("i".into()), outputs }
}

fn output(name: &str, tensor: Tensor, binary: bool) -> Output {
    Output { name: name.into(), tensor, binary }
}

#[test]
fn an_answer_is_written() {
    let json = answer(vec![
        output("y", Tensor::new([2, 1], vec![0.1f32, -1e-30]).unwrap(), false),
        output("n", Tensor::vector(vec![i64::MIN]), false),
        output("b", Tensor::vector(vec![true]), false),
    ]);
    let encoded = encode_response(&json).unwrap();
    assert_eq!(
        (String::from_utf8(encoded.body).unwrap().as_str(), encoded.json_length),
        (
            r#"{"model_name":"m\"","model_version":"3","id":"i","outputs":[{"name":"y","datatype":"FP32","shape":[2,1],"data":[0.1,-1e-30]},{"name":"n","datatype":"INT64","shape":[1],"data":[-9223372036854775808]},{"name":"b","datatype":"BOOL","shape":[1],"data":[true]}]}"#,
            None
        )
    );
    let mixed = answer(vec![
        output("y", vector(&[f32::NAN, 1.0]), true),
        output("u", Tensor::vector(vec![7u8]), false),
        output("v", Tensor::vector(vec![8u8, 9]), true),
    ]);
    let Encoded { body, json_length } = encode_response(&mixed).unwrap();
    let (json, binary) = body.split_at(json_length.unwrap());
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 8);
    assert_eq!(json["outputs"][1]["data"], serde_json::json!([7]));
    assert_eq!(binary, [&f32::NAN.to_le_bytes()[..], &1.0f32.to_le_bytes(), &[8, 9]].concat());
}

#[test]
fn json_says_every_number_so_that_it_is_read_again() {
    let mut bits = 12345u32;
    let mut numbers = vec![f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), -0.0, 16_777_216.0, 0.3];
    while numbers.len() < 20_000 {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        numbers.extend(Some(f32::from_bits(bits)).filter(|x| x.is_finite()));
    }
    let tensor = vector(&numbers);
    let body = encode_response(&answer(vec![output("y", tensor.clone(), false)])).unwrap().body;
    let request = String::from_utf8(body).unwrap().replace("\"outputs\"", "\"inputs\"");
    assert!(parse(&request).unwrap().inputs[0].data == Data::Tensor(tensor.clone()));
}

#[test]
fn what_json_cannot_say_is_refused_by_name() {
    for tensor in [vector(&[1.0, f32::INFINITY]), Tensor::vector(vec![0.0, f64::NAN])] {
        let rejected = encode_response(&answer(vec![output("y", tensor, false)])).unwrap_err();
        let message = rejected.message();
        assert_eq!(rejected.status(), 400);
        assert!(message.starts_with("output `y`: element 1,") && message.contains("binary"), "{message}");
    }
}
