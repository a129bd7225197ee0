//! Model packages: what is needed to use a model, as named parts of bytes in one folder. The parts (graph, weights,
//! transform, labels) are opaque here; their own crates read them.
//!
//! `package.json` lists the parts with lengths and checksums, and is written last: whatever happens while a package
//! is saved over another, the folder holds one of the two whole. A part is in the file of its own name, unless
//! another package's part is there; then a piece of its checksum is added to the file's name.

use crate::{StoreError, in_file, sha256};
use bytes::Bytes;
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The file that lists the parts.
pub const INDEX: &str = "package.json";
const FORMAT: &str = "outgrow-package";
const VERSION: u32 = 2;
/// Digits of the checksum that tell two versions of a part apart.
const TAG_DIGITS: usize = 12;
const NAME_BYTES_MAX: usize = 100;

/// Named parts of bytes that make up a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelPackage {
    /// The parts by name: a file name such as `weights.safetensors`, of letters, digits, `-`, `_` and `.`.
    pub parts: BTreeMap<String, Bytes>,
}

/// The list of parts, as `package.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    format: String,
    version: u32,
    /// The parts, ordered by name.
    pub parts: Vec<PackagePart>,
    /// SHA-256 over the other fields.
    sha256: String,
}

/// One part in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagePart {
    /// Its name.
    pub name: String,
    /// The file in the package's folder that holds it.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

impl ModelPackage {
    /// A part, or a diagnostic that says that it is missing.
    pub fn part(&self, name: &str) -> Result<&Bytes, Diagnostics> {
        self.parts.get(name).ok_or_else(|| {
            let there: Vec<&str> = self.parts.keys().map(String::as_str).collect();
            Diagnostic::new("store.package.part", "the model package has no such part")
                .item(name)
                .expected(format!("parts there are: {}", there.join(", ")))
                .into()
        })
    }

    /// Saves the package into the folder, durably, in place of what is there. On an error the package that was there
    /// stays whole. One process at a time may do this.
    pub fn save(&self, storage: &dyn StorageBackend, folder: &Path) -> Result<(), StoreError> {
        check_names(self.parts.keys())?;
        storage.create_folder(folder)?;
        storage.sweep(folder)?;
        let mut parts = Vec::new();
        for (name, bytes) in &self.parts {
            let sha256 = sha256::hex(bytes);
            let file = place_part(storage, folder, name, bytes, &sha256)?;
            parts.push(PackagePart { name: name.clone(), file, bytes: bytes.len() as u64, sha256 });
        }
        let path = folder.join(INDEX);
        // An index that is damaged or missing leaves unknown files behind, which harm nobody.
        let old = storage.read(&path).ok().and_then(|bytes| parse_index(&bytes).ok());
        let index = Index::new(parts);
        let mut text = serde_json::to_string_pretty(&index)
            .map_err(|e| Diagnostics::from(Diagnostic::fault("store.package.write", e.to_string())))?;
        text.push('\n');
        storage.write(&path, text.as_bytes())?;
        let used: BTreeSet<&str> = index.parts.iter().map(|p| p.file.as_str()).collect();
        for part in old.iter().flat_map(|old| &old.parts).filter(|p| !used.contains(p.file.as_str())) {
            storage.remove_file(&folder.join(&part.file))?;
        }
        Ok(())
    }

    /// Whether every part is there with its length. What the parts hold is not read.
    pub fn check_files(storage: &dyn StorageBackend, folder: &Path) -> Result<(), StoreError> {
        let mut problems = Diagnostics::default();
        for part in read_index(storage, folder)?.parts {
            if let Err(e) = find_part(storage, folder, &part) {
                problems.0.extend(e.into_diagnostics().0);
            }
        }
        Ok(problems.into_result(())?)
    }

    /// Maps the parts of a package, which never change once they are written, and verifies every one. All damaged
    /// parts are told.
    pub fn load(storage: &dyn StorageBackend, folder: &Path) -> Result<Self, StoreError> {
        let index = read_index(storage, folder)?;
        let mut package = Self::default();
        let mut problems = Diagnostics::default();
        for part in index.parts {
            match read_part(storage, folder, &part) {
                Ok(bytes) => {
                    package.parts.insert(part.name, bytes);
                }
                Err(e) => problems.0.extend(e.into_diagnostics().0),
            }
        }
        Ok(problems.into_result(package)?)
    }
}

/// Writes a part where nothing else is, unless it is there already, and returns the file's name.
fn place_part(
    storage: &dyn StorageBackend,
    folder: &Path,
    name: &str,
    bytes: &[u8],
    sha256: &str,
) -> Result<String, StoreError> {
    let (stem, extension) =
        name.rsplit_once('.').map_or((name, String::new()), |(s, e)| (s, format!(".{e}")));
    let tagged = format!("{stem}-{}{extension}", &sha256[..TAG_DIGITS]);
    for file in [name, &tagged] {
        let path = folder.join(file);
        match storage.map(&path) {
            Ok(there) if there == bytes => return Ok(file.to_owned()),
            Err(e) if e.is_not_found() => {
                storage.write(&path, bytes)?;
                return Ok(file.to_owned());
            }
            _ => {}
        }
    }
    // The tagged name belongs to these bytes alone: what is there is damaged.
    storage.write(&folder.join(&tagged), bytes)?;
    Ok(tagged)
}

