//! What the server and its models say of themselves.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{ModelPath, Shared, Site, answered, json as answer, status};
use crate::metrics::{self, Counted};
use crate::models::Loaded;
use crate::protocol::{ModelReady, ModelStatistics, ServerMetadata};

pub(super) async fn server() -> Response {
    answer(StatusCode::OK, &ServerMetadata::new())
}

pub(super) async fn live() -> Response {
    answer(StatusCode::OK, &json!({ "live": true }))
}

pub(super) async fn ready(State(site): Shared) -> Response {
    let ready = site.is_ready();
    answer(status(ready), &json!({ "ready": ready }))
}

pub(super) async fn model(State(site): Shared, path: ModelPath) -> Response {
    answered(site.model(&path).map(|loaded| {
        let versions = site.models.served(&path.0);
        answer(StatusCode::OK, &loaded.serving.served().metadata(loaded.form, versions))
    }))
}

pub(super) async fn model_ready(State(site): Shared, path: ModelPath) -> Response {
    answered(site.model(&path).map(|_| {
        let ready = site.is_ready();
        answer(status(ready), &ModelReady { name: path.0, ready })
    }))
}

/// That somebody is there, as kserve's first protocol has it.
pub(super) async fn alive() -> Response {
    answer(StatusCode::OK, &json!({ "status": "alive" }))
}

/// A model's state as TensorFlow Serving says it, with the word that kserve looks for.
pub(super) async fn plain_status(State(site): Shared, path: ModelPath) -> Response {
    let path = ModelPath(path.2.unwrap_or_default(), None, None);
    answered(site.model(&path).map(|_| {
        let ready = site.is_ready();
        let version = |version: String| {
            let ok = json!({ "error_code": "OK", "error_message": "" });
            json!({ "version": version, "state": "AVAILABLE", "status": ok })
        };
        let versions: Vec<_> = site.models.served(&path.0).into_iter().map(version).collect();
        let said = json!({ "name": path.0, "ready": ready, "model_version_status": versions });
        answer(status(ready), &said)
    }))
}

pub(super) async fn config(State(site): Shared, path: ModelPath) -> Response {
    answered(site.model(&path).map(|loaded| {
        answer(StatusCode::OK, &loaded.serving.served().config(loaded.form, site.models.engine().threads()))
    }))
}

pub(super) async fn statistics(State(site): Shared, path: ModelPath) -> Response {
    answered(site.model(&path).map(|loaded| {
        let all = site.models.loaded();
        let name = loaded.label();
        let of_model = |other: &Loaded| other.label() == name;
        // All versions of the model that are served, where the path says none.
        match path.1 {
            Some(_) => counted(&[loaded]),
            None => counted(&all.into_iter().filter(of_model).collect::<Vec<_>>()),
        }
    }))
}

pub(super) async fn all_statistics(State(site): State<Arc<Site>>) -> Response {
    counted(&site.models.loaded())
}

pub(super) async fn metrics(State(site): Shared) -> Response {
    let loaded = site.models.loaded();
    let mut all: Vec<Counted<'_>> = loaded
        .iter()
        .map(|loaded| Counted {
            model: loaded.label(),
            version: loaded.serving.served().version().to_string(),
            tally: &loaded.tally,
        })
        .collect();
    all.push(Counted { model: String::new(), version: String::new(), tally: &site.others });
    let page = metrics::page(&all, site.models.engine().waiting());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
}

fn counted(loaded: &[Loaded]) -> Response {
    let statistics = loaded.iter().map(|loaded| {
        ModelStatistics::new(&loaded.label(), loaded.serving.served().version(), &loaded.tally)
    });
    answer(StatusCode::OK, &json!({ "model_stats": statistics.collect::<Vec<_>>() }))
}
