//! What is asked of a server: one request, made once, of a model by its metadata.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, Problem};
use outgrow_serve::protocol::{Datatype, HEADER_LENGTH, encode_request};
use outgrow_tensor::{RngKey, RngStream, Tensor};
use serde::Deserialize;
use serde_json::Value as Json;

use super::connection::{Connection, Lost};
use super::url::Url;
use crate::cli::BenchServeArgs;
use crate::commands::bench::made_up::{self, BYTES_MAX};
use crate::commands::infer::arrays::read_arrays;

/// How the name ends by which a model is asked in raw records.
const RAW: &str = ".raw";

/// A request, ready to be sent.
#[derive(Debug)]
pub struct Request {
    /// The model that it is for, or the path.
    pub of: String,
    /// What its body is.
    pub form: Form,
    /// Rows of its inputs.
    pub rows: usize,
    /// Head and body.
    pub bytes: Vec<u8>,
    /// Bytes of its body.
    pub body_bytes: usize,
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Numbers as JSON.
    Json,
    /// Tensors as they are in memory.
    Binary,
    /// What a file holds.
    File,
}

impl Form {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Binary => "binary data",
            Self::File => "a file",
        }
    }

    /// As programs read it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
            Self::File => "file",
        }
    }
}

/// What a model says of itself.
#[derive(Debug, Deserialize)]
struct Metadata {
    inputs: Vec<Port>,
}

#[derive(Debug, Deserialize)]
struct Port {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    state: Option<String>,
}

impl Request {
    /// Makes it, by what the server says of the model.
    ///
    /// # Errors
    /// When the server is not there or is none of models, there is no such model, or the inputs are not given as it
    /// takes them.
    pub fn make(
        args: &BenchServeArgs,
        url: &Url,
        connection: &mut Connection,
        storage: &Arc<dyn StorageBackend>,
    ) -> Result<Self, Diagnostics> {
        connection.connect().map_err(|error| unreachable(url, &error.to_string()))?;
        let model = match &args.model {
            Some(model) => model.clone(),
            None => only_model(url, connection)?,
        };
        let path = format!("/v2/models/{}", escaped(&model));
        let metadata: Metadata = match get(url, connection, &format!("GET {}{path}", url.prefix), b"")? {
            (200, body) => read(url, &body)?,
            (404, body) => {
                let problem = wrong("bench.model", format!("there is no model `{model}`{}", said(&body)));
                let names = models(url, connection).unwrap_or_default();
                let problem = problem.item("--model");
                return Err(match names.is_empty() {
                    true => problem.hint("take a model that the server has loaded"),
                    false => problem.expected(names.join(", ")),
                }
                .into());
            }
            (status @ (401 | 403), body) => return Err(not_let_in(url, status, &body).into()),
            (status, body) => {
                let problem = format!("{url} answers {status} about the model `{model}`{}", said(&body));
                return Err(wrong("bench.model", problem).hint("wait until the model is ready").into());
            }
        };
        let tensors = match args.inputs.as_slice() {
            [] => made_up(&metadata.inputs, args.batch.map_or(1, |n| n.get()), args.seed)?,
            files => from_files(&metadata.inputs, files, args.batch.map(|n| n.get()), storage)?,
        };
        let named = metadata.inputs.iter().map(|port| port.name.as_str()).zip(&tensors);
        let timeout = args.timeout_ms.map(|ms| Duration::from_millis(ms.get()));
        let body = encode_request(&named.collect::<Vec<_>>(), !args.json_body, timeout)
            .map_err(|problem| problem.hint("leave out `--json-body`"))?;
        let form = if args.json_body { Form::Json } else { Form::Binary };
        let length = body.json_length.map_or_else(String::new, |n| format!("{HEADER_LENGTH}: {n}\r\n"));
        let bytes = posted(url, &format!("{path}/infer"), args.json_body, &length, &body.body);
        let rows = tensors.first().and_then(|tensor| tensor.shape().dims().first()).copied().unwrap_or(1);
        Ok(Self { of: model, form, rows, bytes, body_bytes: body.body.len() })
    }

