//! `outgrow tune-lr`: searches for a learning rate by a range test, a grid, or a cross-validated grid, and writes what
//! came out as numbers and as a plot. Runs are short, from the manifest's own initial weights and over its own batches.

mod folds;
mod grid;
mod range;
mod show;

use outgrow_data::{Dataset, Split};
use outgrow_env::StorageError;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_train::Trainer;
use outgrow_train::spec::Optimizer;
use outgrow_transform::{Portion, TrainingData};
use serde_json::{Value as Json, json};

use crate::cli::{TuneLrArgs, TuneMethod};
use crate::context::{Context, Failure};
use crate::manifest::Manifest;
use crate::places::run_place;
use crate::session::folder::{TUNE_LR_NUMBERS, TUNE_LR_PLOT};
use crate::session::{DatasetBatches, Session};
use grid::{Runs, Trial};
use range::Rates;

/// Steps of a run when nothing is said: those of an epoch, but within these bounds.
const STEPS: std::ops::RangeInclusive<u64> = 100..=1000;
/// Digits of a rate that a range test suggests: it is no more exact than that.
const DIGITS: usize = 2;

/// What a search came to.
struct Found {
    /// The rate to use.
    lr: f64,
    /// What the search itself has to say: the method and its points.
    json: Json,
    /// For people.
    text: String,
    /// The plot's page.
    page: String,
}

/// Searches for a learning rate.
pub fn run(args: &TuneLrArgs, context: &Context) -> Result<(), Failure> {
    let method = method(args)?;
    let session = Session::open(&args.manifest, &args.processor, context)?;
    let (data, _) = session.data()?;
    let model = session.model(&data)?;
    let place = run_place(&session.manifest, args.out.as_deref());
    // Where `run` would go by the same manifest.
    let folder = session.folder_of(&place, &data, false)?;
    let storage = &context.world.storage;
    storage.create_folder(&folder).map_err(|e| problem(&e))?;
    // Held to the end, so that no run sweeps the folder while something is written here, and no run is disturbed.
    let _lock = storage.lock(&folder).map_err(|e| problem(&e))?;
    let mut trainer = session.trainer(&data, model, None)?;
    let search = Search { args, session: &session, data: &data, batches: session.batches(&data)? };
    let found = match method {
        TuneMethod::Range => search.range(&mut trainer)?,
        TuneMethod::Grid => search.grid(&mut trainer)?,
    };
    let set = format!("{}={}", key(&session.manifest), show::rate(found.lr));
    let mut json = found.json;
    json["lr"] = json!(found.lr);
    json["set"] = json!(set);
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        storage.write(&path, text.as_bytes()).map(|()| path).map_err(|e| problem(&e))
    };
    let numbers = write(TUNE_LR_NUMBERS, &format!("{json:#}\n"))?;
    let plot = write(TUNE_LR_PLOT, &found.page)?;
    json["numbers"] = json!(numbers);
    json["plot"] = json!(plot);
    let text = format!("{}use:  --set {set}\nplot: {}\n", found.text, plot.display());
    Ok(context.answer(&json, &text)?)
}

/// How to search, if the options agree.
fn method(args: &TuneLrArgs) -> Result<TuneMethod, Diagnostic> {
    if !(args.from > 0.0 && args.from < args.to && args.to.is_finite()) {
        let problem = format!("there are no rates from {} to {}", args.from, args.to);
        return Err(Diagnostic::new("tune.range", problem)
            .item("--from and --to")
            .expected("two numbers above 0, the second larger than the first"));
    }
    match (args.method, args.folds) {
        (Some(TuneMethod::Range), Some(_)) => {
            Err(Diagnostic::new("tune.method", "a range test has no cross-validation")
                .item("--folds")
                .hint("leave out --method range, or --folds"))
        }
        (Some(method), _) => Ok(method),
        (None, Some(_)) => Ok(TuneMethod::Grid),
        (None, None) => Ok(TuneMethod::Range),
    }
}

fn problem(error: &StorageError) -> Diagnostic {
    let diagnostic = Diagnostic::new("tune.folder", error.to_string()).file(error.path());
    match error {
        StorageError::Locked { .. } => {
            diagnostic.hint("wait until the run in this folder has ended, or choose another --out")
        }
        _ => diagnostic.hint("give another folder with --out, which may be written to and has room"),
    }
}

/// The key of the manifest that holds the rate.
fn key(manifest: &Manifest) -> &'static str {
    match manifest.train.optimizer {
        Optimizer::Ftrl(options) if options.alpha.is_some() => "train.optimizer.alpha",
        _ => "train.lr",
    }
}

/// What a search works with.
struct Search<'a> {
    args: &'a TuneLrArgs,
    session: &'a Session<'a>,
    data: &'a Dataset,
    batches: DatasetBatches,
}

