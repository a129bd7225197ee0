//! Requests to infer and to predict, from their bodies to their answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use outgrow_ir::Diagnostic;
use outgrow_tensor::Tensor;

use super::body::{self, Coding};
use super::guard::Incoming;
use super::log::Told;
use super::{ModelPath, Shared, Site, aside, error};
use crate::models::Loaded;
use crate::plain::{self, Plain};
use crate::protocol::{
    Encoded, HEADER_LENGTH, InferRequest, InferResponse, Kind, Rejected, encode_response, parse_request,
};
use crate::raw::Form;
use crate::served::Prepared;
use crate::tally::Times;

/// Larger bodies are read and written aside: the threads of connections have others to serve.
const BYTES_INLINE_MAX: usize = 1 << 20;
/// What stands behind a model's name where people ask it.
const PREDICT: &str = ":predict";

/// A request by the protocol.
pub(super) async fn infer(State(site): Shared, path: ModelPath, incoming: Incoming) -> Response {
    let found = site.model(&path);
    answer(&site, found, incoming, Wire::Protocol).await
}

/// A request in plain JSON.
pub(super) async fn predict(State(site): Shared, path: ModelPath, incoming: Incoming) -> Response {
    let call = path.2.as_deref().unwrap_or_default();
    let found = call.strip_suffix(PREDICT).map(str::to_owned).ok_or_else(|| {
        let problem = Diagnostic::new("serve.not-found", format!("there is no `{call}`")).item("path");
        let expected = format!("a model's name and what is asked of it: NAME{PREDICT}");
        Rejected::new(Kind::NotFound, problem.expected(expected))
    });
    // Where the path has a version, what is asked stands behind that.
    let found = found.map(|name| match path.0.is_empty() {
        true => ModelPath(name, None, None),
        false => ModelPath(path.0.clone(), Some(name), None),
    });
    let found = found.and_then(|path| site.model(&path));
    answer(&site, found, incoming, Wire::Plain).await
}

/// How requests and answers are written.
#[derive(Clone, Copy)]
enum Wire {
    Protocol,
    Plain,
}

/// A request that was read.
enum Asked {
    Protocol(InferRequest),
    Plain(Plain),
}

impl Asked {
    fn read(wire: Wire, loaded: &Loaded, body: &Bytes, length: Option<&str>) -> Result<Self, Rejected> {
        match wire {
            Wire::Protocol => parse_request(body, length).map(Self::Protocol),
            Wire::Plain => plain::parse(loaded.serving.served(), loaded.form, body).map(Self::Plain),
        }
    }

    fn request(&self) -> &InferRequest {
        match self {
            Self::Protocol(request) => request,
            Self::Plain(plain) => &plain.request,
        }
    }

    fn form(&self, loaded: &Loaded) -> Form {
        match self {
            Self::Protocol(_) => loaded.form,
            Self::Plain(plain) => plain.form,
        }
    }

    /// What is wrong with it, by the fields that the client has written.
    fn placed(&self, rejected: Rejected) -> Rejected {
        match self {
            Self::Protocol(_) => rejected,
            Self::Plain(plain) => plain::by_own_fields(rejected, plain.by_instances),
        }
    }

    /// The body of the answer.
    fn write(&self, loaded: &Loaded, prepared: &Prepared, tensors: &[Tensor]) -> Result<Encoded, Rejected> {
        let served = loaded.serving.served();
        match self {
            Self::Protocol(request) => encode_response(&InferResponse {
                model: loaded.label(),
                version: served.version().to_string(),
                id: request.id.clone(),
                outputs: served.chosen(&prepared.outputs, tensors),
            }),
            Self::Plain(plain) => {
                Ok(Encoded { body: plain::answer(served, plain, tensors)?, json_length: None })
            }
        }
    }
}

