//! `outgrow predict`: what a trained model makes of images, tables or text. The records go through the very transform
//! that the model was trained with, and through its evaluation graph.

mod answer;
mod input;
mod model;
mod output;
mod spool;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_store::package::INDEX;
use outgrow_transform::{Record, TextInput};

use crate::cli::PredictArgs;
use crate::context::{Context, Failure};
use crate::session::{compile_options, cpu_backend, load_package};
use answer::{Answer, Meaning};
use input::Reader;
pub(super) use input::read as read_file;
use model::Predictor;
pub(super) use model::answering;
use output::Output;
use text::Generation;

/// Records that are predicted at a time.
const BATCH: usize = 64;
/// How many problems are told; one more says how many were left out.
const PROBLEMS_MAX: usize = 50;
/// How many tokens a language model goes on with when nothing is said.
const TOKENS: u32 = 200;

/// What went wrong with some of the records.
#[derive(Default)]
struct Problems {
    told: Diagnostics,
    left_out: usize,
}

impl Problems {
    fn push(&mut self, problem: Diagnostic) {
        if self.told.0.len() < PROBLEMS_MAX {
            self.told.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> Diagnostics {
        if self.left_out > 0 {
            let problem = format!("{} more problems are not shown", self.left_out);
            self.told.push(Diagnostic::new("predict.more", problem).hint("mend those that are shown first"));
        }
        self.told
    }
}

/// Predicts for every record of the files. A file or row that is bad keeps no other from being predicted.
pub fn run(args: &PredictArgs, context: &Context) -> Result<(), Failure> {
    let storage = context.world.storage.clone();
    let folder = model_folder(&*storage, &args.model)?;
    let package = load_package(&*storage, &folder)?;
    let data = &package.manifest.spec.data;
    let header = data.header.unwrap_or(data.columns.is_none());
    let meaning = Meaning::of(&package.transform);
    let input = package.transform.assembly.text.clone();
    let mut predictor = Predictor::new(package, Arc::new(cpu_backend(&args.processor)?), compile_options())?;
    let mut problems = Problems::default();
    let mut output = Output::new(&meaning, &folder, context.json);
    let done = match input {
        Some(input) => texts(&mut predictor, &input, args, &storage, &mut output, &mut problems),
        None => {
            refuse_text_options(args)?;
            rows(&mut predictor, &meaning, args, &storage, header, &mut output, &mut problems)
        }
    };
    match done {
        // What was answered before is brought to its end.
        Err(Failure::Diagnostics(found)) if output.has_begun() => {
            found.0.into_iter().for_each(|problem| problems.push(problem));
        }
        done => done?,
    }
    let problems = problems.finish();
    output.finish(&problems)?;
    if problems.0.is_empty() { Ok(()) } else { Err(Failure::Partly(problems)) }
}

/// The folder of the model: the one that is given, or `model` in it.
pub(super) fn model_folder(storage: &dyn StorageBackend, given: &Path) -> Result<PathBuf, Diagnostic> {
    let is_model = |folder: &Path| matches!(storage.entry(&folder.join(INDEX)), Ok(Some(_)));
    let inner = given.join("model");
    match (is_model(given), is_model(&inner)) {
        (true, _) => Ok(given.to_owned()),
        (false, true) => Ok(inner),
        (false, false) => Err(Diagnostic::new("predict.no-model", "there is no trained model")
            .file(given)
            .expected("the folder of a run that has ended, or the folder `model` in it")
            .hint("train a model with `outgrow run`")),
    }
}

fn refuse_text_options(args: &PredictArgs) -> Result<(), Diagnostic> {
    let given = [
        ("--tokens", args.tokens.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--seed", args.seed.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => {
            let problem = format!("{option} is for language models, and this model is none");
            Err(Diagnostic::new("predict.option", problem)
                .item(option)
                .expected("a model of text, trained with `source = \"text\"`")
                .hint(format!("leave {option} out")))
        }
        None => Ok(()),
    }
}

/// Images and rows of tables.
fn rows(
    predictor: &mut Predictor,
    meaning: &Meaning,
    args: &PredictArgs,
    storage: &Arc<dyn StorageBackend>,
    header: bool,
    output: &mut Output<'_>,
    problems: &mut Problems,
) -> Result<(), Failure> {
    let transform = predictor.transform().clone();
    let reader = Reader::new(storage.clone(), &transform, header);
    let mut waiting = Vec::with_capacity(BATCH);
    for file in &args.files {
        let records = match reader.read(file) {
            Ok(records) => records,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        for record in records {
            match record {
                Ok(record) => waiting.push(record),
                Err(problem) => problems.push(problem),
            }
            if waiting.len() == BATCH {
                predict(predictor, meaning, std::mem::take(&mut waiting), output, problems)?;
            }
            if !output.is_read() {
                return Ok(());
            }
        }
    }
    predict(predictor, meaning, waiting, output, problems)
}

/// Predicts for some records at once, but for those that the transform does not take.
fn predict(
    predictor: &mut Predictor,
    meaning: &Meaning,
    mut records: Vec<Record>,
    output: &mut Output<'_>,
    problems: &mut Problems,
) -> Result<(), Failure> {
    if predictor.transform().apply(&records).is_err() {
        records.retain(|record| match predictor.transform().apply(std::slice::from_ref(record)) {
            Ok(_) => true,
            Err(problem) => {
                problems.push(record.origin.place(problem));
                false
            }
        });
    }
    if records.is_empty() {
        return Ok(());
    }
    let numbers = predictor.outputs(&records)?;
    for (record, numbers) in records.iter().zip(numbers.chunks_exact(numbers.len() / records.len())) {
        let origin = &record.origin;
        match meaning.numbers(numbers) {
            Ok(numbers) => output.push(&Answer {
                file: origin.file.as_deref().unwrap_or(Path::new("")).to_owned(),
                row: (origin.row > 0).then_some(origin.row),
                numbers,
                continuation: None,
            })?,
            Err(problem) => problems.push(origin.place(problem)),
        }
    }
    Ok(())
}

/// Texts that a language model goes on with.
fn texts(
    predictor: &mut Predictor,
    input: &TextInput,
    args: &PredictArgs,
    storage: &Arc<dyn StorageBackend>,
    output: &mut Output<'_>,
    problems: &mut Problems,
) -> Result<(), Failure> {
    let how = Generation {
        tokens: args.tokens.unwrap_or(TOKENS),
        temperature: args.temperature.unwrap_or(0.0),
        seed: args.seed.unwrap_or(0),
    };
    if !how.temperature.is_finite() || how.temperature < 0.0 {
        let problem = format!("a temperature of {}", how.temperature);
        let diagnostic = Diagnostic::new("predict.option", problem).item("--temperature");
        let diagnostic =
            diagnostic.hint("0 always takes the likeliest token, 1 draws by the model's probabilities");
        return Err(diagnostic.expected("a number from 0 up").into());
    }
    for (index, file) in args.files.iter().enumerate() {
        let text = input::read(storage, file).map_err(Diagnostics::from).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                Diagnostic::new("data.text.utf8", "the file is not UTF-8 text")
                    .line(line)
                    .expected("text in UTF-8")
                    .hint("convert the file, for example with `iconv -t UTF-8`")
                    .into()
            })
        });
        match text.and_then(|text| text::go_on(predictor, input, &text, index as u64, how)) {
            Ok(found) => output.push(&Answer {
                file: file.clone(),
                row: None,
                numbers: found.next,
                continuation: Some(found.text),
            })?,
            Err(found) => found.0.into_iter().for_each(|mut problem| {
                problem.place.file.get_or_insert_with(|| file.clone());
                problems.push(problem);
            }),
        }
        if !output.is_read() {
            break;
        }
    }
    Ok(())
}
