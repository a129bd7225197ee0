//! `outgrow init`: writes a commented manifest to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};

use outgrow_ir::Diagnostic;
use serde_json::json;

use super::{Context, Failure};
use crate::cli::InitArgs;
use crate::manifest::{TEMPLATES, commented};

/// Writes the file. One that is there stays as it is without `--force`.
pub fn run(args: &InitArgs, context: &Context) -> Result<(), Failure> {
    let template = TEMPLATES.iter().find(|template| template.name == args.template).ok_or_else(|| {
        let names: Vec<_> =
            TEMPLATES.iter().map(|template| format!("{} ({})", template.name, template.about)).collect();
        Diagnostic::new("init.template", format!("there is no template `{}`", args.template))
            .expected(format!("one of: {}", names.join("; ")))
    })?;
    let cannot = |problem: String| Diagnostic::new("init.file", problem).file(&args.file);
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(&args.file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => cannot("there is a file of this name already".to_owned())
            .hint("choose another name, or add --force to replace it"),
        _ => cannot(format!("the manifest cannot be written: {error}")),
    })?;
    let text = commented(template);
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| cannot(format!("the manifest cannot be written: {error}")))?;
    let file = args.file.display().to_string();
    let answer = format!("wrote {file}: {}\nnext: outgrow run {file}\n", template.about);
    Ok(context.answer(&json!({ "manifest": file, "template": template.name }), &answer)?)
}
