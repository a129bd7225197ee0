//! Finding and reading the files a manifest names: roots, folders, patterns, compression.

use crate::download::Downloads;
use crate::homes;
use crate::source::image_folder::is_image;
use flate2::read::MultiGzDecoder;
use outgrow_env::remote::{SCHEMES, is_url};
use outgrow_env::{StorageBackend, StorageError};
use outgrow_ir::Diagnostic;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wildmatch::WildMatch;

/// The code of the diagnostic for files that are not there.
pub(crate) const NOT_FOUND: &str = "data.not-found";

/// Looks relative paths up in the roots, in their order.
pub struct Finder<'a> {
    /// Where the files are.
    pub storage: Arc<dyn StorageBackend>,
    /// The folders to look in.
    pub roots: &'a [PathBuf],
    /// How URLs become files; they are refused without.
    pub web: Option<Web<'a>>,
}

/// How URLs become files.
pub struct Web<'a> {
    /// What downloads.
    pub downloads: Downloads<'a>,
    /// The folder that files are kept below.
    pub cache: &'a Path,
    /// SHA-256 that files must have, by their URLs.
    pub sha256: &'a BTreeMap<String, String>,
}

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The path as the manifest gives it, which does not depend on where the roots are.
    pub shown: String,
    /// The path to read.
    pub path: PathBuf,
    /// Length of the file.
    pub bytes: u64,
}

/// The code of the diagnostic for a folder that another process works in.
pub const IN_USE: &str = "data.locked";

/// A storage failure as a diagnostic.
pub fn storage_problem(error: &StorageError) -> Diagnostic {
    let code = match error {
        StorageError::NoSpace { .. } => "data.no-space",
        StorageError::Locked { .. } => IN_USE,
        _ => "data.storage",
    };
    let diagnostic = Diagnostic::new(code, error.to_string()).file(error.path());
    match error {
        StorageError::NoSpace { .. } => {
            diagnostic.hint("free some space, or choose another folder with --cache")
        }
        StorageError::Locked { .. } => diagnostic
            .hint("wait until the other run has prepared the data, or give this one another --cache folder"),
        _ => diagnostic.hint("look at the path, and at who may read and write there"),
    }
}

