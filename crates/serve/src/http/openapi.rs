//! The description of all paths for programs: OpenAPI 3.1.

use std::collections::BTreeMap;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json, json};

use super::{Route, routes};
use crate::access::Needs;
use crate::protocol::{HEADER_LENGTH, RANK_MAX, TENSORS_MAX};

/// What kind of model's path it is, by the parameters that it has.
const MODEL: &str = "/v2/models/{model}";
const VERSION: &str = "/v2/models/{model}/versions/{version}";

/// What the server says of itself at `/openapi.json`.
pub(super) async fn page() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document().to_string()).into_response()
}

/// The document.
pub fn document() -> Json {
    of(&routes())
}

fn of(routes: &[Route]) -> Json {
    let operations = operations();
    let mut paths: BTreeMap<&str, Map<String, Json>> = BTreeMap::new();
    for Route { path, method, needs, .. } in routes {
        let Some(operation) = operations.get(&(path.clone(), *method)) else { continue };
        let mut operation = operation.clone();
        if let Some(scopes) = scopes(*needs) {
            // Where the server was given no tokens, none is asked for.
            operation["security"] = json!([{}, { "token": scopes }]);
            for (status, name) in [("401", "NoToken"), ("403", "Forbidden"), ("429", "TooOften")] {
                operation["responses"][status] = response(name);
            }
        }
        paths.entry(path).or_default().insert((*method).to_owned(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "outgrow serve",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Trained models by the Open Inference Protocol, version 2, with its extensions \
                `binary_tensor_data`, `model_configuration`, `model_repository`, `schedule_policy` and `statistics`, \
                and in the form of TensorFlow Serving.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of `--tokens FILE`." },
            },
            "schemas": schemas(),
            "responses": errors(),
        },
    })
}

/// The scopes of which a token has to have all, if one is asked for.
fn scopes(needs: Needs) -> Option<Vec<&'static str>> {
    match needs {
        Needs::Nothing => None,
        Needs::Token => Some(Vec::new()),
        Needs::Scope(scope) => Some(vec![scope.name()]),
    }
}

