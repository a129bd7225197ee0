//! Requests as a client writes them: JSON, and binary data behind it where that is wanted.

use std::time::Duration;

use outgrow_ir::Diagnostic;
use outgrow_tensor::Tensor;
use serde_json::json;

use super::Encoded;
use super::response::{write, write_tensor};

/// Writes a request for all outputs of a model, with these tensors under the names of its inputs. With `binary`, they
/// and the outputs are binary data, else JSON. `timeout` is what the server is told of the time in which an answer is
/// of use, in whole microseconds.
///
/// # Errors
/// When a tensor has to be in JSON that JSON cannot say.
pub fn encode_request(
    inputs: &[(&str, &Tensor)],
    binary: bool,
    timeout: Option<Duration>,
) -> Result<Encoded, Diagnostic> {
    let mut parameters = json!({});
    if binary {
        parameters["binary_data_output"] = json!(true);
    }
    if let Some(timeout) = timeout {
        parameters["timeout"] = json!(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX));
    }
    let mut body = b"{\"parameters\":".to_vec();
    write(&mut body, &parameters);
    body.extend_from_slice(b",\"inputs\":[");
    for (i, (name, tensor)) in inputs.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write_tensor(&mut body, name, tensor, binary)
            .map_err(|problem| problem.item(format!("input `{name}`")).hint("send it as binary data"))?;
    }
    body.extend_from_slice(b"]}");
    let json_length = binary.then_some(body.len());
    if binary {
        inputs.iter().for_each(|(_, tensor)| body.extend_from_slice(&tensor.le_bytes()));
    }
    Ok(Encoded { body, json_length })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use outgrow_tensor::DType;

    use super::super::{Data, parse_request};
    use super::*;

    #[test]
    fn what_a_client_writes_is_what_the_server_reads() {
        for dtype in [DType::Bool, DType::U8, DType::I32, DType::I64, DType::F32, DType::F64] {
            let one = Tensor::from_f64(dtype, [2, 3], |i| f64::from(i % 2 == 1));
            let two = Tensor::from_f64(dtype, [1], |_| 1.0);
            for binary in [true, false] {
                let timeout = Some(Duration::from_millis(7));
                let sent = encode_request(&[("a", &one), ("\"b\"", &two)], binary, timeout).unwrap();
                let length = sent.json_length.map(|length| length.to_string());
                let read = parse_request(&Bytes::from(sent.body), length.as_deref()).unwrap();
                assert_eq!((read.timeout, read.binary, read.inputs.len()), (timeout, binary, 2));
                for (input, (name, tensor)) in read.inputs.iter().zip([("a", &one), ("\"b\"", &two)]) {
                    let Data::Tensor(data) = &input.data else { panic!("{input:?}") };
                    assert!(input.name == name && data.same_bits(tensor), "{input:?}");
                }
            }
        }
        let half = Tensor::from_f64(DType::BF16, [1], |_| 1.0);
        assert_eq!(encode_request(&[("a", &half)], false, None).unwrap_err().code, "serve.data");
        assert!(encode_request(&[("a", &half)], true, None).is_ok());
        let nan = Tensor::new([1], vec![f32::NAN]).unwrap();
        assert_eq!(encode_request(&[("a", &nan)], false, None).unwrap_err().code, "serve.not-finite");
    }
}
