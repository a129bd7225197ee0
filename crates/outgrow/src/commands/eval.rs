//! `outgrow eval`: the metrics of a trained model on the data of its manifest.

use std::path::Path;

use outgrow_ir::Diagnostic;
use outgrow_predict::{MODEL_FOLDER, Package};

use super::run::summary;
use crate::cli::EvalArgs;
use crate::context::{Context, Failure};
use crate::places::run_folder;
use crate::session::folder::{self, Ending};
use crate::session::{Session, evaluate_run, usage};

/// What only training can say.
const OF_TRAINING: [&str; 5] = ["steps", "samples", "train_seconds", "samples_per_s", "stopped_early"];

/// Evaluates the model of a run's folder.
pub fn run(args: &EvalArgs, context: &Context) -> Result<(), Failure> {
    let session = Session::open(&args.manifest, &args.processor, context)?;
    let (data, _) = session.data()?;
    let path = run_folder(&session.manifest, args.out.as_deref());
    let model = session.model(&data)?;
    let model_folder = model_folder(&session, &path)?;
    let package = Package::load(&*session.context().world.storage, &model_folder)?;
    if package.transform != *data.transform() {
        let problem = "the model was trained on data that was prepared in another way";
        let diagnostic = Diagnostic::new("eval.data", problem).file(&model_folder);
        return Err(diagnostic
            .hint("give the manifest and the --set flags that the model was trained with")
            .into());
    }
    let mut trainer = session.trainer(&data, model, None)?;
    trainer.state.set_weights(&package.weights)?;
    let meter = usage::Meter::start(&session);
    let result = evaluate_run(&mut trainer, &data, &session.batches(&data)?)?;
    if let Some(warning) = result.warning() {
        context.note(&warning);
    }
    let usage = meter.usage();
    let mut json = result.to_json(&session, &path, &trainer, &usage)?;
    // What only training can say comes from the run itself, where it is finished.
    let before = folder::result(&*session.context().world.storage, &path).unwrap_or_else(|found| {
        context.note(&format!("warning: nothing is said of the training: {found}"));
        Ending::Open
    });
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|key, _| !OF_TRAINING.contains(&key.as_str()));
        if let Ending::Whole(before) = before {
            fields.extend(OF_TRAINING.map(|key| (key.to_owned(), before[key].clone())));
        }
    }
    Ok(context.answer(&json, &summary(&json))?)
}

/// The folder of the model in a run's folder.
fn model_folder(session: &Session<'_>, path: &Path) -> Result<std::path::PathBuf, Diagnostic> {
    let folder = path.join(MODEL_FOLDER);
    match session.context().world.storage.entry(&folder) {
        Ok(Some(entry)) if entry.is_folder => Ok(folder),
        _ => {
            let diagnostic = Diagnostic::new("eval.no-model", "there is no trained model").file(folder);
            Err(diagnostic.hint("train one with `outgrow run`, or say where it is with --out"))
        }
    }
}
