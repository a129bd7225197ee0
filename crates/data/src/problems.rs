//! What is wrong with data as a whole, whoever finds it.

use crate::spec::FoldSpec;
use outgrow_ir::Diagnostic;

/// The diagnostic for a training split without records.
pub(crate) fn empty() -> Diagnostic {
    Diagnostic::new("data.empty", "no record is left to train on")
        .item("data")
        .expected("at least one record in the training split")
        .hint("the source may be empty, or a filter or `drop_missing` may leave out everything: see the report of `outgrow data prepare`")
}

/// The diagnostic for a test set without records.
pub(crate) fn empty_test() -> Diagnostic {
    Diagnostic::new("data.empty", "no record is left in the test set")
        .item("data.test")
        .expected("at least one record, or no `data.test`")
        .hint(
            "its files may hold nothing but a header, or the steps of `data.clean` may leave out everything",
        )
}

/// The diagnostic for a fold without records.
pub(crate) fn empty_fold(FoldSpec { number, of }: FoldSpec) -> Diagnostic {
    Diagnostic::new("data.empty", format!("no record is in part {number} of {of}"))
        .item("data.split.fold")
        .expected("at least one record in each part")
        .hint("take fewer folds: there are too few records for so many")
}

/// The diagnostic for files of which no record is left.
pub(crate) fn nothing_left() -> Diagnostic {
    Diagnostic::new("data.empty", "no record is left to evaluate on")
        .expected("at least one record in the files")
        .hint("they may hold nothing but a header, or the steps of `data.clean` may leave out everything")
}

/// The diagnostic for a training split with a single class.
pub(crate) fn one_class(name: &str) -> Diagnostic {
    Diagnostic::new("data.one-class", format!("every training record has the same class `{name}`"))
        .item("data.label")
        .expected("records of at least two classes")
}