    /// What a file holds, for a path of any server.
    ///
    /// # Errors
    /// When the file cannot be read, or the path cannot be asked.
    pub fn of_file(path: &str, file: &Path, url: &Url) -> Result<Self, Diagnostic> {
        let plain = |c: char| c.is_ascii_graphic() && c != '#';
        if !path.starts_with('/') || !path.chars().all(plain) {
            let problem = wrong("bench.path", format!("`{path}` is no path")).item("--path");
            return Err(problem.expected("one that begins with /, as /v1/models/NAME:predict"));
        }
        let length = std::fs::metadata(file).map(|about| about.len()).unwrap_or(0);
        if length > BYTES_MAX as u64 {
            let problem = wrong("bench.body", format!("it has {length} bytes")).file(file).item("--body");
            return Err(problem.expected(format!("{BYTES_MAX} bytes at most")));
        }
        let body = std::fs::read(file).map_err(|error| {
            let problem = wrong("bench.body", format!("it cannot be read: {error}")).file(file);
            problem.item("--body").hint("name a file that is there")
        })?;
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        let bytes = posted(url, path, is_json, "", &body);
        Ok(Self { of: path.to_owned(), form: Form::File, rows: 1, bytes, body_bytes: body.len() })
    }

    /// Asks once, and gives how many bytes the answer has.
    ///
    /// # Errors
    /// When the answer is not what is to be measured.
    pub fn try_out(&self, url: &Url, connection: &mut Connection) -> Result<usize, Diagnostic> {
        let (status, body) = connection.ask(&self.bytes).map_err(|lost| gone(url, lost))?;
        if status == 200 {
            return Ok(body.len());
        }
        let what = if self.form == Form::File { "path" } else { "model" };
        let problem = format!("the {what} `{}` answers {status}{}", self.of, said(body));
        let problem = wrong("bench.request", problem);
        Err(match status {
            401 | 403 => problem.hint("give a token that may ask it: `--token TOKEN` or `--token-file FILE`"),
            503 => problem.hint("wait until the server has time, or give it more: `--timeout-ms`"),
            _ if self.form == Form::File => problem.hint("send what the path takes: `--body FILE`"),
            _ => problem.hint("give each input as the model takes it: `--input NAME=FILE.npy`"),
        })
    }
}

/// A request of a path, its head and its body; `lines` are further ones of the head.
fn posted(url: &Url, path: &str, is_json: bool, lines: &str, body: &[u8]) -> Vec<u8> {
    let kind = if is_json { "application/json" } else { "application/octet-stream" };
    let head = format!(
        "POST {}{path} HTTP/1.1\r\n{}Content-Type: {kind}\r\nContent-Length: {}\r\n{lines}\r\n",
        url.prefix,
        url.lines(),
        body.len(),
    );
    [head.as_bytes(), body].concat()
}

fn wrong(code: &'static str, problem: impl Into<String>) -> Problem {
    Diagnostic::new(code, problem)
}

/// That a server is not there.
pub fn unreachable(url: &Url, why: &str) -> Diagnostic {
    wrong("bench.unreachable", format!("{url} is not reached: {why}"))
        .item("URL")
        .hint("start a server there: `outgrow serve MODEL --http HOST:PORT`")
}

/// That the server lets nobody in without another token.
fn not_let_in(url: &Url, status: u16, body: &[u8]) -> Diagnostic {
    wrong("bench.token", format!("{url} answers {status}{}", said(body)))
        .item("--token")
        .hint("give a token that may ask models: `--token TOKEN` or `--token-file FILE`")
}

fn gone(url: &Url, lost: Lost) -> Diagnostic {
    wrong("bench.lost", format!("{url} gives no answer: {}", lost.name()))
        .item("URL")
        .expected("a server of HTTP/1.1 that goes on")
}

fn get(
    url: &Url,
    connection: &mut Connection,
    line: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>), Diagnostic> {
    let head = format!("{line} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n", url.lines(), body.len());
    let (status, body) = connection.ask(&[head.as_bytes(), body].concat()).map_err(|lost| gone(url, lost))?;
    Ok((status, body.to_vec()))
}

