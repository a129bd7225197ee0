//! The files of a source that is given by `files` alone: those of the training data, and those of a test set.

use super::{Context, Part, Records, check_test, require};
use crate::DataSpec;
use crate::files::Found;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::Record;

/// The files of both parts; there is at least one of the training data.
pub(crate) struct PartFiles {
    train: Vec<Found>,
    test: Option<Vec<Found>>,
}

impl PartFiles {
    /// The files that the keys `files` and `test.files` stand for, which for folders end in one of `endings`.
    ///
    /// # Errors
    /// When a key is missing or stands for nothing.
    pub fn find(
        spec: &DataSpec,
        context: &Context<'_>,
        source: &str,
        endings: &[&str],
    ) -> Result<Self, Diagnostics> {
        check_test(spec, &["files"])?;
        let files = require(&spec.files, "files", source)?;
        let train = context.finder.find(files.patterns(), "data.files", endings)?;
        let Some(test) = &spec.test else { return Ok(Self { train, test: None }) };
        let files = require(&test.files, "test.files", source)?;
        let test = context.finder.find(files.patterns(), "data.test.files", endings)?;
        Ok(Self { train, test: Some(test) })
    }

    /// The first file, whose columns are those of all.
    pub fn first(&self) -> &Found {
        &self.train[0]
    }

    /// All of them, the training data's first.
    pub fn all(&self) -> impl Iterator<Item = &Found> {
        self.train.iter().chain(self.test.iter().flatten())
    }

    /// Whether there is a test set.
    pub fn has_test(&self) -> bool {
        self.test.is_some()
    }

    /// Those of one part.
    pub fn of(&self, part: Part) -> &[Found] {
        match part {
            Part::Train => &self.train,
            Part::Test => self.test.as_deref().unwrap_or_default(),
        }
    }

    /// The records of a part, file after file. Instead of those of a file that cannot be opened, there is the reason.
    pub fn records<'a, R>(
        &'a self,
        part: Part,
        open: impl Fn(&'a Found) -> Result<R, Diagnostic> + Send + 'a,
    ) -> Records<'a>
    where
        R: Iterator<Item = Result<Record, Diagnostic>> + Send + 'a,
    {
        Box::new(self.of(part).iter().flat_map(move |file| {
            let (records, problem) = match open(file) {
                Ok(records) => (Some(records), None),
                Err(problem) => (None, Some(Err(problem))),
            };
            problem.into_iter().chain(records.into_iter().flatten())
        }))
    }
}
