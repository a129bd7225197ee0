//! Many requests in one call, as Triton's clients send them: each is answered by itself, in the order of the requests.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::messages::infer_parameter::ParameterChoice;
use super::messages::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::{Service, too_large};
use crate::access::{Needs, Scope};
use crate::protocol::Rejected;

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
            let id = request.id.clone();
            Ok(answer(&service, &head, request).await.unwrap_or_else(|rejected| refusal(id, &rejected)))
        }
    };
    requests.take_until(async move { site.drained().await }).map(answer).buffered(AHEAD_MAX)
}

async fn answer(
    service: &Service,
    head: &MetadataMap,
    request: ModelInferRequest,
) -> Result<ModelStreamInferResponse, Rejected> {
    let site = &service.0;
    // A call is let in once, but each request counts.
    let limits = site.admit(head.as_ref(), Needs::Scope(Scope::Infer))?;
    if request.encoded_len() > limits.body_bytes_max {
        return Err(too_large(limits.body_bytes_max));
    }
    let (mut answer, _) = service.infer(request, None::<Duration>).await?;
    let only = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
    answer.parameters.insert(FINAL.to_owned(), only);
    Ok(ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) })
}

/// What a request is told that is not answered: by its name, with which the client knows it.
fn refusal(id: String, rejected: &Rejected) -> ModelStreamInferResponse {
    let of = ModelInferResponse { id, ..ModelInferResponse::default() };
    ModelStreamInferResponse { error_message: rejected.message(), infer_response: Some(of) }
}
