//! Bodies of requests over HTTP: whatever comes, the answer is no fault of the server, says what is wrong where
//! something is, and is the same again.
//!
//! The first line says how a body is sent: a digit for the path, one for how it is said to be packed, and perhaps the
//! number of bytes that are JSON. The rest is the body.

use std::io::Write;
use std::sync::OnceLock;

use axum::body::Body;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::Request;
use outgrow_serve::protocol::HEADER_LENGTH;
use outgrow_serve::router;
use serde_json::Value as Json;

#[path = "small_site.rs"]
mod small_site;

static INSIDE: OnceLock<small_site::Inside> = OnceLock::new();

const PATHS: [&str; 8] = [
    "/v2/models/people/infer",
    "/v2/models/people/versions/1/infer",
    "/v2/models/people.raw/infer",
    "/v1/models/people:predict",
    "/v1/models/people.raw:predict",
    "/v2/repository/index",
    "/v2/repository/models/nobody/load",
    "/v2/repository/models/nobody/unload",
];

/// What a server answers that has no time.
const UNAVAILABLE: u16 = 503;

pub fn check(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = data.split_at(line);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let digit = |at: usize| line.get(at).map_or(0, |byte| usize::from(byte.wrapping_sub(b'0')));
    let length = std::str::from_utf8(line.get(2..).unwrap_or_default()).unwrap_or("?");
    let ask = || {
        let mut request = Request::post(PATHS[digit(0) % PATHS.len()]);
        if !length.is_empty() {
            request = request.header(HEADER_LENGTH, length);
        }
        let (coding, body) = match digit(1) % 6 {
            1 => ("gzip", body.to_vec()),
            2 => ("deflate", body.to_vec()),
            3 => ("br", body.to_vec()),
            4 => ("gzip", packed(GzEncoder::new(Vec::new(), Compression::fast()), body, GzEncoder::finish)),
            5 => (
                "deflate",
                packed(ZlibEncoder::new(Vec::new(), Compression::fast()), body, ZlibEncoder::finish),
            ),
            _ => ("", body.to_vec()),
        };
        if !coding.is_empty() {
            request = request.header("content-encoding", coding);
        }
        // What no header may hold is not sent.
        let request = request.body(Body::from(body)).ok()?;
        Some(small_site::inside(&INSIDE, router).ask(request))
    };
    let Some(answer) = ask() else { return };
    // A request may allow less time than it takes.
    assert!(
        (200..500).contains(&answer.status) || answer.status == UNAVAILABLE,
        "{}: {:?}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    let length = answer.headers.get(HEADER_LENGTH).map(|n| n.to_str().unwrap().parse::<usize>().unwrap());
    let json: Json = serde_json::from_slice(&answer.body[..length.unwrap_or(answer.body.len())])
        .expect("every answer has JSON at its start");
    let is_error = json.get("error").and_then(Json::as_str).is_some_and(|error| !error.is_empty());
    assert_eq!(is_error, answer.status != 200, "{json}");
    if line.is_empty() || digit(0) % PATHS.len() < 5 {
        let again = ask();
        let in_time = |answer: &small_site::Answer| answer.status != UNAVAILABLE;
        if in_time(&answer) && again.as_ref().is_some_and(in_time) {
            assert_eq!(again, Some(answer), "the same again");
        }
    }
}

fn packed<W: Write>(mut encoder: W, body: &[u8], finish: impl Fn(W) -> std::io::Result<Vec<u8>>) -> Vec<u8> {
    encoder.write_all(body).expect("memory can be written");
    finish(encoder).expect("memory can be written")
}
