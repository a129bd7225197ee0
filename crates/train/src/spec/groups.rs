//! What the `[train]` section says about parameters that are updated otherwise than the others.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::spec::number::{NonNegative, Positive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::Optimizer;

/// Parameters with a learning rate and weight decay of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParamGroupSpec {
    /// The parameters, by their names, where `*` stands for any characters: `["*.bias"]`.
    #[schemars(length(min = 1))]
    pub params: Vec<String>,
    /// What the learning rate is multiplied by.
    #[serde(default = "one")]
    pub lr_factor: Positive,
    /// Their weight decay; `train.weight_decay` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<NonNegative>,
}

/// Parameters with a learning rate and weight decay of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamGroup {
    /// Patterns of their names.
    pub params: Vec<String>,
    /// What the learning rate is multiplied by.
    pub lr_factor: f64,
    /// Their weight decay.
    pub weight_decay: f64,
}

impl ParamGroup {
    /// The groups as they are written, for an optimiser and the weight decay of all others.
    pub(super) fn all(
        specs: &[ParamGroupSpec],
        optimizer: Optimizer,
        weight_decay: f64,
        found: &mut Diagnostics,
    ) -> Vec<Self> {
        for (i, spec) in specs.iter().enumerate() {
            let item = format!("train.param_groups[{i}]");
            if spec.params.is_empty() {
                let problem = "a group of parameters names none";
                let diagnostic = Diagnostic::new("manifest.train.param-groups", problem);
                found.push(
                    diagnostic
                        .item(format!("{item}.params"))
                        .expected("names of parameters, or patterns of them, such as [\"*.bias\"]"),
                );
            }
            let decays = spec.weight_decay.is_some_and(|decay| decay.get() > 0.0);
            if decays && matches!(optimizer, Optimizer::Ftrl(_)) {
                let problem = "FTRL has no weight decay of this kind";
                let diagnostic = Diagnostic::new("manifest.train.weight-decay", problem);
                found.push(
                    diagnostic.item(format!("{item}.weight_decay")).expected("FTRL's own `l1` and `l2`"),
                );
            }
        }
        let group = |spec: &ParamGroupSpec| Self {
            params: spec.params.clone(),
            lr_factor: spec.lr_factor.get(),
            weight_decay: spec.weight_decay.map_or(weight_decay, NonNegative::get),
        };
        specs.iter().map(group).collect()
    }

    /// The group of each of these parameters: the first with a pattern for it, or none.
    ///
    /// # Errors
    /// When a pattern is for none of them.
    pub(crate) fn of_names(groups: &[Self], names: &[&str]) -> Result<Vec<Option<usize>>, Diagnostic> {
        let patterns = |group: &Self| group.params.iter().map(|p| WildMatch::new(p)).collect::<Vec<_>>();
        let patterns: Vec<Vec<WildMatch>> = groups.iter().map(patterns).collect();
        for (i, own) in patterns.iter().enumerate() {
            let idle = own.iter().position(|pattern| !names.iter().any(|name| pattern.matches(name)));
            if let Some(p) = idle {
                let problem = format!("no parameter of the model is called `{}`", groups[i].params[p]);
                let first: Vec<_> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
                let more = if names.len() > first.len() { ", …" } else { "" };
                return Err(Diagnostic::new("train.param-groups", problem)
                    .item(format!("train.param_groups[{i}].params"))
                    .expected(format!(
                        "names, where `*` stands for any characters, among: {}{more}",
                        first.join(", ")
                    )));
            }
        }
        let group =
            |name: &&str| patterns.iter().position(|own| own.iter().any(|pattern| pattern.matches(name)));
        Ok(names.iter().map(group).collect())
    }
}

fn one() -> Positive {
    Positive::new(1.0).expect("1 is positive")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(params: &[&str]) -> ParamGroup {
        let params = params.iter().map(|p| (*p).to_owned()).collect();
        ParamGroup { params, lr_factor: 1.0, weight_decay: 0.0 }
    }

    #[test]
    fn the_first_pattern_counts() {
        let groups = [group(&["1.*", "*.scale"]), group(&["*.bias"])];
        let names = ["1.weight", "1.bias", "2.weight", "2.bias", "3.scale"];
        let expect = [Some(0), Some(0), None, Some(1), Some(0)];
        assert_eq!(ParamGroup::of_names(&groups, &names).unwrap(), expect);
    }

    #[test]
    fn a_pattern_for_nothing_is_named_with_what_there_is() {
        let groups = [group(&["*.weight"]), group(&["*.bias", "*.scale"])];
        let found = ParamGroup::of_names(&groups, &["1.weight", "1.bias"]).unwrap_err();
        assert_eq!(found.problem, "no parameter of the model is called `*.scale`");
        assert_eq!(found.place.item.as_deref(), Some("train.param_groups[1].params"));
        assert!(found.expected.unwrap().ends_with("among: `1.weight`, `1.bias`"));
    }
}
