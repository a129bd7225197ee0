//! Which versions of which models there are, and which are to be served: the protocol's extension `model_repository`.

use std::collections::BTreeMap;

use outgrow_ir::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Kind, Rejected};

/// Whether a version is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// It is.
    Ready,
    /// It will be.
    Loading,
    /// It is not.
    Unavailable,
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// The model.
    pub name: String,
    /// The version.
    pub version: String,
    /// Whether it is served.
    pub state: State,
    /// Why not.
    pub reason: String,
}

/// Which of the versions that there are is to be served. Who does not say which gets the newest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// So many, the newest that are good.
    Latest(usize),
    /// These.
    Specific(Vec<u64>),
    /// All.
    All,
}

impl Default for Policy {
    fn default() -> Self {
        Self::Latest(1)
    }
}

#[derive(Default, Deserialize)]
struct IndexJson {
    ready: Option<bool>,
}

#[derive(Default, Deserialize)]
struct LoadJson {
    parameters: Option<BTreeMap<String, Json>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigJson {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(alias = "versionPolicy")]
    version_policy: Option<PolicyJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PolicyJson {
    Latest {
        #[serde(alias = "numVersions", default = "one")]
        num_versions: usize,
    },
    Specific {
        versions: Vec<u64>,
    },
    All {},
}

const fn one() -> usize {
    1
}

/// A body, or nothing where it is empty, as some clients send it.
fn body<T: Default + for<'a> Deserialize<'a>>(body: &[u8], expected: &str) -> Result<T, Rejected> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        let problem = Diagnostic::new("serve.json", format!("the body is not as it should be: {error}"));
        problem.item("body").expected(expected).into()
    })
}

/// Reads what is asked of the index: whether only what is served is of interest.
///
/// # Errors
/// For a body that is something else.
pub fn parse_index(bytes: &[u8]) -> Result<bool, Rejected> {
    Ok(body::<IndexJson>(bytes, "an object, which may have `ready`: true or false")?.ready.unwrap_or(false))
}

/// Reads what is to be loaded.
///
/// # Errors
/// For a body that is something else, or parameters by which nothing is loaded here.
pub fn parse_load(bytes: &[u8]) -> Result<Policy, Rejected> {
    let parameters = body::<LoadJson>(bytes, "an object, which may have `parameters`")?.parameters;
    let mut policy = Policy::default();
    for (name, value) in parameters.unwrap_or_default() {
        let field = format!("parameters.{name}");
        if name.starts_with("file:") {
            let problem = Diagnostic::new("serve.load", "models are not taken from requests").item(field);
            let problem =
                problem.hint("put the files into the repository, as NAME/VERSION/, and load by name");
            return Err(Rejected::new(Kind::Unsupported, problem));
        }
        if name != "config" {
            continue;
        }
        let read = value.as_str().ok_or_else(|| "it is no text".to_owned());
        let read = read.and_then(|text| serde_json::from_str::<ConfigJson>(text).map_err(|e| e.to_string()));
        let config = read.map_err(|error| {
            Diagnostic::new("serve.load", format!("the configuration cannot be used: {error}"))
                .item(field)
                .expected("JSON as text, in which `version_policy` is all that can be set")
        })?;
        policy = match config.version_policy {
            Some(PolicyJson::Latest { num_versions }) => Policy::Latest(num_versions.max(1)),
            Some(PolicyJson::Specific { versions }) => Policy::Specific(versions),
            Some(PolicyJson::All {}) => Policy::All,
            None => policy,
        };
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_loaded_is_read() {
        let load = |body: &str| parse_load(body.as_bytes()).map_err(|rejected| rejected.message());
        let config = |text: &str| serde_json::json!({ "parameters": { "config": text } }).to_string();
        for body in ["", " ", "{}", r#"{"parameters":{}}"#, r#"{"parameters":{"unload_dependents":true}}"#] {
            assert_eq!(load(body), Ok(Policy::Latest(1)), "{body}");
        }
        let policy = |text: &str| load(&config(&format!("{{\"version_policy\":{text}}}")));
        assert_eq!(policy(r#"{"specific":{"versions":[3,1]}}"#), Ok(Policy::Specific(vec![3, 1])));
        assert_eq!(policy(r#"{"latest":{"num_versions":2}}"#), Ok(Policy::Latest(2)));
        assert_eq!(policy(r#"{"all":{}}"#), Ok(Policy::All));
        for (body, expect) in [
            ("[", "body: "),
            (
                r#"{"parameters":{"file:1/model.onnx":"AA=="}}"#,
                "parameters.file:1/model.onnx: models are not",
            ),
            (r#"{"parameters":{"config":3}}"#, "parameters.config: "),
            (&config("{\"max_batch_size\":3}"), "unknown field `max_batch_size`"),
            (&config("{"), "parameters.config: "),
        ] {
            let found = load(body).unwrap_err();
            assert!(found.contains(expect), "{body}: {found}");
        }
        assert_eq!(parse_index(b"").unwrap(), parse_index(b"{\"ready\":false}").unwrap());
        assert!(parse_index(b"{\"ready\":true}").unwrap() && parse_index(b"{\"ready\":1}").is_err());
    }
}