fn schema(name: &str) -> Json {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn response(name: &str) -> Json {
    json!({ "$ref": format!("#/components/responses/{name}") })
}

/// An operation: what it is for, what it answers, and how else it may end.
struct Operation(Json);

impl Operation {
    fn new(id: &str, summary: &str, answer: &str) -> Self {
        Self(json!({
            "operationId": id,
            "summary": summary,
            "responses": { "200": answered("application/json", schema(answer)), "500": response("Fault") },
        }))
    }

    /// With a body, which may be left out or not.
    fn body(mut self, name: &str, required: bool) -> Self {
        self.0["requestBody"] =
            json!({ "required": required, "content": { "application/json": { "schema": schema(name) } } });
        self.ends(&[("400", "Invalid"), ("408", "Slow"), ("413", "TooLarge"), ("415", "Coding")])
    }

    fn ends(mut self, errors: &[(&str, &str)]) -> Self {
        for (status, name) in errors {
            self.0["responses"][*status] = response(name);
        }
        self
    }

    /// Of what is named in the path.
    fn named(mut self, parameters: &[Json]) -> Self {
        self.0["parameters"] = parameters.into();
        self.ends(&[("400", "Invalid"), ("404", "NotFound")])
    }

    /// What else is answered with status 503.
    fn unready(mut self, name: &str) -> Self {
        self.0["responses"]["503"] = answered("application/json", schema(name));
        self
    }

    fn refused(self) -> Self {
        self.ends(&[("503", "Unavailable")])
    }
}

fn answered(kind: &str, schema: Json) -> Json {
    json!({ "description": "What was asked for.", "content": { kind: { "schema": schema } } })
}

fn in_path(name: &str, description: &str, pattern: &str) -> Json {
    let schema = json!({ "type": "string", "minLength": 1, "pattern": pattern });
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}

/// What each method of each path does.
fn operations() -> BTreeMap<(String, &'static str), Json> {
    let name = || in_path("model", "The model's name; NAME.raw for its raw form.", "^[^/]+$");
    let version = || in_path("version", "A version that is served.", "^[^/]+$");
    let stats = "Counts and durations of what was asked";
    let mut all = vec![
        ("/", "get", Operation::new("alive", "Whether there is a server", "Alive")),
        ("/openapi.json", "get", Operation::new("openapi", "This document", "Document")),
        ("/v2", "get", Operation::new("server", "What the server is", "Server")),
        ("/v2/health/live", "get", Operation::new("live", "Whether the server lives", "Live")),
        (
            "/v2/health/ready",
            "get",
            Operation::new("ready", "Whether requests are answered", "Ready").unready("Ready"),
        ),
        (
            "/v2/models/stats",
            "get",
            Operation::new("allStatistics", &format!("{stats} of all models"), "Statistics"),
        ),
        (
            "/v2/repository/index",
            "post",
            Operation::new("index", "Which versions of which models there are", "Index")
                .body("IndexRequest", false),
        ),
        (
            "/v1/models/{call}",
            "get",
            Operation::new("plainStatus", "Whether a model is ready", "PlainStatus")
                .named(&[in_path("call", "The model's name.", "^[^/]+$")])
                // A server that ends says it of a model that it has.
                .unready("PlainStatus"),
        ),
    ];
    for (what, summary) in [
        (
            "load",
            "Load a model, or the versions that its configuration names, before the old ones are let go",
        ),
        ("unload", "Unload a model, once what it was asked is answered"),
    ] {
        let operation = Operation::new(what, summary, "Done").body("LoadRequest", false);
        let path = if what == "load" {
            "/v2/repository/models/{model}/load"
        } else {
            "/v2/repository/models/{model}/unload"
        };
        all.push((path, "post", operation.named(&[name()]).refused()));
    }
    let mut all: BTreeMap<(String, &'static str), Json> =
        all.into_iter().map(|(path, method, operation)| ((path.to_owned(), method), operation.0)).collect();
    for (model, suffix) in [(MODEL, ""), (VERSION, "OfVersion")] {
        let parameters = if model == MODEL { vec![name()] } else { vec![name(), version()] };
        let mut got = |rest: &str, id: &str, summary: &str, answer: &str, unready: bool| {
            let operation = Operation::new(&format!("{id}{suffix}"), summary, answer).named(&parameters);
            let operation = if unready { operation.unready(answer) } else { operation };
            all.insert((format!("{model}{rest}"), "get"), operation.0);
        };
        got("", "model", "What a model takes and gives", "Model", false);
        got("/ready", "modelReady", "Whether a model answers", "ModelReady", true);
        got("/config", "modelConfig", "A model's configuration", "Config", false);
        got("/stats", "statistics", stats, "Statistics", false);
        let operation = Operation::new(&format!("infer{suffix}"), "Run a model on tensors", "InferResponse");
        let mut operation = operation.body("InferRequest", true).named(&parameters).refused().0;
        binary(&mut operation);
        all.insert((format!("{model}/infer"), "post"), operation);
    }
    let call = || in_path("call", "NAME:predict; behind a version, VERSION:predict.", "^[^/:]+:predict$");
    for (path, id, parameters) in [
        ("/v1/models/{call}", "predict", vec![call()]),
        ("/v1/models/{model}/versions/{call}", "predictOfVersion", vec![name(), call()]),
    ] {
        let operation =
            Operation::new(id, "Run a model on numbers or raw records in plain JSON", "PredictResponse");
        let operation = operation.body("PredictRequest", true).named(&parameters).refused();
        all.insert((path.to_owned(), "post"), operation.0);
    }
    let page = answered("text/plain", json!({ "type": "string" }));
    all.insert(
        ("/metrics".to_owned(), "get"),
        json!({ "operationId": "metrics", "summary": "Counts for Prometheus", "responses": { "200": page } }),
    );
    all
}

/// That requests and answers may carry binary data behind their JSON.
fn binary(operation: &mut Json) {
    let kind = "application/octet-stream";
    let bytes = json!({ "schema": { "type": "string", "contentMediaType": kind } });
    let length = |description: &str| json!({ "description": description, "schema": { "type": "integer", "minimum": 0 } });
    operation["requestBody"]["content"][kind] = bytes.clone();
    let mut header = length(
        "How many bytes of the body are JSON, where binary data follows; 0 for a body that is nothing but the one tensor.",
    );
    header["name"] = HEADER_LENGTH.into();
    header["in"] = "header".into();
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.push(header);
    }
    operation["responses"]["200"]["content"][kind] = bytes;
    operation["responses"]["200"]["headers"] =
        json!({ HEADER_LENGTH: length("How many bytes of the body are JSON, where binary data follows.") });
}

fn object(required: &[&str], properties: Json) -> Json {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(items: Json) -> Json {
    json!({ "type": "array", "items": items })
}

fn schemas() -> Json {
    let text = || json!({ "type": "string" });
    let flag = || json!({ "type": "boolean" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let counted = |most: u64| json!({ "type": "integer", "minimum": 0, "maximum": most });
    let dims = || list(json!({ "type": "integer", "minimum": -1 }));
    let named = || {
        list(object(
            &["name", "datatype", "shape"],
            json!({ "name": text(), "datatype": text(), "shape": dims() }),
        ))
    };
    let datatype = json!({
        "type": "string",
        "enum": ["BOOL", "UINT8", "INT32", "INT64", "BF16", "FP32", "FP64", "BYTES"],
    });
    let shape = json!({ "type": "array", "maxItems": RANK_MAX, "items": count() });
    let tensor = |required: &[&str]| {
        object(
            required,
            json!({
                "name": text(),
                "shape": shape,
                "datatype": datatype,
                "parameters": { "type": "object", "properties": { "binary_data_size": counted(1 << 40) } },
                "data": { "type": "array", "description": "The elements, nested as the shape has it or in one row." },
            }),
        )
    };
    let wanted = object(
        &["name"],
        json!({
            "name": text(),
            "parameters": { "type": "object", "properties": { "binary_data": flag() } },
        }),
    );
    let asked = json!({
        "type": "object",
        "properties": {
            "timeout": { "type": "integer", "minimum": 0, "maximum": u64::MAX, "description": "Microseconds; 0 for none." },
            "priority": counted(u32::MAX.into()),
            "binary_data_output": flag(),
        },
    });
    let timed = || object(&["count", "ns"], json!({ "count": count(), "ns": count() }));
    let parts = [
        "success",
        "fail",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
        "cache_hit",
        "cache_miss",
    ];
    let inference: Map<String, Json> = parts.iter().map(|part| ((*part).to_owned(), timed())).collect();
    let batch = json!({
        "batch_size": count(), "compute_input": timed(), "compute_infer": timed(), "compute_output": timed(),
    });
    let statistics = object(
        &[
            "name",
            "version",
            "last_inference",
            "inference_count",
            "execution_count",
            "inference_stats",
            "batch_stats",
        ],
        json!({
            "name": text(),
            "version": text(),
            "last_inference": count(),
            "inference_count": count(),
            "execution_count": count(),
            "inference_stats": object(&parts, inference.into()),
            "batch_stats": list(object(&["batch_size"], batch)),
        }),
    );
    let version = object(
        &["name", "version", "state", "reason"],
        json!({
            "name": text(),
            "version": text(),
            "state": { "type": "string", "enum": ["READY", "LOADING", "UNAVAILABLE"] },
            "reason": text(),
        }),
    );
    let configured = || {
        list(object(
            &["name", "data_type", "dims"],
            json!({ "name": text(), "data_type": text(), "dims": dims() }),
        ))
    };
    let one_of = |properties: [(&str, Json); 2]| -> Json {
        let one = |(name, schema): (&str, Json)| object(&[name], json!({ name: schema }));
        json!({ "oneOf": properties.map(one) })
    };
    json!({
        "Error": object(&["error"], json!({ "error": text() })),
        "Alive": object(&["status"], json!({ "status": { "const": "alive" } })),
        "Document": { "type": "object" },
        "Done": { "type": "object" },
        "Live": object(&["live"], json!({ "live": flag() })),
        "Ready": object(&["ready"], json!({ "ready": flag() })),
        "Server": object(
            &["name", "version", "extensions"],
            json!({ "name": text(), "version": text(), "extensions": list(text()) }),
        ),
        "Model": object(
            &["name", "versions", "platform", "inputs", "outputs"],
            json!({
                "name": text(), "versions": list(text()), "platform": text(), "inputs": named(), "outputs": named(),
            }),
        ),
        "ModelReady": object(&["name", "ready"], json!({ "name": text(), "ready": flag() })),
        "PlainStatus": object(
            &["name", "ready", "model_version_status"],
            json!({
                "name": text(),
                "ready": flag(),
                "model_version_status": list(object(
                    &["version", "state", "status"],
                    json!({ "version": text(), "state": text(), "status": { "type": "object" } }),
                )),
            }),
        ),
        "Config": object(
            &["name", "platform", "backend", "version_policy", "max_batch_size", "input", "output", "instance_group"],
            json!({
                "name": text(),
                "platform": text(),
                "backend": text(),
                "version_policy": { "type": "object" },
                "max_batch_size": count(),
                "input": configured(),
                "output": configured(),
                "instance_group": list(json!({ "type": "object" })),
                "dynamic_batching": { "type": "object" },
            }),
        ),
        "Statistics": object(&["model_stats"], json!({ "model_stats": list(statistics) })),
        "IndexRequest": { "type": "object", "properties": { "ready": flag() } },
        "Index": list(version),
        "LoadRequest": {
            "type": "object",
            "properties": {
                "parameters": {
                    "type": "object",
                    "properties": {
                        "config": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "JSON as text, in which `version_policy` is all that can be set.",
                        },
                    },
                },
            },
        },
        "InferRequest": object(
            &["inputs"],
            json!({
                "id": text(),
                "parameters": asked,
                "inputs": { "type": "array", "maxItems": TENSORS_MAX, "items": tensor(&["name", "shape", "datatype"]) },
                "outputs": { "type": "array", "maxItems": TENSORS_MAX, "items": wanted },
            }),
        ),
        "InferResponse": object(
            &["model_name", "model_version", "outputs"],
            json!({
                "model_name": text(),
                "model_version": text(),
                "id": text(),
                "outputs": list(tensor(&["name", "shape", "datatype"])),
            }),
        ),
        "PredictRequest": one_of([
            ("instances", json!({ "type": "array", "description": "A value for each row." })),
            ("inputs", json!({ "description": "A value for all rows." })),
        ]),
        "PredictResponse": one_of([("predictions", json!({ "type": "array" })), ("outputs", json!({}))]),
    })
}

/// How requests end that get no answer, each with a body that says what is wrong.
fn errors() -> Json {
    let retry = json!({ "Retry-After": { "description": "Seconds.", "schema": { "type": "integer", "minimum": 1 } } });
    let challenge =
        json!({ "WWW-Authenticate": { "description": "RFC 6750.", "schema": { "type": "string" } } });
    let none = json!({});
    let all = [
        ("Invalid", "The request is wrong: what and where.", &none),
        ("NoToken", "There is no token, or none that is known.", &challenge),
        ("Forbidden", "The token lacks the scope for this.", &challenge),
        ("NotFound", "There is no such model, or no such version of it.", &none),
        ("Slow", "The body took too long to come.", &none),
        ("TooLarge", "The body is larger than the server, or the token, lets in.", &none),
        ("Coding", "The body is packed in a way that is not known.", &none),
        ("TooOften", "There were too many requests by this token.", &retry),
        ("Fault", "The server's own fault.", &none),
        ("Unavailable", "Not now: too busy to answer in time, or about to end.", &retry),
    ];
    let of = |(name, description, headers): (&str, &str, &Json)| {
        let content = json!({ "application/json": { "schema": schema("Error") } });
        (name.to_owned(), json!({ "description": description, "headers": headers, "content": content }))
    };
    Json::Object(all.map(of).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All references of a document, and all that they may refer to.
    fn references(json: &Json, found: &mut Vec<String>) {
        match json {
            Json::Object(members) => {
                found.extend(members.get("$ref").map(|to| to.as_str().unwrap().to_owned()));
                members.values().for_each(|json| references(json, found));
            }
            Json::Array(items) => items.iter().for_each(|json| references(json, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes = routes();
        let there: Vec<(String, &str)> = operations().into_keys().collect();
        let mut routed: Vec<(String, &str)> =
            routes.iter().map(|route| (route.path.clone(), route.method)).collect();
        routed.sort();
        assert_eq!(there, routed);
        let document = of(&routes);
        for Route { path, method, needs, .. } in &routes {
            let operation = &document["paths"][path][method];
            let expect = match needs {
                Needs::Nothing => Json::Null,
                Needs::Token => json!([{}, { "token": [] }]),
                Needs::Scope(scope) => json!([{}, { "token": [scope.name()] }]),
            };
            assert_eq!(operation["security"], expect, "{method} {path}");
            assert_eq!(operation["responses"]["401"].is_null(), *needs == Needs::Nothing, "{method} {path}");
            // What a path names, its parameters say.
            let named = path.matches('{').count();
            let said = operation["parameters"].as_array().into_iter().flatten();
            assert_eq!(said.filter(|it| it["in"] == "path").count(), named, "{method} {path}");
        }
    }

    #[test]
    fn names_are_of_one_thing_each() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for to in found {
            assert!(document.pointer(&to[1..]).is_some(), "{to}");
        }
        let mut ids: Vec<String> =
            operations().values().map(|it| it["operationId"].as_str().unwrap().to_owned()).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
