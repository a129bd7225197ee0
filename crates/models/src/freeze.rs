//! Parameters that are not trained: they become buffers that nothing moves, so that no gradient of them is computed and
//! no optimiser keeps anything for them.

use crate::net::Net;
use crate::spec::Model;
use crate::{BufferSpec, ParamSpec};
use outgrow_ir::{Diagnostic, Graph, InputRole, Op};
use wildmatch::WildMatch;

/// How many names a message gives.
const NAMES: usize = 5;

/// Makes buffers of the parameters of a graph that the manifest freezes; the net keeps what they were.
pub(crate) fn freeze(graph: &mut Graph, net: &mut Net<'_>, model: &Model) {
    let patterns: Vec<WildMatch> = model.freeze.iter().map(|pattern| WildMatch::new(pattern)).collect();
    let is_frozen = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
    for node in &mut graph.nodes {
        if let Op::Input(input) = &mut node.op
            && input.role == InputRole::Param
            && is_frozen(&input.name)
        {
            input.role = InputRole::Buffer;
        }
    }
    let (frozen, trained) = std::mem::take(&mut net.params).into_iter().partition(|p| is_frozen(&p.name));
    (net.frozen, net.params) = (frozen, trained);
    net.buffers.extend(net.frozen.iter().map(|ParamSpec { name, dtype, dims, init }| BufferSpec {
        name: name.clone(),
        dtype: *dtype,
        dims: dims.clone(),
        init: *init,
        momentum: 0.0,
    }));
}

/// Refuses a pattern that no parameter has, and patterns that leave nothing to train.
pub(crate) fn check(
    patterns: &[String],
    frozen: &[ParamSpec],
    trained: &[ParamSpec],
) -> Result<(), Diagnostic> {
    let names = || frozen.iter().chain(trained).map(|param| param.name.as_str());
    for (i, pattern) in patterns.iter().enumerate() {
        let matcher = WildMatch::new(pattern);
        if names().any(|name| matcher.matches(name)) {
            continue;
        }
        let plain = pattern.replace('*', "");
        let mut near: Vec<&str> = names().collect();
        near.sort_by_key(|name| strsim::osa_distance(name, &plain));
        near.truncate(NAMES);
        let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
        return Err(Diagnostic::new(
            "model.freeze",
            format!("no parameter of the model is called `{pattern}`"),
        )
        .item(format!("model.freeze[{i}]"))
        .expected(format!("a name, where `*` stands for any characters; the closest are {}", near.join(", ")))
        .hint("`outgrow graph` shows all names"));
    }
    if trained.is_empty() && !patterns.is_empty() {
        return Err(Diagnostic::new("model.freeze", "all parameters are frozen: there is nothing to train")
            .item("model.freeze")
            .expected("patterns that leave some parameters out")
            .hint("`outgrow eval` evaluates a model as it is"));
    }
    Ok(())
}
