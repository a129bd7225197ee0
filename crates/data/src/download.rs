//! Downloads: a file from a URL becomes a file here, whole and checked, or stays what it was. What arrived before a
//! break is kept beside the target (`.part`) and gone on from, as long as the other side still has the same version.

use crate::files::storage_problem;
use outgrow_env::{Remote, RemoteError, StorageBackend};
use outgrow_ir::Diagnostic;
use outgrow_store::sha256::{self, Hasher};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Attempts that may fail one after the other without a single new byte.
const ATTEMPTS: u32 = 8;
/// The wait after the first failure; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Bytes that are made durable at a time.
const PIECE_BYTES: usize = 4 << 20;
/// Larger files are refused unless the manifest allows more.
pub const LIMIT_BYTES: u64 = 16 << 30;

/// What downloads need.
#[derive(Clone)]
pub struct Downloads<'a> {
    /// Where files are kept.
    pub storage: Arc<dyn StorageBackend>,
    /// Where they come from.
    pub remote: Arc<dyn Remote>,
    /// A larger file is refused.
    pub limit: u64,
    /// Told how many bytes of how many there are.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// A file that was downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downloaded {
    /// Where it came from.
    pub url: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// Whether it was there already.
    #[serde(skip)]
    pub reused: bool,
}

/// What is known of a part that is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Partial {
    url: String,
    total: u64,
    tag: Option<String>,
    /// How many of its bytes are known to be on the disk. What follows them may be damaged by a crash.
    kept: u64,
}

fn sibling(target: &Path, ending: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    target.with_file_name(name)
}

fn refuse(error: &RemoteError) -> Diagnostic {
    let code = match error {
        RemoteError::NotBuilt(_) => "data.cloud",
        RemoteError::NotFound(_) => "data.not-found",
        _ => "data.download",
    };
    let diagnostic = Diagnostic::new(code, error.to_string());
    match error {
        RemoteError::NotBuilt(_) => diagnostic
            .expected("a file on this machine, or a build with the feature `cloud`")
            .hint("build it with `cargo build --release --features cloud`"),
        RemoteError::Broken { .. } => diagnostic.hint("run again: what has arrived is kept"),
        _ => diagnostic.hint("look at the address, and at what the server asks of those who read it"),
    }
}