/// Answers, and counts what came of it.
async fn answer(
    site: &Arc<Site>,
    found: Result<Loaded, Rejected>,
    incoming: Incoming,
    wire: Wire,
) -> Response {
    let start = site.now();
    let loaded = match found {
        Ok(loaded) => loaded,
        Err(rejected) => {
            site.others.failed(rejected.status(), Duration::ZERO);
            return error(&body::drained(incoming, rejected).await);
        }
    };
    let tally = Arc::clone(&loaded.tally);
    let told = site.is_logged().then(|| Told::of(&loaded));
    let mut answer = answer_of(site, loaded, incoming, wire).await.unwrap_or_else(|rejected| {
        tally.failed(rejected.status(), site.now().saturating_sub(start));
        error(&rejected)
    });
    // What an answer says of itself is more than what is known without one.
    if let Some(told) = told.filter(|_| answer.extensions().get::<Told>().is_none()) {
        answer.extensions_mut().insert(told);
    }
    answer
}

async fn answer_of(
    site: &Site,
    loaded: Loaded,
    incoming: Incoming,
    wire: Wire,
) -> Result<Response, Rejected> {
    let Incoming { headers, body, limits } = incoming;
    let body = body::read(body, &headers, &limits).await?;
    let coding = Coding::of_request(&headers)?;
    let start = site.now();
    // What is no text is no number either, and refused as that.
    let length = headers.get(HEADER_LENGTH).map(|value| value.to_str().unwrap_or("?").to_owned());
    let max = limits.body_bytes_max;
    // Records take a transform, and images are unpacked; plain JSON may hold records too. Shapes that are new to a model
    // are looked at by its graphs.
    let is_long = coding.is_some()
        || body.len() > BYTES_INLINE_MAX
        || loaded.form == Form::Raw
        || loaded.serving.served().model().is_open()
        || matches!(wire, Wire::Plain);
    let asking = loaded.clone();
    let read = move || -> Result<(Asked, Prepared), Rejected> {
        let body = coding.map_or_else(|| Ok(body.clone()), |coding| coding.unpack(&body, max))?;
        let asked = Asked::read(wire, &asking, &body, length.as_deref())?;
        let prepared = asking.serving.served().prepare(asked.form(&asking), asked.request());
        let prepared = prepared.map_err(|rejected| asked.placed(rejected))?;
        Ok((asked, prepared))
    };
    let (asked, prepared) = if is_long { aside(read).await? } else { read()? };
    let input = site.now().saturating_sub(start);
    let (engine, request) = (site.models.engine(), asked.request());
    let tally = Arc::clone(&loaded.tally);
    let ticket = engine.submit(&loaded.serving, &tally, &prepared, request.priority, request.timeout)?;
    let ran = ticket.answer().await?;
    let begun = site.now();
    let bytes: usize = ran.outputs.iter().map(Tensor::bytes).sum();
    let (rows, queue, infer) = (prepared.rows, ran.queue, ran.infer);
    let wanted = Coding::of_answer(&headers);
    let told = site.is_logged().then(|| Told { rows, queue, infer, ..Told::of(&loaded) });
    let write = move || -> Result<_, Rejected> {
        let Encoded { body, json_length } = asked.write(&loaded, &prepared, &ran.outputs)?;
        let (body, coding) = match wanted {
            Some(wanted) => wanted.pack(body),
            None => (body, None),
        };
        Ok((body, json_length, coding))
    };
    let (body, json_length, coding) = if bytes > BYTES_INLINE_MAX { aside(write).await? } else { write()? };
    let kind = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut answer = ([(header::CONTENT_TYPE, kind)], body).into_response();
    if let Some(length) = json_length {
        answer.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    if let Some(coding) = coding {
        let name = HeaderValue::from_static(coding.name());
        answer.headers_mut().insert(header::CONTENT_ENCODING, name);
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(told) = told {
        answer.extensions_mut().insert(told);
    }
    let now = site.now();
    let (total, output) = (now.saturating_sub(start), now.saturating_sub(begun));
    let times = Times { total, input, queue, infer, output };
    tally.answered(rows, times, Duration::from_secs(engine.clock().unix_s()));
    Ok(answer)
}
