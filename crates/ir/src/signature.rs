//! The signature of a graph: what each input is for, and what each output is. Whoever runs a graph (training,
//! evaluation, a server) gives and takes values by these roles; names are for people and for files.

use crate::ops::input::Input;
use crate::{Graph, Op, Value};

/// What an input is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InputRole {
    /// A trained parameter.
    Param,
    /// State that is not trained by gradient, as running statistics.
    Buffer,
    /// What the model is asked about: differs from run to run.
    Data,
    /// What a model should have said to its data.
    Target,
    /// The weight of each sample in the loss, a float `[samples]`; 0 for padding.
    Weight,
    /// What the weighted sum of losses is multiplied by, a float scalar: 1 / the total weight of the whole batch.
    Scale,
    /// The key of the random numbers, a scalar i64.
    Key,
}

impl InputRole {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Param, Self::Buffer, Self::Data, Self::Target, Self::Weight, Self::Scale, Self::Key];

    /// The name in text forms.
    pub fn name(self) -> &'static str {
        match self {
            Self::Param => "param",
            Self::Buffer => "buffer",
            Self::Data => "data",
            Self::Target => "target",
            Self::Weight => "weight",
            Self::Scale => "scale",
            Self::Key => "key",
        }
    }

    /// Whether it is part of a model, as opposed to what a run is given.
    pub fn is_model(self) -> bool {
        matches!(self, Self::Param | Self::Buffer)
    }

    /// Whether a graph has at most one input of this role.
    pub(crate) fn is_single(self) -> bool {
        matches!(self, Self::Target | Self::Weight | Self::Scale | Self::Key)
    }
}

/// What an output is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutputRole {
    /// What the graph is run for: logits, predictions.
    Result,
    /// The float scalar that training makes small.
    Loss,
    /// A sum over the samples, a float scalar: those of the parts of a batch add up to the batch's.
    Metric(Metric),
    /// What the running statistic of this name follows, times the number of samples: these too add up over the parts of
    /// a batch.
    Statistic(String),
    /// The gradient of the loss by the parameter of this name.
    Gradient(String),
}

impl OutputRole {
    /// The name in text forms, before what it is of.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Loss => "loss",
            Self::Metric(_) => "metric",
            Self::Statistic(_) => "statistic",
            Self::Gradient(_) => "gradient",
        }
    }

    /// The input that it belongs to, with the role that this must have.
    pub fn of(&self) -> Option<(&str, InputRole)> {
        match self {
            Self::Statistic(buffer) => Some((buffer, InputRole::Buffer)),
            Self::Gradient(param) => Some((param, InputRole::Param)),
            Self::Result | Self::Loss | Self::Metric(_) => None,
        }
    }

    /// The role of this name, with which metric it is, or which input it belongs to.
    pub(crate) fn parse(name: &str, of: Option<String>) -> Result<Self, String> {
        let named = |of: Option<String>| of.ok_or_else(|| format!("`{name}` must say of what, in quotes"));
        Ok(match name {
            "result" => Self::Result,
            "loss" => Self::Loss,
            "metric" => {
                let of = named(of)?;
                let metric = Metric::ALL.into_iter().find(|metric| metric.name() == of);
                Self::Metric(metric.ok_or_else(|| {
                    format!("`{of}` is no metric: {}", Metric::ALL.map(Metric::name).join(", "))
                })?)
            }
            "statistic" => Self::Statistic(named(of)?),
            "gradient" => Self::Gradient(named(of)?),
            _ => return Err(format!("`{name}` is not result, loss, metric, statistic or gradient")),
        })
    }
}

/// What is summed over samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// The loss of each sample times its weight.
    Loss,
    /// The weights.
    Weight,
    /// Samples that are no padding, whatever their weight.
    Samples,
    /// The weights of samples that were answered rightly.
    Correct,
    /// The weights of samples with the right answer among the five likeliest.
    Correct5,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Loss, Self::Weight, Self::Samples, Self::Correct, Self::Correct5];

    /// The name in text forms.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Weight => "weight",
            Self::Samples => "samples",
            Self::Correct => "correct",
            Self::Correct5 => "correct5",
        }
    }
}

/// A named value that a graph gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name; unique among the outputs.
    pub name: String,
    /// What it is.
    pub role: OutputRole,
    /// The value.
    pub value: Value,
}

impl Graph {
    /// Every input with what it is declared as, in the order in which a caller gives them.
    pub fn signature(&self) -> impl Iterator<Item = (Value, &Input)> {
        self.inputs.iter().filter_map(|value| match &self.node(*value).op {
            Op::Input(input) => Some((*value, input)),
            _ => None,
        })
    }

    /// The inputs of a role.
    pub fn inputs_of(&self, role: InputRole) -> impl Iterator<Item = (Value, &Input)> {
        self.signature().filter(move |(_, input)| input.role == role)
    }

    /// The input of this name.
    pub fn input(&self, name: &str) -> Option<Value> {
        self.signature().find(|(_, input)| input.name == name).map(|(value, _)| value)
    }

    /// The name of an input; empty for a value that is none.
    pub fn input_name(&self, value: Value) -> &str {
        match &self.node(value).op {
            Op::Input(input) => &input.name,
            _ => "",
        }
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<Value> {
        self.outputs.iter().find(|output| output.name == name).map(|output| output.value)
    }

    /// The first output of a role.
    pub fn output_of(&self, role: &OutputRole) -> Option<&Output> {
        self.outputs.iter().find(|output| output.role == *role)
    }
}
