//! Recurrent networks, written out over the length of the sequence.

use super::activation::{elu_like, hard_sigmoid_of, leaky, softsign, thresholded};
use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, fixed_dim, invalid, unsupported};
use crate::datum::Datum;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("GRU", |cx| recurrent(cx, &GRU)),
    op("LSTM", |cx| recurrent(cx, &LSTM)),
    op("RNN", |cx| recurrent(cx, &RNN)),
];

/// Longest sequence that is written out.
const STEPS_MAX: usize = 4096;

/// A kind of cell.
struct Cell {
    gates: usize,
    activations: &'static [&'static str],
    /// Whether there is a second state.
    has_memory: bool,
    step: fn(&mut Builder, &Direction, &Step) -> State,
}

static GRU: Cell = Cell { gates: 3, activations: &["Sigmoid", "Tanh"], has_memory: false, step: gru_step };
static LSTM: Cell =
    Cell { gates: 4, activations: &["Sigmoid", "Tanh", "Tanh"], has_memory: true, step: lstm_step };
static RNN: Cell = Cell { gates: 1, activations: &["Tanh"], has_memory: false, step: rnn_step };

/// Hidden state and memory, each `[batch, hidden]`.
#[derive(Clone, Copy)]
struct State {
    hidden: Value,
    memory: Option<Value>,
}

/// An activation with its two numbers.
#[derive(Clone)]
struct Activation {
    name: String,
    alpha: f64,
    beta: f64,
}

/// What one direction has: its recurrent weights and how they are used.
struct Direction {
    hidden: usize,
    /// `[gates · hidden, hidden]`.
    recurrence: Value,
    /// `[gates · hidden]`, added to the recurrent part.
    recurrent_bias: Option<Value>,
    /// Peepholes of the LSTM: `[3 · hidden]`, for input, output and forget gate.
    peepholes: Option<Value>,
    activations: Vec<Activation>,
    clip: Option<f64>,
    linear_before_reset: bool,
    input_forget: bool,
}

/// One step: the input's part of all gates, `[batch, gates · hidden]`, and the state before.
struct Step {
    gates: Value,
    before: State,
}

