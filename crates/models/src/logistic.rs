//! `logistic`: one fully connected layer to a logit, or to one for each class.

use crate::net::Net;
use crate::{TargetSpec, linear};
use outgrow_ir::{Diagnostic, Diagnostics, Value};

/// The parameters are those of `linear`; the target must be classes.
pub(crate) fn build(net: &mut Net) -> Result<Value, Diagnostics> {
    if !matches!(net.target, TargetSpec::Class { .. } | TargetSpec::Binary) {
        let problem =
            format!("`logistic` tells classes apart, but the data asks for {}", net.target.describe());
        return Err(Diagnostic::new("model.output", problem)
            .item("model.name")
            .expected("data with classes")
            .hint("take `name = \"linear\"`, or set `data.task = \"classify\"`")
            .into());
    }
    linear::build(net)
}
