//! The Open Inference Protocol over HTTP: paths and methods, limits, statuses. What a path does is in the file of its
//! group; nothing decides here.

mod about;
mod body;
mod guard;
mod infer;
pub(crate) mod log;
mod openapi;
mod repository;

#[cfg(feature = "grpc")]
pub(crate) use repository::{apart, refuse_at_the_end};

pub use openapi::document as openapi;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use outgrow_ir::Diagnostic;
use serde::Serialize;
use tokio::sync::watch;

use crate::access::{Access, Needs, Scope};
use crate::models::{Loaded, Models};
use crate::protocol::{Kind, Rejected};
use crate::tally::Tally;

/// What is taken from outside at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body, as it comes and unpacked.
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
    pub(crate) models: Models,
    limits: Limits,
    /// Who may do what; everybody everything where there is none.
    access: Option<Access>,
    draining: watch::Sender<bool>,
    /// How often repositories are looked into.
    pub(crate) watch: Option<Duration>,
    /// Whether it is told of each request what came of it.
    logged: bool,
    requests: AtomicU64,
    /// What has happened to requests that are of no model.
    pub(crate) others: Tally,
}

impl Site {
    /// For these models.
    pub fn new(models: Models, limits: Limits) -> Self {
        Self {
            models,
            limits,
            access: None,
            draining: watch::Sender::new(false),
            watch: None,
            logged: log::is_on(),
            requests: AtomicU64::new(0),
            others: Tally::default(),
        }
    }

    /// Lets nobody in but by these tokens.
    pub fn guarded(self, access: Access) -> Self {
        Self { access: Some(access), ..self }
    }

    /// Looks into repositories this often, for versions that have come and gone.
    pub fn watching(self, every: Duration) -> Self {
        Self { watch: Some(every), ..self }
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.logged
    }

    /// The number of a request that has no name of its own.
    pub(crate) fn next_id(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.access.is_some()
    }

    /// Lets a request in by its headers, and says what is taken of it at most.
    pub(crate) fn admit(&self, headers: &HeaderMap, needs: Needs) -> Result<Limits, Rejected> {
        self.limited(headers, |access, given| access.admit(given, needs, self.now()))
    }

    /// The same of a call that brings requests, which are let in one by one.
    #[cfg(feature = "grpc")]
    pub(crate) fn admit_call(&self, headers: &HeaderMap, needs: Needs) -> Result<Limits, Rejected> {
        self.limited(headers, |access, given| access.admit_call(given, needs))
    }

    fn limited(
        &self,
        headers: &HeaderMap,
        admit: impl FnOnce(&Access, Option<&[u8]>) -> Result<Option<usize>, Rejected>,
    ) -> Result<Limits, Rejected> {
        let Some(access) = &self.access else { return Ok(self.limits) };
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let bytes_max = admit(access, given).inspect_err(|rejected| {
            self.others.failed(rejected.status(), Duration::ZERO);
        })?;
        let most = self.limits.body_bytes_max;
        Ok(Limits { body_bytes_max: bytes_max.map_or(most, |bytes| bytes.min(most)), ..self.limits })
    }

    /// The limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets nothing in any more, and says that the server is not ready.
    pub fn drain(&self) {
        self.draining.send_replace(true);
        self.models.engine().drain();
    }

    pub(crate) fn is_ready(&self) -> bool {
        !*self.draining.borrow()
    }

    /// Waits until nothing is let in any more.
    #[cfg(feature = "grpc")]
    pub(crate) async fn drained(&self) {
        // The sender is this site's own, so that it cannot be gone.
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    pub(crate) fn model(&self, path: &ModelPath) -> Result<Loaded, Rejected> {
        self.models.find(&path.0, path.1.as_deref())
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_nanos(self.models.engine().clock().now_ns())
    }
}

/// A model's name and, if the path has them, its version, and what is asked of it.
pub(crate) struct ModelPath(pub String, pub Option<String>, pub Option<String>);

impl FromRequestParts<Arc<Site>> for ModelPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Response> {
        let names = Path::<BTreeMap<String, String>>::from_request_parts(parts, site).await;
        let Path(mut names) = names.map_err(|rejection| {
            let problem = Diagnostic::new("serve.path", rejection.body_text()).item("path");
            error(&Rejected::from(problem.expected("a model's name in UTF-8")))
        })?;
        Ok(Self(names.remove("model").unwrap_or_default(), names.remove("version"), names.remove("call")))
    }
}

type Shared = State<Arc<Site>>;

