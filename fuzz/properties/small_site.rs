//! A server's inside with one small model, `people`, of two numbers and three classes, and a request to it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper::{HeaderMap, Request};
use hyper_util::service::TowerToHyperService;
use outgrow_env::RealClock;
use outgrow_serve::batcher::{Capacity, Lane};
use outgrow_serve::{Engine, Limits, Models, Site};
use tokio::runtime::Runtime;

#[path = "../../crates/predict/tests/common/mod.rs"]
mod common;

/// What is asked, and what runs it.
pub struct Inside {
    router: Router,
    runtime: Runtime,
}

/// An answer: its status, its headers and trailers, and its body.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Inside {
    fn new(router: fn(Arc<Site>) -> Router) -> Self {
        let package = common::package(common::LAYERS, common::people());
        let storage = common::disk();
        package.save(&*storage, Path::new(common::RUN)).expect("a package can be saved");
        let options = outgrow_predict::ModelOptions { memory: Some(256 << 20), ..common::options(1) };
        let capacity = Capacity { executors: 1, waiting_bytes_max: 64 << 20 };
        let engine = Engine::start(Arc::new(RealClock::new()), capacity).expect("there are threads");
        let open = move |path: &Path| outgrow_predict::Model::open(&storage, path, options.clone());
        let models = Models::new(engine, Lane::default(), Box::new(open));
        models.serve_path(Some("people"), Path::new(common::RUN)).expect("the model runs");
        let limits = Limits { body_bytes_max: 1 << 20, ..Limits::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self {
            router: router(Arc::new(Site::new(models, limits))),
            runtime: runtime.expect("there is a runtime"),
        }
    }

    /// The answer to a request.
    pub fn ask(&self, request: Request<Body>) -> Answer {
        self.runtime.block_on(async {
            let service = TowerToHyperService::new(self.router.clone());
            let answer = service.call(request).await.unwrap_or_else(|never| match never {});
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.expect("an answer in memory comes whole");
            let mut headers = parts.headers;
            headers.extend(body.trailers().cloned().unwrap_or_default());
            Answer { status: parts.status.as_u16(), headers, body: body.to_bytes().to_vec() }
        })
    }
}

/// The one of a router, made when it is first needed.
pub fn inside(place: &'static OnceLock<Inside>, router: fn(Arc<Site>) -> Router) -> &'static Inside {
    place.get_or_init(|| Inside::new(router))
}