fn activations(cx: &mut Cx<'_>, cell: &Cell, directions: usize) -> Result<Vec<Vec<Activation>>, Refusal> {
    let names = cx.texts("activations")?;
    let mut alphas = cx.real_list("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = cx.real_list("activation_beta")?.unwrap_or_default().into_iter();
    let defaults = || cell.activations.repeat(directions).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let names = names.unwrap_or_else(defaults);
    if names.len() != cell.activations.len() * directions {
        return invalid(format!("{} activations for {directions} directions", names.len()));
    }
    let mut all = Vec::new();
    for name in names {
        // Numbers are given only for activations that take some.
        let defaults = match name.to_ascii_lowercase().as_str() {
            "sigmoid" | "tanh" | "relu" | "softsign" | "softplus" => (None, None),
            "affine" | "scaledtanh" => (Some(1.0), Some(if name == "Affine" { 0.0 } else { 1.0 })),
            "leakyrelu" => (Some(f64::from(0.01f32)), None),
            "thresholdedrelu" | "elu" => (Some(1.0), None),
            "hardsigmoid" => (Some(f64::from(0.2f32)), Some(0.5)),
            _ => return unsupported(format!("activation `{name}`"), "one of ONNX's own"),
        };
        let alpha = defaults.0.map_or(0.0, |d| alphas.next().map_or(d, f64::from));
        let beta = defaults.1.map_or(0.0, |d| betas.next().map_or(d, f64::from));
        all.push(Activation { name: name.to_ascii_lowercase(), alpha, beta });
    }
    Ok(all.chunks(cell.activations.len()).map(<[_]>::to_vec).collect())
}

impl Direction {
    fn activate(&self, b: &mut Builder, which: usize, x: Value) -> Value {
        let x = match self.clip {
            Some(limit) => {
                let (low, high) = (b.scalar(-limit, b.dtype(x)), b.scalar(limit, b.dtype(x)));
                let above = b.max(x, low);
                b.min(above, high)
            }
            None => x,
        };
        let Activation { name, alpha, beta } = &self.activations[which];
        match name.as_str() {
            "sigmoid" => b.sigmoid(x),
            "relu" => b.relu(x),
            "softsign" => softsign(b, x),
            "softplus" => b.softplus(x),
            "leakyrelu" => leaky(b, x, *alpha),
            "thresholdedrelu" => thresholded(b, x, *alpha),
            "elu" => elu_like(b, x, *alpha, 1.0),
            "hardsigmoid" => hard_sigmoid_of(b, x, *alpha, *beta),
            "affine" => {
                let scaled = b.mul_scalar(x, *alpha);
                b.add_scalar(scaled, *beta)
            }
            "scaledtanh" => {
                let scaled = b.mul_scalar(x, *beta);
                let tanh = b.tanh(scaled);
                b.mul_scalar(tanh, *alpha)
            }
            _ => b.tanh(x),
        }
    }

    /// Gate `k` of `[batch, gates · hidden]`.
    fn gate(&self, b: &mut Builder, gates: Value, k: usize) -> Value {
        b.slice(gates, 1, k * self.hidden, (k + 1) * self.hidden)
    }

    /// `h · Rᵀ + bias` for the rows of gates `first..last`.
    fn recur(&self, b: &mut Builder, h: Value, first: usize, last: usize) -> Value {
        let rows = b.slice(self.recurrence, 0, first * self.hidden, last * self.hidden);
        let part = b.dot(h, rows, (&[], &[]), (&[1], &[1]));
        match self.recurrent_bias {
            Some(bias) => {
                let bias = b.slice(bias, 0, first * self.hidden, last * self.hidden);
                b.add(part, bias)
            }
            None => part,
        }
    }

    fn peephole(&self, b: &mut Builder, gate: Value, k: usize, memory: Value) -> Value {
        match self.peepholes {
            Some(all) => {
                let weight = b.slice(all, 0, k * self.hidden, (k + 1) * self.hidden);
                let seen = b.mul(memory, weight);
                b.add(gate, seen)
            }
            None => gate,
        }
    }
}

fn rnn_step(b: &mut Builder, d: &Direction, step: &Step) -> State {
    let recurrent = d.recur(b, step.before.hidden, 0, 1);
    let sum = b.add(step.gates, recurrent);
    State { hidden: d.activate(b, 0, sum), memory: None }
}

/// Gates are input, output, forget, cell.
fn lstm_step(b: &mut Builder, d: &Direction, step: &Step) -> State {
    let recurrent = d.recur(b, step.before.hidden, 0, 4);
    let gates = b.add(step.gates, recurrent);
    let memory = step.before.memory.unwrap_or(step.before.hidden);
    let [input, output, forget, cell] = [0, 1, 2, 3].map(|k| d.gate(b, gates, k));
    let input = d.peephole(b, input, 0, memory);
    let input = d.activate(b, 0, input);
    let forget = if d.input_forget {
        b.one_minus(input)
    } else {
        let forget = d.peephole(b, forget, 2, memory);
        d.activate(b, 0, forget)
    };
    let cell = d.activate(b, 1, cell);
    let kept = b.mul(forget, memory);
    let new = b.mul(input, cell);
    let memory = b.add(kept, new);
    let output = d.peephole(b, output, 1, memory);
    let output = d.activate(b, 0, output);
    let shown = d.activate(b, 2, memory);
    State { hidden: b.mul(output, shown), memory: Some(memory) }
}

/// Gates are update, reset, hidden.
fn gru_step(b: &mut Builder, d: &Direction, step: &Step) -> State {
    let h = step.before.hidden;
    let both = d.recur(b, h, 0, 2);
    let [update, reset, hidden] = [0, 1, 2].map(|k| d.gate(b, step.gates, k));
    let (of_update, of_reset) = (d.gate(b, both, 0), d.gate(b, both, 1));
    let (update, reset) = (b.add(update, of_update), b.add(reset, of_reset));
    let (update, reset) = (d.activate(b, 0, update), d.activate(b, 0, reset));
    let recurrent = if d.linear_before_reset {
        let recurrent = d.recur(b, h, 2, 3);
        b.mul(reset, recurrent)
    } else {
        let seen = b.mul(reset, h);
        d.recur(b, seen, 2, 3)
    };
    let sum = b.add(hidden, recurrent);
    let new = d.activate(b, 1, sum);
    let rest = b.one_minus(update);
    let (new, kept) = (b.mul(rest, new), b.mul(update, h));
    State { hidden: b.add(new, kept), memory: None }
}

/// Part `k` along the first axis, which vanishes.
fn part(b: &mut Builder, x: Value, k: usize) -> Value {
    let part = b.slice(x, 0, k, k + 1);
    let dims = b.dims(part);
    b.reshape(part, dims.get(1..).unwrap_or_default())
}

/// Parts along a new axis.
fn stacked(b: &mut Builder, parts: &[Value], at: usize) -> Value {
    let parts: Vec<Value> = parts
        .iter()
        .map(|p| {
            let mut dims = b.dims(*p);
            dims.insert(at.min(dims.len()), Dim::Fixed(1));
            b.reshape(*p, &dims)
        })
        .collect();
    b.concat(&parts, at)
}

/// Input 0 as `[steps, batch, width]`.
fn time_first(cx: &mut Cx<'_>, batch_first: bool) -> Result<Value, Refusal> {
    let x = cx.float(0)?;
    if cx.b.rank(x) != 3 {
        return invalid("needs an input of three dimensions");
    }
    Ok(if batch_first { cx.b.transpose(x, &[1, 0, 2]) } else { x })
}

fn recurrent(cx: &mut Cx<'_>, cell: &Cell) -> Lowered {
    cx.ignore(&["output_sequence"]);
    let direction = cx.text("direction", "forward")?;
    let directions = match direction.as_str() {
        "forward" | "reverse" => 1,
        "bidirectional" => 2,
        other => return invalid(format!("direction `{other}`")),
    };
    let batch_first = cx.flag("layout", false)?;
    let elem = cx.elem(0)?;
    let x = time_first(cx, batch_first)?;
    let weights = cx.float(1)?;
    let recurrences = cx.float(2)?;
    let biases = cx.opt(3)?;
    let lengths = cx.opt(4)?;
    let recurrence_dims = cx.b.dims(recurrences);
    let hidden = fixed_dim(&recurrence_dims, 2)?;
    let said = usize::try_from(cx.int("hidden_size", hidden as i64)?).unwrap_or(0);
    let rows = Dim::Fixed(cell.gates.saturating_mul(hidden));
    if recurrence_dims.len() != 3 || recurrence_dims[..2] != [Dim::Fixed(directions), rows] || said != hidden
    {
        return invalid("the recurrent weights do not fit `hidden_size` and `direction`");
    }
    let dims = cx.b.dims(x);
    let steps = fixed_dim(&dims, 0)?;
    if steps == 0 || steps > STEPS_MAX {
        return unsupported(format!("a sequence of {steps}"), format!("1 to {STEPS_MAX} steps"));
    }
    let state_dims = [dims[1], Dim::Fixed(hidden)];
    let mut initial = [None, None];
    for (k, slot) in initial.iter_mut().enumerate().take(1 + usize::from(cell.has_memory)) {
        let given = cx.opt(5 + k)?;
        *slot = match (given, batch_first) {
            (Some(v), true) => Some(cx.b.transpose(v, &[1, 0, 2])),
            (v, _) => v,
        };
    }
    let peepholes = if cell.has_memory { cx.opt(7)? } else { None };
    let clip = if cx.has_attr("clip") { Some(cx.real("clip", 0.0)?) } else { None };
    let linear_before_reset = cell.gates == 3 && cx.flag("linear_before_reset", false)?;
    let input_forget = cell.has_memory && cx.flag("input_forget", false)?;
    let mut activations = activations(cx, cell, directions)?.into_iter();
    let b = &mut *cx.b;
    let mut sequences = Vec::new();
    let mut last = Vec::new();
    for k in 0..directions {
        let (gates, recurrent_bias) = input_gates(b, x, weights, biases, k, cell.gates * hidden);
        let d = Direction {
            hidden,
            recurrence: part(b, recurrences, k),
            recurrent_bias,
            peepholes: peepholes.map(|p| part(b, p, k)),
            activations: activations.next().unwrap_or_default(),
            clip,
            linear_before_reset,
            input_forget,
        };
        let start = |b: &mut Builder, given: Option<Value>| match given {
            Some(v) => part(b, v, k),
            None => b.full(0.0, elem.dtype(), &state_dims),
        };
        let state = State {
            hidden: start(b, initial[0]),
            memory: if cell.has_memory { Some(start(b, initial[1])) } else { None },
        };
        let backwards = direction == "reverse" || k == 1;
        let (sequence, state) = unroll(b, cell, &d, gates, state, steps, backwards, lengths);
        sequences.push(sequence);
        last.push(state);
    }
    let results = assembled(b, &sequences, &last, cell.has_memory, batch_first);
    let round = |v: Value| Datum::value(elem, crate::elem::wrapped(b, v, elem));
    Ok(results.into_iter().map(round).collect())
}

/// What the input gives to all gates of direction `k` at every step, and the bias of the recurrent part.
fn input_gates(
    b: &mut Builder,
    x: Value,
    weights: Value,
    biases: Option<Value>,
    k: usize,
    n: usize,
) -> (Value, Option<Value>) {
    let (input_bias, recurrent_bias) = match biases {
        Some(all) => {
            let own = part(b, all, k);
            (Some(b.slice(own, 0, 0, n)), Some(b.slice(own, 0, n, 2 * n)))
        }
        None => (None, None),
    };
    let weight = part(b, weights, k);
    let mut gates = b.dot(x, weight, (&[], &[]), (&[2], &[1]));
    if let Some(bias) = input_bias {
        gates = b.add(gates, bias);
    }
    (gates, recurrent_bias)
}

/// The outputs of the operator: all hidden states, the last ones, and the last memories.
fn assembled(
    b: &mut Builder,
    sequences: &[Vec<Value>],
    last: &[State],
    has_memory: bool,
    batch_first: bool,
) -> Vec<Value> {
    let steps = sequences.first().map_or(0, Vec::len);
    let all: Vec<Value> = (0..steps)
        .map(|t| {
            let parts: Vec<Value> = sequences.iter().map(|s| s[t]).collect();
            stacked(b, &parts, 0)
        })
        .collect();
    let y = stacked(b, &all, 0);
    let hiddens: Vec<Value> = last.iter().map(|s| s.hidden).collect();
    let mut results = vec![y, stacked(b, &hiddens, 0)];
    if has_memory {
        let memories: Vec<Value> = last.iter().map(|s| s.memory.unwrap_or(s.hidden)).collect();
        results.push(stacked(b, &memories, 0));
    }
    if batch_first {
        results[0] = b.transpose(results[0], &[2, 0, 1, 3]);
        results[1..].iter_mut().for_each(|v| *v = b.transpose(*v, &[1, 0, 2]));
    }
    results
}

/// The hidden states of every step in the order of time, and the last state. Where a sequence has ended, outputs are 0
/// and the state stays.
#[allow(clippy::too_many_arguments)]
fn unroll(
    b: &mut Builder,
    cell: &Cell,
    d: &Direction,
    gates: Value,
    mut state: State,
    steps: usize,
    backwards: bool,
    lengths: Option<Value>,
) -> (Vec<Value>, State) {
    let mut sequence = vec![state.hidden; steps];
    for i in 0..steps {
        let t = if backwards { steps - 1 - i } else { i };
        let gates = part(b, gates, t);
        let next = (cell.step)(b, d, &Step { gates, before: state });
        let Some(lengths) = lengths else {
            (sequence[t], state) = (next.hidden, next);
            continue;
        };
        let dims = b.dims(next.hidden);
        let lengths = b.cast(lengths, DType::I32);
        let now = b.scalar(t as f64, DType::I32);
        let goes_on = b.compare(Comparison::Gt, lengths, now);
        let goes_on = b.broadcast_axis(goes_on, &dims, 0);
        let zero = b.scalar(0.0, b.dtype(next.hidden));
        sequence[t] = b.select(goes_on, next.hidden, zero);
        state = State {
            hidden: b.select(goes_on, next.hidden, state.hidden),
            memory: match (next.memory, state.memory) {
                (Some(new), Some(old)) => Some(b.select(goes_on, new, old)),
                _ => None,
            },
        };
    }
    (sequence, state)
}
