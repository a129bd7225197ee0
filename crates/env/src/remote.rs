//! Files elsewhere: what URLs lead to, on the web and in object stores. [`Remote`] only opens them for reading;
//! whoever downloads decides on retries, limits and checksums. The real one needs the feature `cloud`.

#[cfg(feature = "cloud")]
mod object;

#[cfg(feature = "cloud")]
pub use object::ObjectRemote;

use std::fmt::Debug;
use std::io::Read;
use std::time::Duration;
use thiserror::Error;

/// The beginnings of URLs that are understood.
pub const SCHEMES: &[&str] = &["http://", "https://", "s3://", "gs://", "az://"];

/// Whether a text is a URL rather than a path, of a kind that is understood or not.
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.len() > 1 && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    })
}

/// Opens what URLs lead to.
pub trait Remote: Debug + Send + Sync {
    /// Opens an object for reading from byte `from` on. With `tag`, only when it is still the version of that tag.
    ///
    /// # Errors
    /// As [`RemoteError`] tells them apart, so that the caller knows what may help.
    fn open(&self, url: &str, from: u64, tag: Option<&str>) -> Result<RemoteBody, RemoteError>;

    /// Waits before the next attempt.
    fn pause(&self, time: Duration);
}

/// An object that is being read.
pub struct RemoteBody {
    /// Length of the whole object.
    pub total: u64,
    /// What tells this version of the object from others: its entity tag.
    pub tag: Option<String>,
    /// Its bytes from the asked one on.
    pub reader: Box<dyn Read + Send>,
}

impl Debug for RemoteBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteBody({} bytes, {:?})", self.total, self.tag)
    }
}

/// Why an object cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// There is no such object.
    #[error("there is nothing at {0}")]
    NotFound(String),
    /// The object is another one than that of the tag.
    #[error("{0} has changed")]
    Changed(String),
    /// Reading cannot begin in the middle.
    #[error("the server of {0} sends whole files only")]
    NoRanges(String),
    /// Something that trying again does not help.
    #[error("{url} cannot be read: {problem}")]
    Refused {
        /// The object.
        url: String,
        /// What the other side said.
        problem: String,
    },
    /// Something that may be better later: a lost connection, a busy server.
    #[error("{url} cannot be read now: {problem}")]
    Broken {
        /// The object.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// This build has no access to anything elsewhere.
    #[error("this build of Outgrow does not read from {0}")]
    NotBuilt(String),
}

/// What a build without the feature `cloud` has.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRemote;

impl Remote for NoRemote {
    fn open(&self, url: &str, _: u64, _: Option<&str>) -> Result<RemoteBody, RemoteError> {
        Err(RemoteError::NotBuilt(url.to_owned()))
    }

    fn pause(&self, _: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn urls_are_told_from_paths() {
        for (text, expect) in [
            ("http://a/b", true),
            ("s3://bucket/x", true),
            ("ftp://a", true),
            ("C://x", false),
            ("a/b.csv", false),
            ("/a://b", false),
            ("://x", false),
        ] {
            assert_eq!(is_url(text), expect, "{text}");
        }
    }
}
