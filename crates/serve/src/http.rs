//! The Open Inference Protocol over HTTP: paths and methods, bodies within limits and in time, statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use outgrow_ir::Diagnostic;
use serde::Serialize;

use crate::engine::Engine;
use crate::protocol::{
    HEADER_LENGTH, InferResponse, Kind, ModelReady, Rejected, ServerMetadata, encode_response, parse_request,
};
use crate::served::{Served, VERSION};

/// What is taken from outside at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// Time for a body to come.
    pub body_time_max: Duration,
    /// Time for a request's head to come.
    pub head_time_max: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Connections at once. More wait until one is closed.
    pub connections_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            body_time_max: Duration::from_secs(30),
            head_time_max: Duration::from_secs(30),
            head_bytes_max: 64 << 10,
            connections_max: 4096,
        }
    }
}

/// What requests are answered with.
#[derive(Debug)]
pub struct Site {
    engine: Engine,
    limits: Limits,
    draining: AtomicBool,
}

impl Site {
    /// For these models.
    pub fn new(engine: Engine, limits: Limits) -> Self {
        Self { engine, limits, draining: AtomicBool::new(false) }
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets nothing in any more, and says that the server is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.engine.drain();
    }

    fn is_ready(&self) -> bool {
        !self.draining.load(Ordering::SeqCst)
    }

    fn model(&self, path: &ModelPath) -> Result<(usize, &Served), Rejected> {
        let missing = |problem: String, item: &str, expected: String| {
            Rejected::new(
                Kind::NotFound,
                Diagnostic::new("serve.not-found", problem).item(item).expected(expected),
            )
        };
        let models = self.engine.models();
        let number = self.engine.find(&path.0).ok_or_else(|| {
            let names = models.iter().map(|model| model.name()).collect::<Vec<_>>().join(", ");
            missing(format!("there is no model `{}`", path.0), "model", names)
        })?;
        match &path.1 {
            Some(version) if version != VERSION => {
                let problem = format!("the model `{}` has no version `{version}`", path.0);
                Err(missing(problem, "version", VERSION.to_owned()))
            }
            _ => Ok((number, &models[number])),
        }
    }
}

/// A model's name and, if the path has one, its version.
struct ModelPath(String, Option<String>);

impl FromRequestParts<Arc<Site>> for ModelPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Response> {
        let names = Path::<BTreeMap<String, String>>::from_request_parts(parts, site).await;
        let Path(mut names) = names.map_err(|rejection| {
            let problem = Diagnostic::new("serve.path", rejection.body_text()).item("path");
            error(&Rejected::from(problem.expected("a model's name in UTF-8")))
        })?;
        Ok(Self(names.remove("model").unwrap_or_default(), names.remove("version")))
    }
}

type Shared = State<Arc<Site>>;

/// All paths.
pub fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new()
        .route("/v2", get(|| async { json(StatusCode::OK, &ServerMetadata::new()) }))
        .route(
            "/v2/health/live",
            get(|| async { json(StatusCode::OK, &serde_json::json!({ "live": true })) }),
        )
        .route("/v2/health/ready", get(ready));
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(model, get(metadata))
            .route(&format!("{model}/ready"), get(model_ready))
            .route(&format!("{model}/infer"), post(infer));
    }
    router
        .fallback(|| async {
            let problem = Diagnostic::new("serve.not-found", "there is nothing at this path").item("path");
            let problem = problem.expected("a path of the Open Inference Protocol, below /v2");
            error(&Rejected::new(Kind::NotFound, problem))
        })
        .method_not_allowed_fallback(|| async {
            let problem = Diagnostic::new("serve.method", "the path is not for this method").item("method");
            error(&Rejected::new(Kind::Method, problem.expected("the method in the header `Allow`")))
        })
        .with_state(site)
}

async fn metadata(State(site): Shared, path: ModelPath) -> Response {
    match site.model(&path) {
        Ok((_, model)) => json(StatusCode::OK, model.metadata()),
        Err(rejected) => error(&rejected),
    }
}

async fn model_ready(State(site): Shared, path: ModelPath) -> Response {
    match site.model(&path) {
        Ok((_, model)) => {
            let ready = site.is_ready();
            json(status(ready), &ModelReady { name: model.name().to_owned(), ready })
        }
        Err(rejected) => error(&rejected),
    }
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn ready(State(site): Shared) -> Response {
    let ready = site.is_ready();
    json(status(ready), &serde_json::json!({ "ready": ready }))
}

async fn infer(State(site): Shared, path: ModelPath, headers: HeaderMap, body: Body) -> Response {
    answer(&site, path, &headers, body).await.unwrap_or_else(|rejected| error(&rejected))
}

async fn answer(site: &Site, path: ModelPath, headers: &HeaderMap, body: Body) -> Result<Response, Rejected> {
    let (number, model) = site.model(&path)?;
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let problem = format!("bodies encoded as {encoding:?} are not read");
        let problem = Diagnostic::new("serve.encoding", problem).item("Content-Encoding");
        return Err(Rejected::new(Kind::Unsupported, problem.hint("send the body as it is")));
    }
    let body = read(body, headers, &site.limits).await?;
    // What is no text is no number either, and refused as that.
    let length = headers.get(HEADER_LENGTH).map(|value| value.to_str().unwrap_or("?"));
    let request = parse_request(&body, length)?;
    drop(body);
    let prepared = model.prepare(&request)?;
    let ticket = site.engine.submit(number, &prepared, request.priority, request.timeout)?;
    let tensors = ticket.answer().await?;
    let outputs = model.chosen(&prepared.outputs, &tensors);
    let name = model.name().to_owned();
    let response = InferResponse { model: name, version: VERSION.to_owned(), id: request.id, outputs };
    let encoded = encode_response(&response)?;
    let kind = if encoded.json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut answer = ([(header::CONTENT_TYPE, kind)], encoded.body).into_response();
    if let Some(length) = encoded.json_length {
        answer.headers_mut().insert(HEADER_LENGTH, HeaderValue::from(length));
    }
    Ok(answer)
}

/// A body, if it is not too large and comes in time. Memory is asked for as it comes.
async fn read(mut body: Body, headers: &HeaderMap, limits: &Limits) -> Result<Bytes, Rejected> {
    let max = limits.body_bytes_max;
    let too_large = || {
        let problem = Diagnostic::new("serve.body", "the body is too large").item("body");
        Rejected::new(Kind::TooLarge, problem.expected(format!("at most {max} bytes")))
    };
    let said =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if said.is_some_and(|said| said > max) {
        return Err(too_large());
    }
    let all = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|cause| {
                let problem = format!("the body could not be read: {cause}");
                Rejected::from(Diagnostic::new("serve.body", problem).item("body").hint("send all of it"))
            })?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > max {
                    return Err(too_large());
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(limits.body_time_max, all).await.unwrap_or_else(|_| {
        let problem = Diagnostic::new("serve.slow", "the body took too long to come").item("body");
        let expected = format!("all of it within {} s", limits.body_time_max.as_secs());
        Err(Rejected::new(Kind::Slow, problem.expected(expected)))
    })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn error(rejected: &Rejected) -> Response {
    let status = StatusCode::from_u16(rejected.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = (status, [(header::CONTENT_TYPE, "application/json")], rejected.body()).into_response();
    if let Some(seconds) = rejected.retry_after_s() {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}