impl Downloads<'_> {
    /// The file of a URL in the folder for downloads below `cache`. A file that is there already is used again when
    /// it still has the checksum that it had when it came.
    ///
    /// # Errors
    /// As [`Downloads::to_file`].
    pub fn to_cache(
        &self,
        url: &str,
        expected: Option<&str>,
        cache: &Path,
    ) -> Result<(PathBuf, Downloaded), Diagnostic> {
        // One folder for each URL: names may be the same.
        let folder = cache.join("downloads").join(&sha256::hex(url.as_bytes())[..16]);
        let name: String = url.rsplit('/').next().unwrap_or_default().chars().filter(|c| plain(*c)).collect();
        let name = if name.trim_matches('.').is_empty() { "file".to_owned() } else { name };
        self.storage.create_folder(&folder).map_err(|e| storage_problem(&e))?;
        let _lock = self.storage.lock(&folder).map_err(|e| storage_problem(&e))?;
        let target = folder.join(name);
        let downloaded = self.to_file(url, expected, &target)?;
        Ok((target, downloaded))
    }

    /// Brings what a URL leads to into a file. A file that came from there and is still as it came is used again.
    ///
    /// # Errors
    /// When the other side has no such file, does not answer after many attempts, or sends a file that is larger
    /// than allowed or has not the expected checksum. Whatever was at the target stays there.
    pub fn to_file(
        &self,
        url: &str,
        expected: Option<&str>,
        target: &Path,
    ) -> Result<Downloaded, Diagnostic> {
        if let Some(there) = self.reusable(url, expected, target)? {
            return Ok(there);
        }
        let part = sibling(target, ".part");
        // Both halves of a file that was resumed may be of two versions after all: it is given one more chance.
        let mut resumed = self.fill(url, expected, &part)?;
        loop {
            let downloaded = self.finish(url, &part, target, expected)?;
            match downloaded {
                Ok(downloaded) => return Ok(downloaded),
                Err(_) if resumed => {
                    self.remove_part(&part)?;
                    self.fill(url, expected, &part)?;
                    resumed = false;
                }
                Err(problem) => {
                    self.remove_part(&part)?;
                    return Err(problem);
                }
            }
        }
    }

    /// The file at the target, when it is the one that is wanted.
    fn reusable(
        &self,
        url: &str,
        expected: Option<&str>,
        target: &Path,
    ) -> Result<Option<Downloaded>, Diagnostic> {
        let Some(entry) = self.storage.entry(target).map_err(|e| storage_problem(&e))? else {
            return Ok(None);
        };
        let record = crate::manifest::read::<Downloaded>(&*self.storage, &sibling(target, ".download.json"));
        let record = record.ok().flatten().filter(|r| r.url == url && r.bytes == entry.bytes);
        let wanted = match (expected, &record) {
            (Some(expected), _) => expected.to_owned(),
            (None, Some(record)) => record.sha256.clone(),
            (None, None) => return Ok(None),
        };
        let actual = self.hash(target, entry.bytes)?;
        let there =
            || Downloaded { url: url.into(), bytes: entry.bytes, sha256: actual.clone(), reused: true };
        Ok((actual == wanted).then(there))
    }

    fn hash(&self, path: &Path, bytes: u64) -> Result<String, Diagnostic> {
        let mut hasher = Hasher::new();
        let mut at = 0;
        while at < bytes {
            let n = (bytes - at).min(PIECE_BYTES as u64) as usize;
            let piece = self.storage.read_range(path, at, n).map_err(|e| storage_problem(&e))?;
            hasher.update(&piece);
            at += n as u64;
        }
        Ok(hasher.hex())
    }

    /// Fills the part until it is whole, and answers whether it began with bytes of an earlier life.
    fn fill(&self, url: &str, expected: Option<&str>, part: &Path) -> Result<bool, Diagnostic> {
        // Without a tag, only a checksum could tell that both halves are of one version.
        let sure = |s: &Partial| s.url == url && (s.tag.is_some() || expected.is_some());
        let mut state = self.earlier(part)?.filter(sure);
        let mut resumed = state.is_some();
        let (mut failures, mut pause) = (0, FIRST_PAUSE);
        loop {
            let from = state.as_ref().map_or(0, |s| s.kept);
            if state.as_ref().is_some_and(|s| s.kept == s.total) {
                return Ok(resumed);
            }
            if from == 0 {
                self.remove_part(part)?;
                (state, resumed) = (None, false);
            }
            let tag = state.as_ref().and_then(|s| s.tag.as_deref());
            let error = match self.remote.open(url, from, tag) {
                Ok(body) if body.total > self.limit => return Err(self.too_large(url, body.total)),
                Ok(body) if state.as_ref().is_some_and(|s| s.total != body.total) => {
                    RemoteError::Changed(url.to_owned())
                }
                Ok(body) => {
                    let mut now = Partial { url: url.into(), total: body.total, tag: body.tag, kept: from };
                    let problem = self.receive(body.reader, part, &mut now)?;
                    let came = now.kept > from;
                    state = Some(now).filter(sure);
                    let Some(problem) = problem else { return Ok(resumed) };
                    if came {
                        (failures, pause) = (0, FIRST_PAUSE);
                    }
                    RemoteError::Broken { url: url.into(), problem }
                }
                Err(error) => error,
            };
            match error {
                // Another version, or whole files only: from the start.
                RemoteError::Changed(_) | RemoteError::NoRanges(_) if from > 0 => state = None,
                RemoteError::Broken { .. } => {}
                error => return Err(refuse(&error)),
            }
            failures += 1;
            if failures == ATTEMPTS {
                return Err(refuse(&error));
            }
            self.remote.pause(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// What an earlier process has left, cut to what is known to be whole.
    fn earlier(&self, part: &Path) -> Result<Option<Partial>, Diagnostic> {
        let state = crate::manifest::read::<Partial>(&*self.storage, &sibling(part, ".json"));
        let Some(state) = state.ok().flatten() else { return Ok(None) };
        let length = self.storage.entry(part).map_err(|e| storage_problem(&e))?.map_or(0, |e| e.bytes);
        if length > state.kept {
            self.copy(part, state.kept, part, None)?;
        }
        Ok(Some(state).filter(|s| s.kept <= length))
    }

    /// Appends what arrives up to the total length, and answers what ended it too early.
    fn receive(
        &self,
        mut reader: Box<dyn Read + Send>,
        part: &Path,
        state: &mut Partial,
    ) -> Result<Option<String>, Diagnostic> {
        loop {
            let want = (state.total - state.kept).min(PIECE_BYTES as u64);
            let mut piece = Vec::new();
            let read = reader.by_ref().take(want).read_to_end(&mut piece);
            if !piece.is_empty() || state.total == 0 {
                self.storage.append(part, &piece).map_err(|e| storage_problem(&e))?;
                state.kept += piece.len() as u64;
                crate::manifest::write(&*self.storage, &sibling(part, ".json"), state)?;
                (self.progress)(state.kept, state.total);
            }
            match read {
                Err(e) => return Ok(Some(e.to_string())),
                Ok(n) if (n as u64) < want => {
                    return Ok(Some("the connection ended before the file did".into()));
                }
                Ok(_) if state.kept == state.total => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// Replaces a file by the first bytes of one, which may be the same, when they have the expected SHA-256.
    fn copy(&self, from: &Path, bytes: u64, to: &Path, expected: Option<&str>) -> Result<(), Diagnostic> {
        let written = self.storage.write_with(to, &mut |out| {
            let mut hasher = Hasher::new();
            let mut at = 0;
            while at < bytes {
                let n = (bytes - at).min(PIECE_BYTES as u64) as usize;
                let piece = self.storage.read_range(from, at, n).map_err(std::io::Error::other)?;
                hasher.update(&piece);
                out.write_all(&piece)?;
                at += n as u64;
            }
            match expected.is_none_or(|expected| expected == hasher.hex()) {
                true => Ok(()),
                false => Err(std::io::Error::other("the file changed while it was put in its place")),
            }
        });
        written.map_err(|e| storage_problem(&e))
    }

    /// Puts the whole part in place of the target. The inner error is a checksum that differs.
    fn finish(
        &self,
        url: &str,
        part: &Path,
        target: &Path,
        expected: Option<&str>,
    ) -> Result<Result<Downloaded, Diagnostic>, Diagnostic> {
        let bytes = self.storage.entry(part).map_err(|e| storage_problem(&e))?.map_or(0, |e| e.bytes);
        let actual = self.hash(part, bytes)?;
        if let Some(expected) = expected.filter(|e| !e.eq_ignore_ascii_case(&actual)) {
            return Ok(Err(Diagnostic::new("data.download.checksum", format!("{url} has the SHA-256 {actual}"))
                .expected(expected.to_owned())
                .hint("the file was changed at its home or on its way; take it from somewhere else, or correct the checksum")));
        }
        self.copy(part, bytes, target, Some(&actual))?;
        let downloaded = Downloaded { url: url.into(), bytes, sha256: actual, reused: false };
        crate::manifest::write(&*self.storage, &sibling(target, ".download.json"), &downloaded)?;
        self.remove_part(part)?;
        Ok(Ok(downloaded))
    }

    fn remove_part(&self, part: &Path) -> Result<(), Diagnostic> {
        for path in [&sibling(part, ".json"), part] {
            self.storage.remove_file(path).map_err(|e| storage_problem(&e))?;
        }
        Ok(())
    }

    fn too_large(&self, url: &str, bytes: u64) -> Diagnostic {
        Diagnostic::new("data.download.limit", format!("{url} has {bytes} bytes"))
            .item("data.download_limit")
            .expected(format!("at most {} bytes", self.limit))
            .hint("raise `data.download_limit`, in gigabytes, if that is meant")
    }
}

fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}
