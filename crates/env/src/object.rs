//! How object stores and the web are reached: from a URL to a store of the `object_store` crate and a path in it.

use crate::remote::SCHEMES;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreScheme, RetryConfig};
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

/// For how long requests to a place are tried again: as long as a server takes to start anew.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest pause before a request is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// How stores are reached.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    options: Vec<(String, String)>,
    retry: RetryConfig,
}

impl Access {
    /// For who tries again by its own rules, besides a few quick attempts.
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { options: options.into_iter().collect(), retry: RetryConfig::default() }
    }

    /// Requests that fail for a passing reason are tried again until [`PATIENCE`] has passed. The number of attempts is no
    /// bound: pauses are random, and a run of short ones would be over before a server is back.
    pub fn patient(self) -> Self {
        let backoff = BackoffConfig { max_backoff: PAUSE, ..BackoffConfig::default() };
        Self { retry: RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: PATIENCE }, ..self }
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
        let (scheme, path) = ObjectStoreScheme::parse(&url).map_err(|e| e.to_string())?;
        let path = ObjectPath::parse(path).map_err(|e| e.to_string())?;
        // The builders have the same methods, but no trait for them.
        macro_rules! build {
            ($builder:ident) => {{
                let start = $builder::new().with_url(text).with_retry(self.retry.clone());
                let builder = self.options.iter().fold(start, |builder, (key, value)| {
                    match key.to_ascii_lowercase().parse() {
                        Ok(key) => builder.with_config(key, value),
                        Err(_) => builder,
                    }
                });
                Arc::new(builder.build().map_err(|e| e.to_string())?)
            }};
        }
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::AmazonS3 => build!(AmazonS3Builder),
            ObjectStoreScheme::GoogleCloudStorage => build!(GoogleCloudStorageBuilder),
            ObjectStoreScheme::MicrosoftAzure => build!(MicrosoftAzureBuilder),
            other => return Err(format!("no URL of this kind is understood: {other:?}")),
        };
        Ok((store, path))
    }
}
