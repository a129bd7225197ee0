//! Who is let in: every request, before anything of its body is looked at.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{Limits, Site, body, error};
use crate::access::Needs;
use crate::protocol::Rejected;

/// A larger body of a request that is refused is not waited for.
const DRAINED_BYTES_MAX: usize = 64 << 10;

/// What a request brings besides its path, and what of it is taken at most.
pub(super) struct Incoming {
    pub headers: HeaderMap,
    pub body: Body,
    pub limits: Limits,
}

impl FromRequest<Arc<Site>> for Incoming {
    type Rejection = Infallible;

    async fn from_request(request: Request, site: &Arc<Site>) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        // A token may have limits of its own.
        let limits = parts.extensions.get::<Limits>().copied().unwrap_or(site.limits);
        Ok(Self { headers: parts.headers, body, limits })
    }
}

/// What lets requests in.
#[derive(Clone)]
pub(super) struct Guard {
    pub site: Arc<Site>,
    /// What each method of each path needs; any token for others.
    pub needs: Arc<BTreeMap<(String, &'static str), Needs>>,
}

/// Lets a request in, or says why not.
pub(super) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let method = match request.method() {
        &Method::POST => "post",
        // Heads are of what would be got.
        _ => "get",
    };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let needs = path.and_then(|path| guard.needs.get(&(path, method)).copied()).unwrap_or(Needs::Token);
    match guard.site.admit(request.headers(), needs) {
        Ok(limits) => {
            request.extensions_mut().insert(limits);
            next.run(request).await
        }
        Err(rejected) => refused(&guard.site, request, &rejected).await,
    }
}

/// Answers once the body has come too, if that is soon: clients that are about to send it would find the connection
/// closed.
async fn refused(site: &Site, request: Request, rejected: &Rejected) -> Response {
    let (parts, body) = request.into_parts();
    let limits = Limits { body_bytes_max: DRAINED_BYTES_MAX.min(site.limits.body_bytes_max), ..site.limits };
    let is_whole = body::read(body, &parts.headers, &limits).await.is_ok();
    let mut answer = error(rejected);
    if !is_whole {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