fn read<T: for<'a> Deserialize<'a>>(url: &Url, body: &[u8]) -> Result<T, Diagnostic> {
    serde_json::from_slice(body).map_err(|error| {
        wrong("bench.protocol", format!("what {url} says is not understood: {error}"))
            .item("URL")
            .expected("a server of the Open Inference Protocol, version 2")
    })
}

/// What an answer says is wrong.
fn said(body: &[u8]) -> String {
    let error = serde_json::from_slice::<Json>(body).ok();
    let error = error.and_then(|json| Some(json.get("error")?.as_str()?.to_owned()));
    error.map_or_else(String::new, |error| format!(": {error}"))
}

/// A model's name within a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(one).collect()
}

/// The models that are ready.
fn models(url: &Url, connection: &mut Connection) -> Result<Vec<String>, Diagnostic> {
    let index = format!("POST {}/v2/repository/index", url.prefix);
    let (status, body) = get(url, connection, &index, b"{\"ready\":true}")?;
    if status == 401 || status == 403 {
        return Err(not_let_in(url, status, &body));
    }
    if status != 200 {
        let problem = format!("{url} does not say which models it has (status {status}{})", said(&body));
        return Err(wrong("bench.model", problem).hint("say which: `--model NAME`"));
    }
    let entries: Vec<Entry> = read(url, &body)?;
    let ready = |entry: &Entry| entry.state.as_deref().is_none_or(|state| state == "READY");
    let mut names: Vec<String> = entries.into_iter().filter(ready).map(|entry| entry.name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn only_model(url: &Url, connection: &mut Connection) -> Result<String, Diagnostic> {
    let mut names = models(url, connection)?;
    // A model with the raw form of itself is one.
    let all = names.clone();
    names.retain(|name| name.strip_suffix(RAW).is_none_or(|model| all.iter().all(|other| other != model)));
    match names.as_slice() {
        [name] => Ok(name.clone()),
        [] => Err(wrong("bench.model", format!("{url} has no model that is ready")).hint("load one")),
        names => {
            let problem = format!("{url} has {} models", names.len());
            let names = names.join(", ");
            Err(wrong("bench.model", problem).item("--model").expected(format!("one of {names}")))
        }
    }
}

fn fixed(port: &Port) -> Option<Vec<usize>> {
    port.shape.iter().map(|n| usize::try_from(*n).ok()).collect()
}

/// Random inputs.
fn made_up(ports: &[Port], rows: usize, seed: u64) -> Result<Vec<Tensor>, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut tensors = Vec::new();
    for port in ports {
        let numbers = RngKey::new(seed).fold_in_name(&port.name).stream();
        match made_up_for(port, rows, numbers) {
            Ok(tensor) => tensors.push(tensor),
            Err(problem) => problems.push(problem),
        }
    }
    problems.into_result(tensors)
}

fn made_up_for(port: &Port, rows: usize, numbers: RngStream) -> Result<Tensor, Diagnostic> {
    let give = || format!("give it: `--input {}=FILE.npy`", port.name);
    let Ok(Datatype(dtype)) = Datatype::of(&port.datatype, "inputs") else {
        let problem = format!("the input `{}` takes {}, which is not made up", port.name, port.datatype);
        return Err(wrong("bench.input", problem).item("--input").hint("ask a model that takes numbers"));
    };
    let mut shape = port.shape.clone();
    match shape.first_mut() {
        Some(first) if *first < 0 => *first = i64::try_from(rows).unwrap_or(i64::MAX),
        Some(first) if usize::try_from(*first) != Ok(rows) && rows != 1 => {
            let problem = format!("the input `{}` takes {first} rows, always", port.name);
            return Err(wrong("bench.batch", problem).item("--batch").hint("leave it out"));
        }
        _ => {}
    }
    let shape = fixed(&Port { name: String::new(), datatype: String::new(), shape });
    let Some(shape) = shape else {
        let problem = format!(
            "the input `{}` has the shape {:?}, of which more than the rows varies",
            port.name, port.shape
        );
        return Err(wrong("bench.input", problem).item("--input").hint(give()));
    };
    made_up::made_up(dtype, &shape, numbers).ok_or_else(|| {
        let problem = format!("the input `{}` of {rows} rows is too large", port.name);
        wrong("bench.batch", problem).item("--batch").expected(format!("{BYTES_MAX} bytes at most"))
    })
}

/// The arrays of files; with `batch` so many of their rows, from the first one on and over again.
fn from_files(
    ports: &[Port],
    files: &[String],
    batch: Option<usize>,
    storage: &Arc<dyn StorageBackend>,
) -> Result<Vec<Tensor>, Diagnostics> {
    let names: Vec<String> = ports.iter().map(|port| port.name.clone()).collect();
    let mut tensors = Vec::new();
    for array in read_arrays(storage, files, &names)? {
        tensors.push(match batch {
            None => array.tensor,
            Some(rows) => repeated(&array.tensor, rows).ok_or_else(|| {
                let problem = format!("the array for `{}` has no rows to take", array.name);
                wrong("bench.input", problem).file(&array.file).item("--batch").hint("leave out `--batch`")
            })?,
        });
    }
    Ok(tensors)
}

fn repeated(tensor: &Tensor, rows: usize) -> Option<Tensor> {
    let dims = tensor.shape().dims();
    let there = dims.first().copied().filter(|there| *there > 0)?;
    let row = tensor.bytes() / there;
    let bytes = tensor.le_bytes();
    let mut taken = Vec::new();
    for i in 0..rows {
        let at = (i % there) * row;
        taken.extend_from_slice(&bytes[at..at + row]);
        if taken.len() > BYTES_MAX {
            return None;
        }
    }
    Tensor::from_le_bytes(tensor.dtype(), [&[rows], &dims[1..]].concat(), &taken).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::DType;

    fn port(datatype: &str, shape: &[i64]) -> Port {
        Port { name: "x".to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec() }
    }

    #[test]
    fn inputs_are_made_up_by_metadata() {
        for (datatype, shape, rows, expect) in [
            ("FP32", &[-1, 3][..], 2, Ok("f32[2, 3]")),
            ("INT64", &[4, 3], 1, Ok("i64[4, 3]")),
            ("BOOL", &[], 1, Ok("bool[]")),
            ("BF16", &[-1], 5, Ok("bf16[5]")),
            ("FP32", &[4, 3], 2, Err("bench.batch")),
            ("FP32", &[-1, -1], 2, Err("bench.input")),
            ("BYTES", &[-1], 2, Err("bench.input")),
            ("FP32", &[-1, 1 << 40], 2, Err("bench.batch")),
        ] {
            let made = made_up(&[port(datatype, shape)], rows, 1);
            let shown = made.as_ref().map(|t| format!("{}{}", t[0].dtype(), t[0].shape()));
            let shown = shown.map_err(|problems| problems.0[0].code);
            assert_eq!(shown, expect.map(str::to_owned), "{datatype} {shape:?}");
            if let Ok(made) = made {
                let again = made_up(&[port(datatype, shape)], rows, 1).unwrap();
                assert!(made[0].same_bits(&again[0]), "the same seed");
                assert!((0..made[0].elements()).all(|i| (0.0..=1.0).contains(&made[0].get_f64(i))));
            }
        }
    }

    #[test]
    fn rows_are_taken_over_again() {
        let tensor = Tensor::new([2, 2], vec![1i32, 2, 3, 4]).unwrap();
        let taken = repeated(&tensor, 3).unwrap();
        assert_eq!(taken.as_slice::<i32>().unwrap(), [1, 2, 3, 4, 1, 2]);
        assert_eq!(repeated(&tensor, 1).unwrap().shape().dims(), [1, 2]);
        assert!(repeated(&Tensor::scalar(1.0f32), 2).is_none());
        assert!(repeated(&Tensor::zeros(DType::F32, [0, 2]), 2).is_none());
    }

    #[test]
    fn names_go_into_paths() {
        assert_eq!(escaped("a-b_c.raw~1"), "a-b_c.raw~1");
        assert_eq!(escaped("a b/é"), "a%20b%2F%C3%A9");
    }
}
