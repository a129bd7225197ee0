//! Messages over gRPC, as bytes: whatever comes, the answer is no fault of the server, and is the same again.
//!
//! The first byte says which call, the rest is its message.

use std::sync::OnceLock;

use axum::body::Body;
use hyper::Request;
use outgrow_serve::grpc_router;

#[path = "small_site.rs"]
mod small_site;

static INSIDE: OnceLock<small_site::Inside> = OnceLock::new();

const CALLS: [&str; 6] = [
    "ModelInfer",
    "ModelMetadata",
    "ModelStatistics",
    "RepositoryModelLoad",
    "ModelConfig",
    "RepositoryIndex",
];
/// What gRPC says where a message is none.
const INTERNAL: &str = "13";

/// What a server says that has no time: a request may allow less than it takes.
const UNAVAILABLE: &str = "14";

pub fn check(data: &[u8]) {
    let Some((call, message)) = data.split_first() else { return };
    let call = usize::from(call.wrapping_sub(b'0')) % CALLS.len();
    let ask = || {
        let mut framed = vec![0];
        framed.extend_from_slice(&u32::try_from(message.len()).expect("a short message").to_be_bytes());
        framed.extend_from_slice(message);
        let request = Request::post(format!("/inference.GRPCInferenceService/{}", CALLS[call]));
        let request = request.header("content-type", "application/grpc").body(Body::from(framed));
        small_site::inside(&INSIDE, grpc_router).ask(request.expect("a good request"))
    };
    let answer = ask();
    let said = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let (status, why) = (said("grpc-status"), said("grpc-message"));
    // Invalid argument, not found, out of bounds or not done: all are the client's to mend.
    let is_clients = ["0", "3", "5", "8", "12"].contains(&status) || status == UNAVAILABLE;
    let is_no_message = status == INTERNAL && why.contains("Protobuf");
    assert!(answer.status == 200 && (is_clients || is_no_message), "{status} {why}: {answer:?}");
    assert_eq!(status == "0", why.is_empty(), "{answer:?}");
    if call == 0 {
        let again = ask();
        let in_time = |answer: &small_site::Answer| {
            answer.headers.get("grpc-status").is_none_or(|it| it != UNAVAILABLE)
        };
        if in_time(&answer) && in_time(&again) {
            assert_eq!(again, answer, "the same again");
        }
    }
}
