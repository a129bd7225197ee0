//! `outgrow predict`: what a trained model makes of images, tables or text. The records go through the very transform
//! that the model was trained with, and through the graph that answers.

mod output;
mod spool;

use std::path::Path;
use std::sync::Arc;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::{Generation, Interpretation, Model, ROWS_MAX, read_file};
use outgrow_transform::Record;

use crate::cli::PredictArgs;
use crate::context::{Context, Failure};
use crate::session::{cpu_backend, model_options};
use output::Output;

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
    let model = Model::open(&storage, &args.model, model_options(cpu_backend(&args.processor)?))?;
    let interpretation = model.interpretation()?;
    let mut problems = Problems::default();
    let mut output = Output::new(interpretation.meaning(), model.path().unwrap_or(&args.model), context.json);
    let done = match interpretation.text() {
        Some(_) => texts(&model, args, &storage, &mut output, &mut problems),
        None => {
            refuse_text_options(args)?;
            rows(&model, interpretation, args, &storage, &mut output, &mut problems)
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
    model: &Model,
    interpretation: &Interpretation,
    args: &PredictArgs,
    storage: &Arc<dyn StorageBackend>,
    output: &mut Output<'_>,
    problems: &mut Problems,
) -> Result<(), Failure> {
    let reader = interpretation.reader();
    let mut waiting = Vec::with_capacity(ROWS_MAX);
    for file in &args.files {
        let records = match reader.file(storage, file) {
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
            if waiting.len() == ROWS_MAX {
                predict(model, std::mem::take(&mut waiting), output, problems)?;
            }
            if !output.is_read() {
                return Ok(());
            }
        }
    }
    predict(model, waiting, output, problems)
}

/// Predicts for some records at once.
fn predict(
    model: &Model,
    records: Vec<Record>,
    output: &mut Output<'_>,
    problems: &mut Problems,
) -> Result<(), Failure> {
    for (record, answer) in records.iter().zip(model.answer(&records)?) {
        let origin = &record.origin;
        match answer {
            Ok(answer) => {
                let file = origin.file.as_deref().unwrap_or(Path::new(""));
                output.push(file, (origin.row > 0).then_some(origin.row), &answer)?;
            }
            Err(problem) => problems.push(problem),
        }
    }
    Ok(())
}

/// Texts that a language model goes on with.
fn texts(
    model: &Model,
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
    how.check().map_err(|problem| problem.item("--temperature"))?;
    for (index, file) in args.files.iter().enumerate() {
        let text = read_file(storage, file).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                Diagnostic::new("data.text.utf8", "the file is not UTF-8 text")
                    .line(line)
                    .expected("text in UTF-8")
                    .hint("convert the file, for example with `iconv -t UTF-8`")
            })
        });
        match text.map_err(Diagnostics::from).and_then(|text| model.go_on(&text, index as u64, how)) {
            Ok(answer) => output.push(file, None, &answer)?,
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