impl Finder<'_> {
    /// All files that the patterns stand for: a file, all files of a folder with one of these endings, or the files
    /// that match `*` and `?` in the last parts of a path. Files of one pattern come in the order of their names.
    ///
    /// # Errors
    /// A diagnostic for a pattern that stands for nothing, which says where it was looked for and, for well-known
    /// data sets, where to get it.
    pub fn find(&self, patterns: &[String], key: &str, endings: &[&str]) -> Result<Vec<Found>, Diagnostic> {
        let mut all = Vec::new();
        for pattern in patterns {
            if is_url(pattern) {
                all.push(self.download(pattern, key)?);
                continue;
            }
            let mut found = Vec::new();
            for root in self.roots_of(pattern) {
                self.collect(&root, pattern, endings, &mut found)?;
                if !found.is_empty() {
                    break;
                }
            }
            if found.is_empty() {
                let is_there = self.folder_of(pattern)?;
                return Err(match is_there {
                    Some(folder) => self.nothing_in(&folder, key, endings)?,
                    None => self.not_found(pattern, key),
                });
            }
            all.extend(found);
        }
        if all.is_empty() {
            return Err(Diagnostic::new("data.no-files", "no file is named")
                .item(key.to_owned())
                .expected("a file, a pattern such as `*.csv`, or a list of them"));
        }
        Ok(all)
    }

    /// One file.
    ///
    /// # Errors
    /// As [`Finder::find`].
    pub fn find_one(&self, path: &str, key: &str) -> Result<Found, Diagnostic> {
        if is_url(path) {
            return self.download(path, key);
        }
        for root in self.roots_of(path) {
            let whole = root.join(path);
            if let Some(entry) = self.entry(&whole)?
                && !entry.is_folder
            {
                return Ok(Found { shown: path.to_owned(), path: whole, bytes: entry.bytes });
            }
        }
        Err(self.not_found(path, key))
    }

    /// One folder.
    ///
    /// # Errors
    /// As [`Finder::find`].
    pub fn find_folder(&self, path: &str, key: &str) -> Result<Found, Diagnostic> {
        if is_url(path) {
            return Err(Diagnostic::new(
                "data.url",
                format!("{path} is a URL, and folders are read here only"),
            )
            .item(key.to_owned())
            .expected("a folder on this machine"));
        }
        if let Some(whole) = self.folder_of(path)? {
            let shown = path.trim_end_matches('/').to_owned();
            return Ok(Found { shown, path: whole, bytes: 0 });
        }
        for whole in self.roots_of(path).iter().map(|root| root.join(path)) {
            if self.entry(&whole)?.is_some() {
                let diagnostic = Diagnostic::new("data.no-folder", format!("`{path}` is a file"));
                return Err(diagnostic.file(whole).item(key.to_owned()).expected("a folder"));
            }
        }
        Err(self.not_found(path, key))
    }

    /// The folder of this name in the first of the roots that has one.
    fn folder_of(&self, path: &str) -> Result<Option<PathBuf>, Diagnostic> {
        for whole in self.roots_of(path).iter().map(|root| root.join(path)) {
            if self.entry(&whole)?.is_some_and(|entry| entry.is_folder) {
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    /// What to say of a folder that holds no file with one of these endings.
    fn nothing_in(&self, folder: &Path, key: &str, endings: &[&str]) -> Result<Diagnostic, Diagnostic> {
        let list = |folder: &Path| self.storage.list(folder).map_err(|e| storage_problem(&e));
        let inside = list(folder)?;
        let mut has_images = inside.iter().any(|entry| !entry.is_folder && is_image(&entry.name));
        for below in inside.iter().filter(|entry| entry.is_folder).take(FOLDERS_LOOKED_AT) {
            let images = list(&folder.join(&below.name))?;
            has_images |= images.iter().any(|entry| !entry.is_folder && is_image(&entry.name));
        }
        let names: Vec<&str> = inside.iter().take(NAMES_SHOWN).map(|entry| entry.name.as_str()).collect();
        let more = if inside.len() > NAMES_SHOWN { " and others" } else { "" };
        let holds = match names.as_slice() {
            [] => "is empty".to_owned(),
            names => format!("has {}{more}, and no file that is read", names.join(", ")),
        };
        let diagnostic = Diagnostic::new(NOT_FOUND, format!("the folder {holds}"))
            .file(folder)
            .item(key.to_owned())
            .expected(format!("files that end in {}", endings.join(", ")));
        Ok(match has_images {
            true => diagnostic.hint(
                "`source = \"image_folder\"` reads a folder that holds a folder of images for each class",
            ),
            false => diagnostic
                .hint("name the file itself, or a pattern such as `logs/*.txt`, whatever it ends in"),
        })
    }

    /// The file of a URL, fetched unless it is there already.
    fn download(&self, url: &str, key: &str) -> Result<Found, Diagnostic> {
        let at = |d: Diagnostic| if d.place.item.is_some() { d } else { d.item(key.to_owned()) };
        let refuse = |problem: &str| {
            let problem = format!("{url}: {problem}");
            Err(at(Diagnostic::new("data.url", problem)
                .expected(format!("the URL of one file, which begins with {}", SCHEMES.join(", ")))))
        };
        if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
            return refuse("URLs of this kind are not understood");
        }
        if url.contains(['*', '?', '#']) || url.ends_with('/') {
            return refuse("it is not the URL of one file");
        }
        let Some(web) = &self.web else { return refuse("URLs are not read here") };
        let expected = web.sha256.get(url).map(String::as_str);
        let (path, file) = web.downloads.to_cache(url, expected, web.cache).map_err(at)?;
        Ok(Found { shown: url.to_owned(), path, bytes: file.bytes })
    }

    fn entry(&self, path: &Path) -> Result<Option<outgrow_env::Entry>, Diagnostic> {
        self.storage.entry(path).map_err(|e| storage_problem(&e))
    }

    fn roots_of(&self, pattern: &str) -> Vec<PathBuf> {
        if Path::new(pattern).is_absolute() { vec![PathBuf::new()] } else { self.roots.to_vec() }
    }

    fn collect(
        &self,
        root: &Path,
        pattern: &str,
        endings: &[&str],
        found: &mut Vec<Found>,
    ) -> Result<(), Diagnostic> {
        let mut paths = vec![PathBuf::new()];
        for part in Path::new(pattern).components() {
            let part = part.as_os_str().to_string_lossy();
            let mut next = Vec::new();
            for base in paths {
                if !part.contains(['*', '?']) {
                    next.push(base.join(part.as_ref()));
                    continue;
                }
                let Some(folder) = self.entry(&root.join(&base))? else { continue };
                if folder.is_folder {
                    let pattern = WildMatch::new(&part);
                    let entries = self.storage.list(&root.join(&base)).map_err(|e| storage_problem(&e))?;
                    next.extend(
                        entries.iter().filter(|e| pattern.matches(&e.name)).map(|e| base.join(&e.name)),
                    );
                }
            }
            paths = next;
        }
        for path in paths {
            let whole = root.join(&path);
            let shown = path.to_string_lossy().into_owned();
            match self.entry(&whole)? {
                Some(entry) if entry.is_folder => {
                    for e in self.storage.list(&whole).map_err(|e| storage_problem(&e))? {
                        if !e.is_folder && endings.iter().any(|end| e.name.ends_with(end)) {
                            let shown = format!("{shown}/{}", e.name);
                            found.push(Found { shown, path: whole.join(&e.name), bytes: e.bytes });
                        }
                    }
                }
                Some(entry) => found.push(Found { shown, path: whole, bytes: entry.bytes }),
                None => {}
            }
        }
        Ok(())
    }

    fn not_found(&self, pattern: &str, key: &str) -> Diagnostic {
        let looked: Vec<String> =
            self.roots_of(pattern).iter().map(|r| r.join(pattern).display().to_string()).collect();
        let diagnostic = Diagnostic::new(NOT_FOUND, format!("there is no `{pattern}`"))
            .item(key.to_owned())
            .expected(format!("a file or folder at {}", looked.join(" or ")));
        match homes::home_of(pattern) {
            Some(home) => diagnostic.hint(home),
            None => diagnostic.hint("say where the data is with --data FOLDER or the variable OUTGROW_DATA"),
        }
    }
}

/// Of a folder without files to read, so many folders are looked into, and so many names are told.
const FOLDERS_LOOKED_AT: usize = 8;
const NAMES_SHOWN: usize = 4;

/// Bytes read from storage at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// The same where only a few bytes are wanted.
const SMALL_CHUNK_BYTES: u64 = 1 << 12;

/// Reads a file of a storage from its start to its end, in chunks.
pub struct FileReader {
    storage: Arc<dyn StorageBackend>,
    path: PathBuf,
    position: u64,
    length: u64,
    chunk: Vec<u8>,
    used: usize,
    chunk_bytes: u64,
}

impl FileReader {
    /// A reader at the start of a file.
    pub fn new(storage: Arc<dyn StorageBackend>, file: &Found) -> Self {
        Self {
            storage,
            path: file.path.clone(),
            position: 0,
            length: file.bytes,
            chunk: Vec::new(),
            used: 0,
            chunk_bytes: CHUNK_BYTES,
        }
    }

    /// The same reader, starting elsewhere and for a few bytes at a time.
    #[must_use]
    pub fn starting_at(self, position: u64) -> Self {
        let position = position.min(self.length);
        Self { position, chunk: Vec::new(), used: 0, chunk_bytes: SMALL_CHUNK_BYTES, ..self }
    }

    /// The same reader, starting elsewhere to read much.
    #[must_use]
    pub fn going_on_at(self, position: u64) -> Self {
        Self { chunk_bytes: CHUNK_BYTES, ..self.starting_at(position) }
    }
}

/// What begins with these bytes is compressed by gzip.
pub(crate) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Whether a file is compressed by gzip, told by its first bytes and not by its name.
pub fn is_gzip(storage: &dyn StorageBackend, file: &Found) -> Result<bool, Diagnostic> {
    let n = file.bytes.min(2) as usize;
    let start = storage.read_range(&file.path, 0, n).map_err(|e| storage_problem(&e))?;
    Ok(start == GZIP)
}

/// A reader of a file's content, unpacked where it is compressed by gzip.
pub fn content(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Box<dyn Read + Send>, Diagnostic> {
    let reader = FileReader::new(storage.clone(), file);
    Ok(if is_gzip(&**storage, file)? { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) })
}

/// The diagnostic for a file that begins like text in another encoding than UTF-8.
pub(crate) fn other_encoding(start: &[u8]) -> Option<Diagnostic> {
    let name = match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => return None,
    };
    let problem = format!("the file is text in {name}");
    let hint = format!("convert it: `iconv -f {name} -t UTF-8 FILE > NEW`");
    Some(Diagnostic::new("data.encoding", problem).expected("text in UTF-8").hint(hint))
}

