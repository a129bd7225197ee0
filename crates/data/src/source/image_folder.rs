//! Folders of images, one folder per class: `train/cat/1.png`, `train/dog/a/2.jpg`. The folders directly below the one
//! that the manifest names are the classes, in the order of their names; images may lie at any depth below them. Files
//! of other kinds and hidden ones are passed over.
//!
//! A record is the image's file and the number of its class, just as Parquet files of the Hugging Face Hub hold them.
//! So the same images give the same records from both, in the same splits; only their order is that of the source.

use super::{Context, Opened, Part, RecordSource, Records, SourceKind, check_test, require};
use crate::DataSpec;
use crate::files::{Finder, Found, storage_problem};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Record, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `source = "image_folder"`.
pub const KIND: SourceKind = SourceKind { name: "image_folder", keys: &["files", "size", "channels"], open };

/// Endings of the files that are read, in lower case.
const ENDINGS: &[&str] = &[".png", ".jpg", ".jpeg", ".webp"];
/// Folders below a class are followed so far down.
const DEPTH_MAX: usize = 8;
/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 1 << 28;
/// The columns.
const IMAGE: &str = "image";
const LABEL: &str = "label";

/// An image and the name of its class.
struct Item {
    file: Found,
    class: String,
}

struct FolderSource {
    storage: Arc<dyn StorageBackend>,
    columns: Columns,
    classes: Vec<String>,
    train: Vec<Item>,
    test: Option<Vec<Item>>,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    check_test(spec, &["files"])?;
    let folders = require(&spec.files, "files", KIND.name)?;
    let train = images(&context.finder, folders.patterns(), "data.files")?;
    let test = match &spec.test {
        Some(test) => {
            let folders = require(&test.files, "test.files", KIND.name)?;
            Some(images(&context.finder, folders.patterns(), "data.test.files")?)
        }
        None => None,
    };
    let classes = spec.classes.clone().unwrap_or_else(|| {
        train.iter().map(|item| &item.class).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    });
    let mut problems = Diagnostics::default();
    let all = train.iter().chain(test.iter().flatten());
    let strangers: BTreeSet<&String> = all.map(|i| &i.class).filter(|c| !classes.contains(*c)).collect();
    for class in strangers {
        problems.push(
            Diagnostic::new(
                "data.image-folder.class",
                format!("the folder `{class}` is none of the classes"),
            )
            .item(if spec.classes.is_some() { "data.classes" } else { "data.test.files" })
            .expected(classes.join(", ")),
        );
    }
    problems.into_result(())?;
    let storage = context.finder.storage.clone();
    let columns =
        Columns(vec![Column::new(IMAGE, ColumnKind::Image), Column::new(LABEL, ColumnKind::Number)]);
    Ok(Opened::Records(Box::new(FolderSource { storage, columns, classes, train, test })))
}

/// All images below the folders, by folder, class and path.
fn images(finder: &Finder<'_>, folders: &[String], key: &str) -> Result<Vec<Item>, Diagnostic> {
    let mut items = Vec::new();
    for folder in folders {
        let found = finder.find_folder(folder, key)?;
        let before = items.len();
        for entry in finder.storage.list(&found.path).map_err(|e| storage_problem(&e))? {
            if entry.name.starts_with('.') {
                continue;
            }
            if !entry.is_folder {
                if is_image(&entry.name) {
                    return Err(Diagnostic::new(
                        "data.image-folder.class",
                        "the image lies in no folder of a class",
                    )
                    .file(found.path.join(&entry.name))
                    .expected("one folder per class, and the images in them")
                    .item(key.to_owned()));
                }
                continue;
            }
            let class = Found {
                shown: format!("{}/{}", found.shown, entry.name),
                path: found.path.join(&entry.name),
                bytes: 0,
            };
            let mut files = Vec::new();
            walk(&*finder.storage, &class, DEPTH_MAX, &mut files)?;
            items.extend(files.into_iter().map(|file| Item { file, class: entry.name.clone() }));
        }
        if items.len() == before {
            return Err(Diagnostic::new("data.no-files", "the folder holds no images")
                .file(&found.path)
                .item(key.to_owned())
                .expected(format!("one folder per class, with files that end in {}", ENDINGS.join(", "))));
        }
    }
    Ok(items)
}

/// The images at any depth below a folder, in the order of their paths, whatever the folders between mean.
///
/// # Errors
/// When a folder cannot be read, or they are nested too deeply.
pub fn images_below(storage: &dyn StorageBackend, folder: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let found = Found { shown: folder.display().to_string(), path: folder.to_owned(), bytes: 0 };
    let mut files = Vec::new();
    walk(storage, &found, DEPTH_MAX, &mut files)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// Whether a file is taken for an image, by its name.
pub(crate) fn is_image(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// Adds the images below a folder in the order of their names.
fn walk(
    storage: &dyn StorageBackend,
    folder: &Found,
    depth: usize,
    files: &mut Vec<Found>,
) -> Result<(), Diagnostic> {
    if depth == 0 {
        return Err(Diagnostic::new("data.image-folder.depth", "the folders are nested too deeply")
            .file(&folder.path)
            .expected(format!("at most {DEPTH_MAX} levels below a class"))
            .hint("a link may lead back to a folder above it"));
    }
    for entry in storage.list(&folder.path).map_err(|e| storage_problem(&e))? {
        if entry.name.starts_with('.') || !entry.is_folder && !is_image(&entry.name) {
            continue;
        }
        let found = Found {
            shown: format!("{}/{}", folder.shown, entry.name),
            path: folder.path.join(&entry.name),
            bytes: entry.bytes,
        };
        if entry.is_folder {
            walk(storage, &found, depth - 1, files)?;
        } else if found.bytes > FILE_BYTES_MAX {
            return Err(Diagnostic::new(
                "data.image.absurd-size",
                format!("a file of {} bytes", found.bytes),
            )
            .file(&found.path)
            .expected(format!("at most {FILE_BYTES_MAX} bytes")));
        } else {
            files.push(found);
        }
    }
    Ok(())
}

impl FolderSource {
    fn items(&self, part: Part) -> &[Item] {
        match part {
            Part::Train => &self.train,
            Part::Test => self.test.as_deref().unwrap_or_default(),
        }
    }

    fn record(&self, item: &Item) -> Result<Record, Diagnostic> {
        let bytes = self.storage.read(&item.file.path).map_err(|e| storage_problem(&e))?;
        let class = self.classes.iter().position(|c| *c == item.class);
        let label = class.map_or(Value::Missing, |class| Value::Number(class as f64));
        let file: Arc<Path> = Arc::from(item.file.path.as_path());
        let origin = Origin { file: Some(file), line: None, row: 0 };
        Ok(Record { values: vec![Value::Encoded(bytes), label], origin })
    }
}

impl RecordSource for FolderSource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn files(&self) -> Vec<Found> {
        self.train.iter().chain(self.test.iter().flatten()).map(|item| item.file.clone()).collect()
    }
    fn default_label(&self) -> Option<&str> {
        Some(LABEL)
    }
    fn class_names(&self) -> Option<Vec<String>> {
        Some(self.classes.clone())
    }
    fn labels_are_classes(&self) -> bool {
        true
    }
    fn has_test(&self) -> bool {
        self.test.is_some()
    }
    fn count(&self, part: Part) -> Option<u64> {
        Some(self.items(part).len() as u64)
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        Ok(Box::new(self.items(part).iter().map(|item| self.record(item))))
    }
}