/// A method of a path.
struct Route {
    path: String,
    method: &'static str,
    needs: Needs,
    answers: MethodRouter<Arc<Site>>,
}

/// All methods of all paths.
fn routes() -> Vec<Route> {
    let route = |method, path: &str, needs, answers| Route { path: path.to_owned(), method, needs, answers };
    let got = |path: &str, needs, answers| route("get", path, needs, answers);
    let posted = |path: &str, needs, answers| route("post", path, needs, answers);
    let (infer, admin) = (Needs::Scope(Scope::Infer), Needs::Scope(Scope::Admin));
    let mut all = vec![
        got("/metrics", Needs::Token, get(about::metrics)),
        got("/openapi.json", Needs::Nothing, get(openapi::page)),
        got("/v2", Needs::Token, get(about::server)),
        got("/v2/health/live", Needs::Nothing, get(about::live)),
        got("/v2/health/ready", Needs::Nothing, get(about::ready)),
        got("/v2/models/stats", Needs::Token, get(about::all_statistics)),
        posted("/v2/repository/index", Needs::Token, post(repository::index)),
        posted("/v2/repository/models/{model}/load", admin, post(repository::load)),
        posted("/v2/repository/models/{model}/unload", admin, post(repository::unload)),
    ];
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        all.extend([
            got(model, Needs::Token, get(about::model)),
            got(&format!("{model}/ready"), Needs::Token, get(about::model_ready)),
            got(&format!("{model}/config"), Needs::Token, get(about::config)),
            got(&format!("{model}/stats"), Needs::Token, get(about::statistics)),
            posted(&format!("{model}/infer"), infer, post(infer::infer)),
        ]);
    }
    // As TensorFlow Serving has it: what is asked of a model stands behind its name, in one part of the path.
    all.extend([
        got("/", Needs::Nothing, get(about::alive)),
        got("/v1/models/{call}", Needs::Token, get(about::plain_status)),
        posted("/v1/models/{call}", infer, post(infer::predict)),
        posted("/v1/models/{model}/versions/{call}", infer, post(infer::predict)),
    ]);
    all
}

/// What answers at all paths, to those who may ask.
pub fn router(site: Arc<Site>) -> Router {
    let mut router = Router::new();
    let mut needs = BTreeMap::new();
    for route in routes() {
        needs.insert((route.path.clone(), route.method), route.needs);
        router = router.route(&route.path, route.answers);
    }
    router = router.fallback(nothing_there).method_not_allowed_fallback(another_method);
    if site.is_guarded() {
        let guard = guard::Guard { site: Arc::clone(&site), needs: Arc::new(needs) };
        router = router.layer(from_fn_with_state(guard, guard::guard));
    }
    // Outside of the guard: whom it refuses is told of too.
    if site.is_logged() {
        router = router.layer(from_fn_with_state(Arc::clone(&site), log::record));
    }
    router.with_state(site)
}

async fn nothing_there(incoming: guard::Incoming) -> Response {
    let problem = Diagnostic::new("serve.not-found", "there is nothing at this path").item("path");
    let problem =
        problem.expected("a path of the Open Inference Protocol, below /v2, or /v1/models/NAME:predict");
    let rejected = Rejected::new(Kind::NotFound, problem);
    error(&body::drained(incoming, rejected).await)
}

async fn another_method(incoming: guard::Incoming) -> Response {
    let problem = Diagnostic::new("serve.method", "the path is not for this method").item("method");
    let rejected = Rejected::new(Kind::Method, problem.expected("the method in the header `Allow`"));
    error(&body::drained(incoming, rejected).await)
}

/// Work that takes longer than the threads of connections may be kept, on a thread of its own.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Rejected> + Send + 'static,
) -> Result<T, Rejected> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        Err(Rejected::new(Kind::Internal, Diagnostic::fault("serve.panic", "the work was broken off")))
    })
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// An answer, or why there is none.
fn answered(answer: Result<Response, Rejected>) -> Response {
    answer.unwrap_or_else(|rejected| error(&rejected))
}

fn error(rejected: &Rejected) -> Response {
    let status = StatusCode::from_u16(rejected.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = (status, [(header::CONTENT_TYPE, "application/json")], rejected.body()).into_response();
    let headers = answer.headers_mut();
    if let Some(seconds) = rejected.retry_after_s() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    // Its text is made of words and a scope's name.
    if let Some(challenge) = rejected.challenge().and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    // What is left of the body cannot be told from the next request.
    if matches!(rejected.kind, Kind::TooLarge | Kind::Slow) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if log::is_on() {
        answer.extensions_mut().insert(log::Why(rejected.message()));
    }
    answer
}
