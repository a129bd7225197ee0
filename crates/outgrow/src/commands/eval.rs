//! `outgrow eval`: the metrics of a trained model on the data of its run, or on other files.

use std::path::{Path, PathBuf};

use outgrow_data::Dataset;
use outgrow_env::StorageBackend;
use outgrow_ir::Diagnostic;
use outgrow_predict::{MODEL_FOLDER, Package};
use serde_json::json;

use super::run::summary;
use crate::cli::{EvalArgs, ManifestArgs};
use crate::context::{Context, Failure};
use crate::places::run_place;
use crate::session::folder::{self, Ending};
use crate::session::{Session, evaluate_run, usage};

/// What only training can say.
const OF_TRAINING: [&str; 7] =
    ["steps", "samples", "train_seconds", "samples_per_s", "stopped_early", "best", "precision"];

/// Evaluates the model of a run's folder, or of a package.
pub fn run(args: &EvalArgs, context: &Context) -> Result<(), Failure> {
    let (manifest, files) = what(args);
    let session = Session::open(&manifest, &args.processor, context)?;
    let place = run_place(&session.manifest, args.out.as_deref());
    let storage = &*context.world.storage;
    let own = if files.is_empty() { Some(session.data_of_place(&place, false)?) } else { None };
    let path = session.begun_folder(&place, own.as_ref())?;
    let model_folder = model_folder(storage, &path)?;
    let package = Package::load(storage, &model_folder)?;
    let data = match own {
        Some(data) => checked(data, &session, &package, &model_folder)?,
        None => session.data_of_files(&files, &package.transform)?,
    };
    let model = session.model(&data)?;
    let mut trainer = session.trainer(&data, model, None)?;
    trainer.state.set_weights(&package.weights)?;
    trainer.set_threshold(package.decision.as_ref().map(|decision| decision.log_odds));
    let meter = usage::Meter::start(&session);
    let mut result = evaluate_run(&mut trainer, &data, &session.batches(&data)?)?;
    result.decision = package.decision;
    if let Some(warning) = result.warning() {
        context.note(&warning);
    }
    let usage = meter.usage();
    let mut json = result.to_json(&session, &path, &trainer, &usage, None)?;
    json["model"] = json!(model_folder);
    json["kernel_path"] = json!(session.cpu.path.name());
    // What only training can say comes from the run itself, where it is finished.
    let before = folder::result(storage, &path).unwrap_or_else(|found| {
        context.note(&format!("warning: nothing is said of the training: {found}"));
        Ending::Open
    });
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|key, _| !OF_TRAINING.contains(&key.as_str()));
        if !files.is_empty() {
            fields.insert("files".into(), json!(files));
        } else if let Ending::Whole(before) = before {
            let there = OF_TRAINING.into_iter().filter(|key| !before[key].is_null());
            fields.extend(there.map(|key| (key.to_owned(), before[key].clone())));
        }
    }
    Ok(context.answer(&json, &summary(&json))?)
}

/// The manifest, and the files to evaluate on if they are not its own. A file after `--data` is one of those.
fn what(args: &EvalArgs) -> (ManifestArgs, Vec<PathBuf>) {
    let (mut manifest, mut files) = (args.manifest.clone(), args.files.clone());
    files.extend(manifest.data.take_if(|data| data.is_file()));
    (manifest, files)
}

/// The data of the manifest, which must be prepared as the model's was.
fn checked(
    data: Dataset,
    session: &Session<'_>,
    package: &Package,
    model: &Path,
) -> Result<Dataset, Failure> {
    if package.transform == *data.transform() {
        return Ok(data);
    }
    let problem = "the model was trained on data that was prepared in another way";
    let hint = match &session.manifest.kept {
        Some(_) => "its files have changed since: name those to evaluate on, as in `outgrow eval RUN FILE`",
        None => "give the manifest and the --set flags that the model was trained with, or the run's folder",
    };
    Err(Diagnostic::new("eval.data", problem).file(model).hint(hint).into())
}

/// The folder of the model in a run's folder, or that folder if it is a package itself.
fn model_folder(storage: &dyn StorageBackend, path: &Path) -> Result<PathBuf, Diagnostic> {
    Package::find(storage, path).map_err(|_| {
        let diagnostic = Diagnostic::new("eval.no-model", "there is no trained model");
        let hint = "train one with `outgrow run`, or say where it is with --out";
        diagnostic.file(path.join(MODEL_FOLDER)).hint(hint)
    })
}
