//! The cleaning and encoding steps of the manifest's `data.clean` list: one file each, one line in the list below.
//!
//! A step's configuration ([`Step`]) is read from the manifest. Planned against the columns it will meet, it is
//! either ready at once or has something to learn from the training split ([`Fit`]); in both cases it ends as a
//! [`Fitted`] step, which is plain data that is kept with the model. Steps may change values and add columns at the
//! end; they never remove or reorder columns, so a column's number holds throughout a chain.

mod bucketize;
mod cast;
mod clip;
mod date;
mod drop_duplicates;
mod drop_missing;
mod fill;
mod filter;
mod hash;
mod index;
mod normalize;
mod one_hot;
mod selector;

pub use normalize::Scale as NormalizeScale;
pub use selector::Selector;

use crate::{Columns, Record, Run};
use outgrow_ir::Diagnostic;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step as the manifest declares it.
pub trait Step {
    /// Checks the step against the columns it will meet and says what it does to them.
    ///
    /// # Errors
    /// A diagnostic for an unknown column, a column of a kind the step cannot work on, or contradictory options.
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic>;
}

/// What a step is about to do.
pub struct Plan {
    /// Numbers of the columns whose values the step reads.
    pub reads: Vec<usize>,
    /// Numbers of the columns whose values it changes or adds.
    pub writes: Vec<usize>,
    /// The columns after the step. The size of a category is 0 as long as it is to be learned.
    pub after: Columns,
    /// The step itself, or what learns it.
    pub fitting: Fitting,
}

/// A step that is ready, or one that must see the training split first.
pub enum Fitting {
    /// Nothing to learn.
    Ready(FittedStep),
    /// Something to learn.
    Learns(Box<dyn Fit + Send>),
}

/// Learns a step from the records of the training split.
pub trait Fit {
    /// Takes one record into account.
    fn see(&mut self, record: &Record) -> Result<(), Diagnostic>;
    /// The step, fitted.
    fn finish(self: Box<Self>) -> Result<FittedStep, Diagnostic>;
}

/// A fitted step.
pub trait Fitted {
    /// The columns after the step, sizes of categories included.
    fn columns(&self, before: Columns) -> Columns {
        before
    }

    /// Whether the step only decides which records stay. Such steps are skipped when predicting, where every record
    /// must get an answer.
    fn selects_rows(&self) -> bool {
        false
    }

    /// Numbers of the columns that the step found to be of no use to the model.
    fn left_out(&self) -> Vec<usize> {
        Vec::new()
    }

    /// What people should know of what the step found in these columns: sentences for a run's beginning.
    fn notes(&self, _before: &Columns) -> Vec<String> {
        Vec::new()
    }

    /// Numbers of the columns that the step touches, so that a step read from a file can be checked.
    fn touches(&self) -> &[usize];

    /// Changes the record, or answers `Some(reason)` when it is to be left out.
    fn apply(&self, record: &mut Record, run: &mut Run) -> Result<Option<String>, Diagnostic>;
}

/// Makes the two enumerations and their dispatch from the list of steps.
macro_rules! steps {
    ($($(#[doc = $doc:literal])+ $name:ident => $config:ty, $fitted:ty;)+) => {
        /// One entry of the manifest's `data.clean` list.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum StepSpec {
            $($(#[doc = $doc])+ $name($config),)+
        }

        /// A fitted step of any kind.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[allow(missing_docs)]
        pub enum FittedStep {
            $($name($fitted),)+
        }

        impl StepSpec {
            fn inner(&self) -> &dyn Step {
                match self { $(Self::$name(step) => step,)+ }
            }
        }

        impl FittedStep {
            fn inner(&self) -> &dyn Fitted {
                match self { $(Self::$name(step) => step,)+ }
            }
        }
    };
}

steps! {
    /// Leaves out records in which one of these columns is missing: `{ drop_missing = ["age"] }`, or `"all"`.
    DropMissing => drop_missing::DropMissing, drop_missing::DropMissingFitted;
    /// Replaces missing values: `{ fill = { columns = ["age"], with = "mean" } }` (`mean`, `median`,
    /// `most_frequent`, or `value = …`).
    Fill => fill::Fill, fill::FillFitted;
    /// Changes a column's kind: `{ cast = { columns = ["zip"], to = "text" } }` (`text` or `number`).
    Cast => cast::Cast, cast::CastFitted;
    /// Limits numbers: `{ clip = { columns = ["hours"], min = 0, max = 99 } }`.
    Clip => clip::Clip, clip::ClipFitted;
    /// Brings numbers to a common scale: `{ normalize = { columns = "numeric", with = "standard" } }` (`standard`,
    /// `min_max` or `robust`).
    Normalize => normalize::Normalize, normalize::NormalizeFitted;
    /// Cuts numbers into ranges, as categories: `{ bucketize = { columns = ["age"], bounds = [18, 30, 65] } }`.
    Bucketize => bucketize::Bucketize, bucketize::BucketizeFitted;
    /// Makes numbers of dates, their year, month, day and weekday: `{ date = { columns = ["sold"] } }`.
    Date => date::Date, date::DateFitted;
    /// Makes a 0/1 feature of every value of a text column: `{ one_hot = { columns = "text" } }`. Of a group such as
    /// `"text"`, columns in which nearly every record has a value of its own are left out, and said to be.
    OneHot => one_hot::OneHot, one_hot::OneHotFitted;
    /// Makes an index of every value of a text column, for embeddings: `{ index = { columns = ["city"] } }`.
    Index => index::Index, index::IndexFitted;
    /// Hashes columns into a fixed number of categories: `{ hash = { columns = ["city"], buckets = 64 } }`;
    /// `cross = true` hashes the combination of all of them into one new column.
    Hash => hash::Hash, hash::HashFitted;
    /// Keeps the records for which an expression is true: `{ filter = "age > 17 and hours-per-week < 99" }`.
    Filter => filter::Filter, filter::FilterFitted;
    /// Leaves out records that were there before in the same split: `{ drop_duplicates = true }`.
    DropDuplicates => drop_duplicates::DropDuplicates, drop_duplicates::DropDuplicates;
}

impl StepSpec {
    /// The step that brings all numeric features to this scale.
    pub fn normalize_numeric(with: NormalizeScale) -> Self {
        Self::Normalize(normalize::Normalize {
            columns: Selector::Word("numeric".into()),
            with,
            smooth_clip: None,
        })
    }
}

impl Step for StepSpec {
    fn plan(&self, columns: &Columns) -> Result<Plan, Diagnostic> {
        self.inner().plan(columns)
    }
}

impl Fitted for FittedStep {
    fn columns(&self, before: Columns) -> Columns {
        self.inner().columns(before)
    }
    fn selects_rows(&self) -> bool {
        self.inner().selects_rows()
    }
    fn left_out(&self) -> Vec<usize> {
        self.inner().left_out()
    }
    fn notes(&self, before: &Columns) -> Vec<String> {
        self.inner().notes(before)
    }
    fn touches(&self) -> &[usize] {
        self.inner().touches()
    }
    fn apply(&self, record: &mut Record, run: &mut Run) -> Result<Option<String>, Diagnostic> {
        self.inner().apply(record, run)
    }
}

/// A plan for a step that learns nothing and leaves the kinds of the columns alone.
fn ready(columns: &Columns, reads: Vec<usize>, writes: Vec<usize>, step: FittedStep) -> Plan {
    Plan { reads, writes, after: columns.clone(), fitting: Fitting::Ready(step) }
}