fn read_index(storage: &dyn StorageBackend, folder: &Path) -> Result<Index, StoreError> {
    let path = folder.join(INDEX);
    let bytes = storage.read(&path).map_err(|e| {
        if e.is_not_found() {
            let problem = "there is no model package here";
            let diagnostic = Diagnostic::new("store.package.missing", problem)
                .file(folder)
                .expected(format!("a folder with the file {INDEX}"));
            Diagnostics::from(diagnostic).into()
        } else {
            StoreError::from(e)
        }
    })?;
    Ok(parse_index(&bytes).map_err(|d| in_file(d, &path))?)
}

fn damaged(path: &Path, part: &PackagePart, problem: String) -> StoreError {
    let diagnostic = Diagnostic::new("store.package.damaged", problem).file(path).item(&*part.name);
    Diagnostics::from(diagnostic.hint("the file changed after the package was written")).into()
}

/// The path of a part, which is there with its length.
fn find_part(storage: &dyn StorageBackend, folder: &Path, part: &PackagePart) -> Result<PathBuf, StoreError> {
    let path = folder.join(&part.file);
    let found = storage.entry(&path)?.map(|e| e.bytes);
    if found == Some(part.bytes) {
        return Ok(path);
    }
    let found = found.map_or("is missing".to_owned(), |n| format!("has {n} bytes"));
    Err(damaged(&path, part, format!("the part {found}, expected {} bytes", part.bytes)))
}

fn read_part(storage: &dyn StorageBackend, folder: &Path, part: &PackagePart) -> Result<Bytes, StoreError> {
    let path = find_part(storage, folder, part)?;
    let bytes = storage.map(&path)?;
    if sha256::hex(&bytes) == part.sha256 {
        Ok(bytes)
    } else {
        Err(damaged(&path, part, "its checksum differs".to_owned()))
    }
}

impl Index {
    fn new(parts: Vec<PackagePart>) -> Self {
        let mut index = Self { format: FORMAT.to_owned(), version: VERSION, parts, sha256: String::new() };
        index.sha256 = index.digest();
        index
    }

    fn digest(&self) -> String {
        let mut hasher = sha256::Hasher::new();
        // No field contains a line break, so no two lists give the same text.
        hasher.update(format!("{}\n{}\n", self.format, self.version).as_bytes());
        for part in &self.parts {
            let PackagePart { name, file, bytes, sha256 } = part;
            hasher.update(format!("{name}\n{file}\n{bytes}\n{sha256}\n").as_bytes());
        }
        hasher.hex()
    }
}

/// Reads and verifies the bytes of a `package.json`.
pub fn parse_index(bytes: &[u8]) -> Result<Index, Diagnostics> {
    let index: Index = serde_json::from_slice(bytes).map_err(|e| {
        Diagnostic::new("store.package.index", format!("not a valid list of parts: {e}"))
            .line(e.line())
            .column(e.column())
            .hint("the file changed after the package was written")
    })?;
    if (index.format.as_str(), index.version) != (FORMAT, VERSION) {
        return Err(Diagnostic::new(
            "store.package.version",
            format!("unknown format `{}` version {}", index.format, index.version),
        )
        .expected(format!("{FORMAT} version {VERSION}"))
        .into());
    }
    check_names(index.parts.iter().flat_map(|p| [&p.name, &p.file]))?;
    if index.digest() != index.sha256 {
        return Err(Diagnostic::new("store.package.damaged", "the checksum of the list of parts differs")
            .hint("the file changed after the package was written")
            .into());
    }
    let (names, files): (BTreeSet<&String>, BTreeSet<&String>) =
        index.parts.iter().map(|p| (&p.name, &p.file)).unzip();
    if names.len() < index.parts.len() || files.len() < index.parts.len() {
        return Err(Diagnostic::new("store.package.duplicate", "a part or a file is listed twice")
            .hint("the file was not written by this program, or changed")
            .into());
    }
    Ok(index)
}

/// Names are file names in the package's own folder and nothing else: no path leads out of it.
fn check_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Diagnostics> {
    let mut problems = Diagnostics::default();
    for name in names {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let valid = !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain);
        if !valid || name == INDEX || name.len() > NAME_BYTES_MAX {
            problems.push(
                Diagnostic::new("store.package.name", format!("`{name}` cannot name a part"))
                    .expected(format!("letters, digits, `-`, `_`, `.`; not `{INDEX}`, no leading `.`")),
            );
        }
    }
    problems.into_result(())
}
