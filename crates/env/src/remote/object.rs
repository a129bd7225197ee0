//! The web and object stores, through the `object_store` crate.

use super::{Remote, RemoteBody, RemoteError};
use crate::object::{Access, runtime};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{Error, GetOptions, GetRange};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Whatever URLs lead to.
#[derive(Debug)]
pub struct ObjectRemote {
    access: Access,
    runtime: Arc<Runtime>,
}

impl ObjectRemote {
    /// Access with these options of the `object_store` crate, such as `aws_region` and `aws_endpoint`; unknown ones
    /// are passed over.
    ///
    /// # Errors
    /// When the system has no resources for it.
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> io::Result<Self> {
        Ok(Self { access: Access::new(options), runtime: Arc::new(runtime()?) })
    }
}

/// Which failures may be better later.
fn problem(url: &str, error: Error, ranged: bool) -> RemoteError {
    let url = url.to_owned();
    let text = chain(&error);
    match error {
        Error::NotFound { .. } => RemoteError::NotFound(url),
        Error::Precondition { .. } | Error::NotModified { .. } => RemoteError::Changed(url),
        Error::NotSupported { .. } if ranged => RemoteError::NoRanges(url),
        Error::Generic { .. } if ranged && text.contains("non-partial response") => {
            RemoteError::NoRanges(url)
        }
        // The object has become shorter than what is asked for.
        Error::Generic { .. } if ranged && text.contains("416") => RemoteError::Changed(url),
        Error::Generic { .. } if !text.contains("Client error") && !text.contains("builder error") => {
            RemoteError::Broken { url, problem: text }
        }
        Error::JoinError { .. } => RemoteError::Broken { url, problem: text },
        _ => RemoteError::Refused { url, problem: text },
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl Remote for ObjectRemote {
    fn open(&self, url: &str, from: u64, tag: Option<&str>) -> Result<RemoteBody, RemoteError> {
        let refused = |problem: String| RemoteError::Refused { url: url.to_owned(), problem };
        let (store, path) = self.access.open(url).map_err(refused)?;
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            if_match: tag.map(str::to_owned),
            ..GetOptions::default()
        };
        let got = self.runtime.block_on(store.get_opts(&path, options));
        let got = got.map_err(|e| problem(url, e, from > 0))?;
        if got.range.start != from {
            return Err(RemoteError::NoRanges(url.to_owned()));
        }
        let (total, tag) = (got.meta.size, got.meta.e_tag.clone());
        let reader = Body { runtime: self.runtime.clone(), stream: got.into_stream(), chunk: Bytes::new() };
        Ok(RemoteBody { total, tag, reader: Box::new(reader) })
    }

    fn pause(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }
}

/// The bytes of a response as they arrive.
struct Body {
    runtime: Arc<Runtime>,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(chunk) => self.chunk = chunk.map_err(|e| io::Error::other(chain(&e)))?,
                None => return Ok(0),
            }
        }
        let n = out.len().min(self.chunk.len());
        out[..n].copy_from_slice(&self.chunk.split_to(n));
        Ok(n)
    }
}