impl Search<'_> {
    /// Steps of a run over this data.
    fn steps(&self, trainer: &Trainer, data: &dyn TrainingData) -> Result<u64, Diagnostic> {
        self.session.train(self.data).check_samples(data.samples())?;
        let per_epoch = trainer.steps_per_epoch(data.samples());
        Ok(self.args.steps.unwrap_or(per_epoch.clamp(*STEPS.start(), *STEPS.end())))
    }

    /// What every result says of the search.
    fn about(&self, method: &str, steps: u64) -> Json {
        json!({
            "method": method,
            "name": self.session.manifest.name,
            "seed": self.session.manifest.seed,
            "from": self.args.from,
            "to": self.args.to,
            "steps": steps,
        })
    }

    fn range(&self, trainer: &mut Trainer) -> Result<Found, Failure> {
        let rates =
            Rates { from: self.args.from, to: self.args.to, steps: self.steps(trainer, &self.batches)? };
        let progress = self.session.context().progress();
        let steps = range::run(trainer, &self.batches, rates, |step| {
            progress.phase("range test", step, Some(rates.steps));
        });
        progress.finish();
        let steps = steps?;
        let finding = range::find(&steps, rates.steps)?;
        let lr = grid::rounded(finding.suggestion, DIGITS);
        let mut json = self.about("range", rates.steps);
        json["stopped_early"] = json!((steps.len() as u64) < rates.steps);
        json["steepest"] = json!(finding.steepest);
        json["minimum"] = json!(finding.minimum);
        json["points"] = json!(steps);
        let name = &self.session.manifest.name;
        Ok(Found {
            lr,
            json,
            text: show::range_text(&steps, finding),
            page: show::range_page(name, &steps, finding, lr),
        })
    }

    fn grid(&self, trainer: &mut Trainer) -> Result<Found, Failure> {
        let Self { args, session, .. } = self;
        let train = &session.train(self.data);
        let folds = match args.folds {
            Some(count) => folds::folds(&self.batches, session.manifest.seed, count as usize)?,
            None => Vec::new(),
        };
        let first: &dyn TrainingData = folds.first().map_or(&self.batches, |fold| fold);
        let total = trainer.total_steps(first.samples());
        let steps = self.steps(trainer, first)?;
        // A short run is never longer than the run itself, unless that is asked for.
        let steps = if args.steps.is_some() { steps } else { steps.min(total) };
        let start = trainer.state.duplicate()?;
        let mut runs = Runs { trainer, start, config: train, steps };
        let judged = if !folds.is_empty() {
            "held-out loss"
        } else if self.data.samples(Split::Validation) > 0 {
            "validation loss"
        } else {
            session.context().note(
                "warning: there is no validation data, so rates are judged by the training loss; \
                 see `data.split.validation` and --folds",
            );
            "training loss"
        };
        let trials = self.trials(&mut runs, &folds, judged)?;
        let Some(best) = grid::best(&trials) else {
            return Err(Diagnostic::new("tune.diverged", "training diverges at every rate of the grid")
                .hint("choose a smaller --from, or look at the data and the model")
                .into());
        };
        let mut json = self.about("grid", steps);
        json["folds"] = json!(args.folds);
        json["judged_by"] = json!(judged);
        json["points"] = trials.iter().map(show::trial_json).collect();
        Ok(Found {
            lr: trials[best].lr,
            json,
            text: show::grid_text(&trials, best, judged),
            page: show::grid_page(&session.manifest.name, &trials, best, judged, steps),
        })
    }

    /// All runs of the grid.
    fn trials(
        &self,
        runs: &mut Runs<'_>,
        folds: &[DatasetBatches],
        judged: &str,
    ) -> Result<Vec<Trial>, Diagnostics> {
        let progress = self.session.context().progress();
        let whole: &dyn TrainingData = &self.batches;
        let sets: Vec<&dyn TrainingData> =
            if folds.is_empty() { vec![whole] } else { folds.iter().map(|fold| fold as _).collect() };
        let rates = grid::rates(self.args.from, self.args.to, self.args.points);
        let all = rates.len() as u64 * sets.len() as u64 * runs.steps;
        let mut done = 0;
        let mut trials = Vec::with_capacity(rates.len());
        for lr in rates {
            let mut losses = Vec::with_capacity(sets.len());
            for data in &sets {
                let held_out = match data.validation(Portion::WHOLE)? {
                    Some(batches) => Some(batches),
                    None => self.batches.evaluation(Split::Train, Portion::WHOLE)?,
                };
                let Some(held_out) = held_out else {
                    return Err(Diagnostic::new("tune.data", "there is nothing to judge a rate by")
                        .expected("validation data: `split = { validation = 0.1 }` in `[data]`")
                        .into());
                };
                let watch = |step| progress.phase("grid", done + step, Some(all));
                losses.push(runs.run(*data, held_out, lr, watch)?);
                done += runs.steps;
            }
            let trial = Trial { lr, losses };
            progress.line(&format!("lr {}  {judged} {}", show::rate(lr), show::loss(trial.mean())));
            trials.push(trial);
        }
        progress.finish();
        Ok(trials)
    }
}
