//! Requests to infer, from their bodies to their answers.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::body::{self, Coding};
use super::{ModelPath, Shared, Site, aside, error};
use crate::models::Loaded;
use crate::protocol::{
    Encoded, HEADER_LENGTH, InferRequest, InferResponse, Rejected, encode_response, parse_request,
};
use crate::served::Prepared;
use crate::tally::Times;

/// Larger bodies are read and written aside: the threads of connections have others to serve.
const BYTES_INLINE_MAX: usize = 1 << 20;

pub(super) async fn infer(State(site): Shared, path: ModelPath, headers: HeaderMap, body: Body) -> Response {
    let start = site.now();
    let loaded = match site.model(&path) {
        Ok(loaded) => loaded,
        Err(rejected) => {
            site.others.failed(rejected.status(), Duration::ZERO);
            return error(&body::drained(body, &headers, &site.limits, rejected).await);
        }
    };
    let tally = Arc::clone(&loaded.tally);
    answer(&site, loaded, &headers, body).await.unwrap_or_else(|rejected| {
        tally.failed(rejected.status(), site.now().saturating_sub(start));
        error(&rejected)
    })
}

async fn answer(site: &Site, loaded: Loaded, headers: &HeaderMap, body: Body) -> Result<Response, Rejected> {
    let body = body::read(body, headers, &site.limits).await?;
    let coding = Coding::of_request(headers)?;
    let start = site.now();
    // What is no text is no number either, and refused as that.
    let length = headers.get(HEADER_LENGTH).map(|value| value.to_str().unwrap_or("?").to_owned());
    let max = site.limits.body_bytes_max;
    let serving = Arc::clone(&loaded.serving);
    let is_large = coding.is_some() || body.len() > BYTES_INLINE_MAX;
    let read = move || -> Result<(InferRequest, Prepared), Rejected> {
        let body = coding.map_or_else(|| Ok(body.clone()), |coding| coding.unpack(&body, max))?;
        let request = parse_request(&body, length.as_deref())?;
        let prepared = serving.served().prepare(&request)?;
        Ok((request, prepared))
    };
    let (request, prepared) = if is_large { aside(read).await? } else { read()? };
    let input = site.now().saturating_sub(start);
    let Loaded { serving, tally } = loaded;
    let engine = site.models.engine();
    let ticket = engine.submit(&serving, &tally, &prepared, request.priority, request.timeout)?;
    let ran = ticket.answer().await?;
    let begun = site.now();
    let served = serving.served();
    let outputs = served.chosen(&prepared.outputs, &ran.outputs);
    let bytes: usize = outputs.iter().map(|output| output.tensor.bytes()).sum();
    let response = InferResponse {
        model: served.name().to_owned(),
        version: served.version().to_string(),
        id: request.id,
        outputs,
    };
    let wanted = Coding::of_answer(headers);
    let write = move || {
        let Encoded { body, json_length } = encode_response(&response)?;
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
    let now = site.now();
    let times = Times {
        total: now.saturating_sub(start),
        input,
        queue: ran.queue,
        infer: ran.infer,
        output: now.saturating_sub(begun),
    };
    tally.answered(prepared.rows, times, Duration::from_secs(engine.clock().unix_s()));
    Ok(answer)
}
