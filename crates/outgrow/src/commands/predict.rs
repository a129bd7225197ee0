//! `outgrow predict`: what a trained model makes of images, tables or text. The records go through the very transform
//! that the model was trained with, and through the graph that answers.

mod output;
mod rows_file;
mod spool;

use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::{Generation, Interpretation, Model, ROWS_MAX, read_file, read_stream};
use outgrow_transform::Record;
use serde_json::json;

use crate::cli::PredictArgs;
use crate::context::{Context, Failure};
use crate::diagnose;
use crate::progress::Progress;
use crate::session::{cpu_backend, model_options};
use output::Output;
use rows_file::Kind;

/// How many problems are told; one more says how many were left out.
const PROBLEMS_MAX: usize = 50;
/// How many tokens a language model goes on with when nothing is said.
const TOKENS: u32 = 200;
/// How it draws them when nothing is said: freely enough that it does not go round in circles, as always taking the
/// likeliest token does, and without those that are hardly possible.
const TEMPERATURE: f64 = 0.8;
const TOP_K: usize = 40;
/// The file that stands for stdin.
const STDIN: &str = "-";

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

    /// What is good; what is not is a problem more.
    fn unless<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|problem| self.push(problem)).ok()
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
    let kind = args.output.as_deref().map(Kind::of).transpose()?;
    let storage = context.world.storage.clone();
    let model = Model::open(&storage, &args.model, model_options(cpu_backend(&args.processor)?))?;
    let task = Task::new(&model, args, context)?;
    let (Some(path), Some(kind)) = (&args.output, kind) else {
        let mut out = BufWriter::new(io::stdout());
        let folder = model.path().unwrap_or(&args.model);
        let mut output = Output::new(task.interpretation.meaning(), folder, context.json, &mut out);
        let problems = task.answer(&mut output)?;
        output.finish(&problems)?;
        return if problems.0.is_empty() { Ok(()) } else { Err(Failure::Partly(problems)) };
    };
    let (count, problems) = task.to_file(path, kind)?;
    let mut json = json!({ "model": model.path(), "output": path, "predicted": count });
    if !problems.0.is_empty() {
        json["errors"] = diagnose::to_json(&problems)["errors"].take();
    }
    context.answer(&json, &format!("{count} predictions: {}\n", path.display()))?;
    if problems.0.is_empty() { Ok(()) } else { Err(Failure::Partly(problems)) }
}

/// What is to be predicted, and by what.
struct Task<'a> {
    model: &'a Model,
    interpretation: &'a Interpretation,
    args: &'a PredictArgs,
    storage: &'a Arc<dyn StorageBackend>,
    progress: Progress,
}

impl<'a> Task<'a> {
    fn new(model: &'a Model, args: &'a PredictArgs, context: &'a Context) -> Result<Self, Failure> {
        let interpretation = model.interpretation()?;
        if interpretation.text().is_none() {
            refuse_text_options(args)?;
        }
        if args.files.iter().filter(|file| is_stdin(file)).count() > 1 {
            return Err(Diagnostic::new("predict.stdin", "stdin is named more than once")
                .item(STDIN)
                .expected(format!("`{STDIN}` once: what comes from a pipe can be read only once"))
                .into());
        }
        Ok(Self {
            model,
            interpretation,
            args,
            storage: &context.world.storage,
            progress: context.progress(),
        })
    }

    /// Predicts into a file, which is there with all of its rows or not at all, and says how many there are.
    fn to_file(&self, path: &Path, kind: Kind) -> Result<(u64, Diagnostics), Failure> {
        let mut done = None;
        let written = self.storage.write_with(path, &mut |out| {
            let mut output = Output::to_file(self.interpretation.meaning(), kind, out)?;
            let answered = self.answer(&mut output).map(|problems| (output.count(), problems));
            let ending = match &answered {
                Ok((0, problems)) if !problems.0.is_empty() => Err(io::Error::other("nothing was predicted")),
                Ok((_, problems)) => output.finish(problems),
                Err(_) => Err(io::Error::other("the predictions did not come to their end")),
            };
            done = Some(answered);
            ending
        });
        match (done, written) {
            (Some(Err(failure)), _) => Err(failure),
            (Some(Ok((0, problems))), _) if !problems.0.is_empty() => Err(problems.into()),
            (Some(Ok(done)), Ok(())) => Ok(done),
            (_, Err(error)) => Err(Diagnostic::new("predict.output-file", error.to_string())
                .file(path)
                .hint("choose another file for --output, in a folder that is there and may be written to")
                .into()),
            (None, Ok(())) => {
                Err(Diagnostic::fault("predict.output-file", "invariant: what is written was asked for")
                    .into())
            }
        }
    }

