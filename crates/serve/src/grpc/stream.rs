//! Many requests in one call, as Triton's clients send them: each is answered by itself, in the order of the requests.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

use super::messages::infer_parameter::ParameterChoice;
use super::messages::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::{Service, code, too_large};
use crate::access::{Needs, Scope};
use crate::http::log::{self, Line, Told};
use crate::protocol::Rejected;

/// The call, as it is asked for.
pub const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// Requests of a call that are worked on at once, so that they come into one batch. More are not read before.
const AHEAD_MAX: usize = 64;
/// The parameter by which a client knows that no more answers to a request follow: here there is one to each.
const FINAL: &str = "triton_final_response";

/// The answers to what a call sends. What is wrong with a request is its answer, and the next one follows; a message that is
/// none ends the call, and so does the end of the server, once what it has sent until then is answered.
pub fn answers(
    service: Service,
    head: MetadataMap,
    requests: Streaming<ModelInferRequest>,
) -> impl Stream<Item = Result<ModelStreamInferResponse, Status>> {
    let head = Arc::new(head);
    let site = Arc::clone(&service.0);
    let answer = move |request: Result<ModelInferRequest, Status>| {
        let (service, head) = (service.clone(), Arc::clone(&head));
        async move {
            let request = request?;
            let (id, start) = (request.id.clone(), service.0.now());
            let answered = answer(&service, &head, request).await;
            if service.0.is_logged() {
                tell(&service, &id, start, answered.as_ref().map(|(_, told)| told.as_ref()));
            }
            Ok(answered.map_or_else(|rejected| refusal(id, &rejected), |(answer, _)| answer))
        }
    };
    requests.take_until(async move { site.drained().await }).map(answer).buffered(AHEAD_MAX)
}

async fn answer(
    service: &Service,
    head: &MetadataMap,
    request: ModelInferRequest,
) -> Result<(ModelStreamInferResponse, Option<Told>), Rejected> {
    let site = &service.0;
    let limits = site.admit(head.as_ref(), Needs::Scope(Scope::Infer))?;
    if request.encoded_len() > limits.body_bytes_max {
        return Err(too_large(limits.body_bytes_max));
    }
    let (mut answer, told) = service.infer(request, None::<Duration>).await?;
    let only = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    answer.parameters.insert(FINAL.to_owned(), only);
    Ok((ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) }, told))
}

/// Tells of one request as of one that came alone; the call itself has a line of its own.
fn tell(service: &Service, id: &str, start: Duration, answered: Result<Option<&Told>, &Rejected>) {
    let site = &service.0;
    let why = answered.err().map(Rejected::message);
    let grpc_status = answered.err().map_or(Code::Ok, code) as i32;
    Line {
        id: &log::id(site, Some(id)),
        method: "POST",
        path: PATH,
        status: 200,
        time: site.now().saturating_sub(start),
        grpc_status: Some(&grpc_status.to_string()),
        told: answered.ok().flatten(),
        why: why.as_deref(),
    }
    .tell();
}

/// What a request is told that is not answered: by its name, with which the client knows it.
fn refusal(id: String, rejected: &Rejected) -> ModelStreamInferResponse {
    let of = ModelInferResponse { id, ..ModelInferResponse::default() };
    ModelStreamInferResponse { error_message: rejected.message(), infer_response: Some(of) }
}
