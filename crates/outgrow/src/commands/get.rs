//! `outgrow data get`: public data sets from their homes or a mirror, whole and checked.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_data::download::{Downloads, LIMIT_BYTES};
use outgrow_data::homes::{PUBLIC_SETS, PublicSet};
use outgrow_env::{StorageBackend, StorageError};
use outgrow_ir::{Diagnostic, Diagnostics};
use serde_json::{Value as Json, json};

use crate::cli::GetArgs;
use crate::context::{Context, Failure};
use crate::places::remote;
use crate::report::format::count;

/// The folder that sets are put into when none is said: that of the examples' command lines.
const FOLDER: &str = "data";

/// Lists the sets, or fetches those that are named.
pub fn run(args: &GetArgs, context: &Context) -> Result<(), Failure> {
    if args.list {
        return list(context);
    }
    let mut sets = Vec::new();
    let mut problems = Diagnostics::default();
    for name in &args.names {
        match PUBLIC_SETS.iter().find(|set| set.name == name) {
            Some(set) => sets.push(set),
            None => problems.push(unknown(&format!("there is no public data set `{name}`"))),
        }
    }
    if args.names.is_empty() {
        problems.push(unknown("no data set is named"));
    }
    problems.into_result(())?;
    let root = args.to.clone().or_else(|| context.environment.data.clone());
    let root = root.unwrap_or_else(|| PathBuf::from(FOLDER));
    let storage = context.world.storage.clone();
    let (mut text, mut fetched) = (String::new(), Vec::new());
    for set in sets {
        get(set, args.from.as_deref(), &root, &storage, context, &mut text, &mut fetched)?;
    }
    let _ = writeln!(text, "to use them: outgrow run MANIFEST --data {}", root.display());
    Ok(context.answer(&json!({ "folder": root.display().to_string(), "files": fetched }), &text)?)
}

fn unknown(problem: &str) -> Diagnostic {
    let names: Vec<&str> = PUBLIC_SETS.iter().map(|set| set.name).collect();
    Diagnostic::new("data.get", problem).expected(format!("one of: {}", names.join(", ")))
}

fn list(context: &Context) -> Result<(), Failure> {
    let (mut text, mut sets) = (String::new(), Vec::new());
    for set in PUBLIC_SETS {
        let _ = writeln!(text, "{}: {}\n  from {}", set.name, set.about, set.home);
        let mut files = Vec::new();
        for file in set.files {
            let _ = writeln!(text, "  {} (SHA-256 {})", file.name, file.sha256.unwrap_or("unknown to us"));
            files.push(json!({ "name": file.name, "sha256": file.sha256 }));
        }
        sets.push(json!({ "name": set.name, "about": set.about, "home": set.home, "files": files }));
    }
    Ok(context.answer(&Json::Array(sets), &text)?)
}

/// Fetches one set into the folder of its name. A mirror holds the same folders.
fn get(
    set: &PublicSet,
    mirror: Option<&str>,
    root: &Path,
    storage: &Arc<dyn StorageBackend>,
    context: &Context,
    text: &mut String,
    fetched: &mut Vec<Json>,
) -> Result<(), Failure> {
    let failed = |e: StorageError| {
        Failure::from(
            Diagnostic::new("data.storage", e.to_string())
                .hint("give another folder with --to, which may be written to and has room"),
        )
    };
    let folder = root.join(set.name);
    storage.create_folder(&folder).map_err(failed)?;
    let _lock = storage.lock(&folder).map_err(failed)?;
    let home = match mirror {
        Some(mirror) => format!("{}/{}/", mirror.trim_end_matches('/'), set.name),
        None => set.home.to_owned(),
    };
    let progress = context.progress();
    let tell = |done, total| progress.phase("downloading", done, Some(total));
    let remote = remote(&context.environment)?;
    let downloads = Downloads { storage: storage.clone(), remote, limit: LIMIT_BYTES, progress: &tell };
    for file in set.files {
        let target = folder.join(file.name);
        let found = downloads.to_file(&format!("{home}{}", file.name), file.sha256, &target);
        let found = match found {
            Ok(found) => found,
            Err(problem) => {
                progress.finish();
                return Err(problem.into());
            }
        };
        let how = match (found.reused, file.sha256) {
            (true, _) => "was there already, and is whole",
            (false, Some(_)) => "fetched, with the known checksum",
            (false, None) => "fetched; its checksum is not known to us, so only its length was checked",
        };
        let _ = writeln!(text, "{}: {} bytes, {how}", target.display(), count(found.bytes));
        fetched.push(json!({
            "file": target.display().to_string(),
            "bytes": found.bytes,
            "sha256": found.sha256,
            "checked": file.sha256.is_some(),
            "reused": found.reused,
        }));
    }
    progress.finish();
    Ok(())
}
