//! How object stores and the web are reached: from a URL to a store of the `object_store` crate and a path in it.

use crate::remote::SCHEMES;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectStore, RetryConfig, parse_url_opts};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// A server that says nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(30);

/// A place to run requests on.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// How stores are reached.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    options: Vec<(String, String)>,
}

impl Access {
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { options: options.into_iter().collect() }
    }

    /// The store that a URL leads to, and the object in it.
    pub fn open(&self, text: &str) -> Result<(Arc<dyn ObjectStore>, ObjectPath), String> {
        let url = Url::parse(text).map_err(|e| e.to_string())?;
        if !SCHEMES.iter().any(|s| text.starts_with(s)) {
            return Err(format!("no URL of this kind is understood, only {}", SCHEMES.join(", ")));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("URLs with a `?` or `#` are not supported".into());
        }
        if url.scheme().starts_with("http") {
            let client = ClientOptions::new()
                .with_allow_http(true)
                .with_timeout_disabled()
                .with_read_timeout(SILENCE)
                .with_connect_timeout(SILENCE);
            let path = ObjectPath::from_url_path(url.path()).map_err(|e| e.to_string())?;
            let base = &url[..url::Position::BeforePath];
            // Whoever downloads tries again by its own rules.
            let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
            let store = HttpBuilder::new().with_url(base).with_client_options(client).with_retry(retry);
            return Ok((Arc::new(store.build().map_err(|e| e.to_string())?), path));
        }
        let options = self.options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let (store, path) = parse_url_opts(&url, options).map_err(|e| e.to_string())?;
        Ok((Arc::from(store), path))
    }
}
