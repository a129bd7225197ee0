//! What k-fold evaluation asks of a session: the folder above those of its runs, and what a finished run predicts for its
//! part of the rows.

use outgrow_data::{Dataset, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::{MODEL_FOLDER, Meaning, Package};
use outgrow_store::sha256;
use outgrow_transform::Portion;

use super::folder::RunFolder;
use super::length::Identity;
use super::{Session, open};
use crate::context::Failure;
use crate::places::RunPlace;

/// What a run predicts for the rows that it was tested on.
#[derive(Debug)]
pub struct Tested {
    /// What its numbers mean.
    pub meaning: Meaning,
    /// The rows, in the order of the source.
    pub rows: Vec<TestedRow>,
}

/// A row, and what is predicted for it.
#[derive(Debug)]
pub struct TestedRow {
    /// Its number among the source's, from 1.
    pub row: u64,
    /// The number of its class, or its numbers.
    pub targets: Vec<f64>,
    /// The probabilities of the classes, or the predicted numbers.
    pub numbers: Vec<f64>,
    /// The number of the class that is answered.
    pub class: usize,
}

impl Session<'_> {
    /// The folder of a k-fold evaluation whose first run this session is of, on this data: chosen and opened as that of a
    /// run is.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn folds_folder(
        &self,
        place: &RunPlace,
        data: &Dataset,
        fresh: bool,
    ) -> Result<RunFolder, Diagnostics> {
        let own = self.run_identity(data)?;
        // The run of the first part alone is another one.
        let of_all = |one: &str| {
            let (manifest, rest) = one.split_once(' ').unwrap_or((one, ""));
            format!("{} {rest}", sha256::hex(format!("folds of {manifest}").as_bytes()))
        };
        let identity = Identity {
            fingerprint: of_all(&own.fingerprint),
            without_length: of_all(&own.without_length),
            ..own
        };
        self.open_folder(place, &identity, fresh)
    }

    /// What the run of this manifest in a folder, which has ended, predicts for its test data.
    ///
    /// # Errors
    /// When its model or the data cannot be read.
    pub fn tested(&self, folder: &std::path::Path) -> Result<Tested, Failure> {
        let (data, _) = self.data()?;
        let package = Package::load(&*self.context.world.storage, &folder.join(MODEL_FOLDER))?;
        let mut trainer = self.trainer(&data, self.model(&data)?, None)?;
        trainer.state.set_weights(&package.weights)?;
        let meaning = Meaning::of(data.transform(), package.decision);
        let threads = self.cpu.pool.threads();
        let numbers = open::rows_of(&self.manifest, self.args, threads, self.context, &data, Split::Test)?;
        let mut rows: Vec<TestedRow> = Vec::new();
        let mut problem = None;
        let stream = self.batches(&data)?.evaluation(Split::Test, Portion::WHOLE)?;
        trainer.evaluate_with(stream.ok_or_else(changed)?, &mut |batch, output| {
            let Some(target) = &batch.target else { return };
            let samples = batch.weight.len().max(1);
            let (width, outputs) = (target.shape().elements() / samples, output.len() / samples);
            for i in 0..batch.real {
                let targets = (0..width).map(|j| target.get_f64(i * width + j)).collect();
                let row = numbers.get(rows.len()).copied().unwrap_or_default();
                match meaning.answer(&output[i * outputs..(i + 1) * outputs]) {
                    Ok(answer) => {
                        rows.push(TestedRow { row, targets, numbers: answer.numbers, class: answer.class });
                    }
                    Err(found) => problem = Some(found),
                }
            }
        })?;
        if let Some(found) = problem {
            return Err(found.into());
        }
        if rows.len() != numbers.len() {
            return Err(changed().into());
        }
        Ok(Tested { meaning, rows })
    }
}

fn changed() -> Diagnostic {
    Diagnostic::new("folds.data", "the data has changed while its folds were evaluated")
        .hint("run the same command again")
}