/// A failure to read the content of a file as a diagnostic.
pub fn read_problem(error: &io::Error, path: &Path) -> Diagnostic {
    Diagnostic::new("data.read", format!("the file cannot be read: {error}"))
        .file(path)
        .expected("a whole file, packed by gzip if at all")
        .hint("the file may be cut short or damaged: fetch it again")
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            let left = self.length - self.position;
            let n = left.min(self.chunk_bytes) as usize;
            if n == 0 {
                return Ok(0);
            }
            self.chunk = self.storage.read_range(&self.path, self.position, n).map_err(io::Error::other)?;
            self.position += n as u64;
            self.used = 0;
        }
        let n = out.len().min(self.chunk.len() - self.used);
        out[..n].copy_from_slice(&self.chunk[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = self.position - (self.chunk.len() - self.used) as u64;
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.length.checked_add_signed(n),
            SeekFrom::Current(n) => at.checked_add_signed(n),
        };
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        // A place in the chunk that was read needs no reading again.
        let chunk_start = self.position - self.chunk.len() as u64;
        if (chunk_start..=self.position).contains(&target) {
            self.used = (target - chunk_start) as usize;
        } else {
            self.position = target.min(self.length);
            (self.chunk, self.used) = (Vec::new(), 0);
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use wildmatch::WildMatch;

    #[test]
    fn patterns_match_names() {
        let cases = [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("part-??.txt", "part-07.txt", true),
            ("part-??.txt", "part-7.txt", false),
            ("*a*b", "xaxxaxb", true),
            ("*a*b", "xaxxaxbc", false),
            ("**", "", true),
            ("", "x", false),
        ];
        for (pattern, name, expect) in cases {
            assert_eq!(WildMatch::new(pattern).matches(name), expect, "{pattern} {name}");
        }
    }
}
