//! A part of a bucket as a place. An object appears whole or not at all, and creating one under a name that is taken
//! fails (a conditional request), which is all that a place promises. Requests that fail for a passing reason are tried
//! again for a minute.

use super::Place;
use crate::object::{Access, runtime};
use crate::{Operation, StorageError};
use bytes::Bytes;
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The objects below a URL such as `s3://bucket/folder`.
#[derive(Debug)]
pub struct BucketPlace {
    store: Arc<dyn ObjectStore>,
    base: ObjectPath,
    runtime: Runtime,
    name: String,
}

impl BucketPlace {
    /// The place that a URL names, reached with these options of the `object_store` crate, such as `aws_region` and
    /// `aws_endpoint`; unknown ones are passed over.
    ///
    /// # Errors
    /// When the URL or an option is not understood.
    pub fn new(url: &str, options: impl IntoIterator<Item = (String, String)>) -> io::Result<Self> {
        let (store, base) = Access::new(options).patient().open(url).map_err(io::Error::other)?;
        Ok(Self { store, base, runtime: runtime()?, name: url.trim_end_matches('/').to_owned() })
    }

    fn object(&self, key: &str) -> ObjectPath {
        key.split('/').filter(|part| !part.is_empty()).fold(self.base.clone(), |base, part| base.join(part))
    }

    /// The address of a key, for messages.
    fn address(&self, key: &str) -> PathBuf {
        format!("{}/{key}", self.name).into()
    }

    fn run<T>(
        &self,
        operation: Operation,
        key: &str,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StorageError> {
        self.runtime.block_on(request).map_err(|e| {
            let path = self.address(key);
            match e {
                Error::NotFound { .. } => StorageError::NotFound { operation, path },
                other => StorageError::Io { operation, path, source: io::Error::other(other) },
            }
        })
    }
}

impl Place for BucketPlace {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, key: &str) -> Result<Vec<u8>, StorageError> {
        let object = self.object(key);
        let request = async { self.store.get(&object).await?.bytes().await };
        Ok(self.run(Operation::Read, key, request)?.to_vec())
    }

    fn read_range(&self, key: &str, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let object = self.object(key);
        let available = self.run(Operation::Read, key, self.store.head(&object))?.size;
        let end = offset.saturating_add(length as u64);
        if end > available {
            let (path, length) = (self.address(key), length as u64);
            return Err(StorageError::OutOfRange { path, offset, length, available });
        }
        if length == 0 {
            return Ok(Vec::new());
        }
        Ok(self.run(Operation::Read, key, self.store.get_range(&object, offset..end))?.to_vec())
    }

    fn length(&self, key: &str) -> Result<Option<u64>, StorageError> {
        match self.run(Operation::List, key, self.store.head(&self.object(key))) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn write(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let content = Bytes::copy_from_slice(bytes).into();
        self.run(Operation::Write, key, self.store.put(&self.object(key), content)).map(|_| ())
    }

    fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, StorageError> {
        let (object, content) = (self.object(key), Bytes::copy_from_slice(bytes).into());
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let request = async {
            match self.store.put_opts(&object, content, options).await {
                Ok(_) => Ok(true),
                Err(Error::AlreadyExists { .. }) => Ok(false),
                Err(e) => Err(e),
            }
        };
        self.run(Operation::Write, key, request)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let below = self.object(folder);
        let found = self.run(Operation::List, folder, self.store.list_with_delimiter(Some(&below)))?;
        let mut names: Vec<String> =
            found.objects.iter().filter_map(|o| o.location.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }
}
