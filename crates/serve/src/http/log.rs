//! What is told of each request, once it is answered: one event with its fields. Nothing is done for it where nobody
//! listens: then requests do not pass here.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::Site;
use crate::models::Loaded;

/// By what name a client knows its request again, here and in its own logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer name is none.
const ID_BYTES_MAX: usize = 128;

/// What is known of a request that a model was asked, within its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub model: String,
    pub version: u64,
    pub rows: usize,
    pub queue: Duration,
    pub infer: Duration,
}

impl Told {
    /// Which model is asked, before anything has come of it.
    pub fn of(loaded: &Loaded) -> Self {
        Self { model: loaded.label(), version: loaded.serving.served().version(), ..Self::default() }
    }
}

/// Why a request was refused, within its answer.
#[derive(Clone, Debug)]
pub(crate) struct Why(pub String);

/// Whether anybody listens.
pub(crate) fn is_on() -> bool {
    tracing::enabled!(target: "outgrow::request", tracing::Level::ERROR)
}

/// The name that a request was given, or else the next number.
pub(crate) fn id(site: &Site, given: Option<&str>) -> String {
    let fits = |id: &&str| !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains(char::is_control);
    let given = given.filter(fits);
    given.map_or_else(|| site.next_id().to_string(), str::to_owned)
}

fn ms(duration: Duration) -> f64 {
    // To a microsecond: more is noise.
    duration.as_micros() as f64 / 1e3
}

/// What is told of a request.
pub(crate) struct Line<'a> {
    pub id: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub status: u16,
    pub time: Duration,
    pub grpc_status: Option<&'a str>,
    pub told: Option<&'a Told>,
    pub why: Option<&'a str>,
}

impl Line<'_> {
    /// Tells it.
    pub fn tell(&self) {
        let Self { id, method, path, status, time, grpc_status, told, why } = *self;
        macro_rules! tell {
            ($level:expr) => {
                tracing::event!(
                    target: "outgrow::request",
                    $level,
                    id = display(id),
                    method = display(method),
                    path = display(path),
                    status,
                    time_ms = ms(time),
                    grpc_status,
                    model = told.map(|told| told.model.as_str()),
                    version = told.map(|told| told.version),
                    rows = told.map(|told| told.rows),
                    queue_ms = told.map(|told| ms(told.queue)),
                    infer_ms = told.map(|told| ms(told.infer)),
                    error = why,
                )
            };
        }
        match status {
            500 => tell!(tracing::Level::ERROR),
            429 | 501.. => tell!(tracing::Level::WARN),
            _ => tell!(tracing::Level::INFO),
        }
    }
}

/// Lets a request through and tells what came of it, by HTTP and by gRPC.
pub(crate) async fn record(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let start = site.now();
    let id = id(&site, request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = next.run(request).await;
    Line {
        id: &id,
        method: method.as_str(),
        path: &path,
        status: answer.status().as_u16(),
        time: site.now().saturating_sub(start),
        grpc_status: answer.headers().get("grpc-status").and_then(|status| status.to_str().ok()),
        told: answer.extensions().get::<Told>(),
        why: answer.extensions().get::<Why>().map(|why| why.0.as_str()),
    }
    .tell();
    if let Ok(id) = HeaderValue::try_from(id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    answer
}
