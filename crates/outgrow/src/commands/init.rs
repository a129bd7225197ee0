//! `outgrow init`: writes a commented manifest to start from.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use outgrow_env::{StorageBackend, StorageError};
use outgrow_ir::Diagnostic;
use serde_json::json;

use crate::cli::InitArgs;
use crate::context::{Context, Failure};
use crate::manifest::{TEMPLATES, commented};

/// Writes the file. One that is there stays as it is without `--force`.
pub fn run(args: &InitArgs, context: &Context) -> Result<(), Failure> {
    if args.list {
        let json: Vec<_> =
            TEMPLATES.iter().map(|t| json!({ "template": t.name, "about": t.about })).collect();
        let lines = TEMPLATES.iter().map(|template| format!("{:<10}  {}\n", template.name, template.about));
        let text = lines.collect::<String>() + "to start from one: outgrow init --template NAME\n";
        return Ok(context.answer(&json!({ "templates": json }), &text)?);
    }
    let template = TEMPLATES.iter().find(|template| template.name == args.template).ok_or_else(|| {
        let names: Vec<_> =
            TEMPLATES.iter().map(|template| format!("{} ({})", template.name, template.about)).collect();
        Diagnostic::new("init.template", format!("there is no template `{}`", args.template))
            .expected(format!("one of: {}", names.join("; ")))
    })?;
    let cannot = |problem: String| Diagnostic::new("init.file", problem).file(&args.file);
    let text = commented(template);
    let written = if args.force {
        replace(&*context.world.storage, &args.file, &text)
    } else {
        create(&args.file, &text)
    };
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => cannot("there is a file of this name already".to_owned())
            .hint("choose another name, or add --force to replace it"),
        _ => cannot(format!("the manifest cannot be written: {error}"))
            .hint("name a file in a folder that is there and that may be written to, on a disk with room"),
    })?;
    let file = args.file.display().to_string();
    let answer = format!("wrote {file}: {}\nnext: outgrow run {file}\n", template.about);
    Ok(context.answer(&json!({ "manifest": file, "template": template.name }), &answer)?)
}

/// Writes a file that must not be there yet. One that cannot be written whole goes again.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Writes a file in place of what is there, which stays as it is until the new one is whole.
fn replace(storage: &dyn StorageBackend, path: &Path, text: &str) -> io::Result<()> {
    storage.write(path, text.as_bytes()).map_err(|error| match error {
        StorageError::Io { source, .. } => source,
        StorageError::NotFound { .. } => ErrorKind::NotFound.into(),
        StorageError::NoSpace { .. } => ErrorKind::StorageFull.into(),
        other => io::Error::other(other),
    })
}