    /// Predicts for all files, and gives what was wrong with some of their records.
    fn answer(&self, output: &mut Output<'_>) -> Result<Diagnostics, Failure> {
        let mut problems = Problems::default();
        let done = match self.interpretation.text() {
            Some(_) => self.texts(output, &mut problems),
            None => self.rows(output, &mut problems),
        };
        self.progress.finish();
        match done {
            // What was answered before is brought to its end.
            Err(Failure::Diagnostics(found)) if output.has_begun() => {
                found.0.into_iter().for_each(|problem| problems.push(problem));
            }
            done => done?,
        }
        Ok(problems.finish())
    }

    /// Images and rows of tables.
    fn rows(&self, output: &mut Output<'_>, problems: &mut Problems) -> Result<(), Failure> {
        let reader = self.interpretation.reader();
        let mut waiting = Vec::with_capacity(ROWS_MAX);
        for given in &self.args.files {
            let files = match is_stdin(given) {
                true => Ok(vec![given.clone()]),
                false => reader.files(self.storage, given),
            };
            for file in problems.unless(files).unwrap_or_default() {
                let records = match is_stdin(given) {
                    true => reader.stream(Box::new(io::stdin()), &file),
                    false => reader.file(self.storage, &file),
                };
                let Some(records) = problems.unless(records) else { continue };
                for record in records {
                    waiting.extend(problems.unless(record));
                    if waiting.len() == ROWS_MAX {
                        self.predict(std::mem::take(&mut waiting), output, problems)?;
                    }
                    if !output.is_read() {
                        return Ok(());
                    }
                }
            }
        }
        self.predict(waiting, output, problems)
    }

    /// Predicts for some records at once.
    fn predict(
        &self,
        records: Vec<Record>,
        output: &mut Output<'_>,
        problems: &mut Problems,
    ) -> Result<(), Failure> {
        for (record, answer) in records.iter().zip(self.model.answer(&records)?) {
            let origin = &record.origin;
            if let Some(answer) = problems.unless(answer) {
                let file = origin.file.as_deref().unwrap_or(Path::new(""));
                output.push(file, (origin.row > 0).then_some(origin.row), &answer)?;
            }
        }
        self.tell(output);
        Ok(())
    }

    /// Shows how far it is, where that does not come between predictions on a terminal.
    fn tell(&self, output: &Output<'_>) {
        if output.is_late() {
            self.progress.phase("predicting", output.count(), None);
        }
    }

    /// Texts that a language model goes on with.
    fn texts(&self, output: &mut Output<'_>, problems: &mut Problems) -> Result<(), Failure> {
        let how = Generation {
            tokens: self.args.tokens.unwrap_or(TOKENS),
            temperature: self.args.temperature.unwrap_or(TEMPERATURE),
            top_k: self.args.top_k.unwrap_or(TOP_K),
            seed: self.args.seed.unwrap_or(0),
        };
        how.check().map_err(|problem| problem.item("--temperature"))?;
        for (index, file) in self.args.files.iter().enumerate() {
            let text = self.text(file).map_err(Diagnostics::from);
            match text.and_then(|text| self.model.go_on(&text, index as u64, how)) {
                Ok(answer) => output.push(file, None, &answer)?,
                Err(found) => found.0.into_iter().for_each(|mut problem| {
                    problem.place.file.get_or_insert_with(|| file.clone());
                    problems.push(problem);
                }),
            }
            self.tell(output);
            if !output.is_read() {
                break;
            }
        }
        Ok(())
    }

    /// The text of a file.
    fn text(&self, file: &Path) -> Result<String, Diagnostic> {
        let bytes = match is_stdin(file) {
            true => read_stream(Box::new(io::stdin()), file)?,
            false => read_file(self.storage, file)?,
        };
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
            Diagnostic::new("data.text.utf8", "the file is not UTF-8 text")
                .line(line)
                .expected("text in UTF-8")
                .hint("convert the file, for example with `iconv -t UTF-8`")
        })
    }
}

/// Whether a file stands for what comes from a pipe.
fn is_stdin(file: &Path) -> bool {
    file == Path::new(STDIN)
}

fn refuse_text_options(args: &PredictArgs) -> Result<(), Diagnostic> {
    let given = [
        ("--tokens", args.tokens.is_some()),
        ("--temperature", args.temperature.is_some()),
        ("--top-k", args.top_k.is_some()),
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
