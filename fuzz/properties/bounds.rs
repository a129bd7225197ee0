//! How far a backend may be from the reference, element by element: every op's own rounding, judged by the size of the
//! terms that it adds up, and what becomes of its inputs' errors. Zero means that the bits must be equal: sums of
//! numbers on one binary grid are exact in any order. Infinity means that nothing can be said, as where a comparison
//! could go either way.

#[path = "attention_bounds.rs"]
mod attention_bounds;

use attention_bounds::Operands;
use outgrow_ir::ops::attention::Attention;
use outgrow_ir::ops::pad::Pad;
use outgrow_ir::ops::pool2d::PoolKind;
use outgrow_ir::{Graph, Node, Op, Scalar};
use outgrow_tensor::{DType, Tensor};

/// What nothing is known of.
const ANY: f64 = f64::INFINITY;
/// Elementary functions of kernels are within 4 units in the last place; the reference rounds once more.
const FUNCTION_ULPS: f64 = 5.0;
/// Below the normal numbers of f32, errors no longer shrink with the value.
const TINY: f64 = 1.2e-38;

/// The bounds of a graph's values, and whether an index is outside its table.
pub struct Bounds {
    /// For each node, how far each element may be off.
    pub errors: Vec<Vec<f64>>,
    /// Whether a run must fail, or may, because an index is outside.
    pub fails: Fails,
}

/// Whether an index is outside its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fails {
    Never,
    Maybe,
    Surely,
}

/// Half a unit in the last place, relative to the value.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-8),
        DType::F32 => 2f64.powi(-24),
        _ => 2f64.powi(-53),
    }
}

fn largest(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::MAX } else { f64::from(f32::MAX) * 0.99 }
}

/// The bounds of every node, given the value of every node.
pub fn bounds(graph: &Graph, values: &[Tensor]) -> Bounds {
    let mut bounds = Bounds { errors: Vec::with_capacity(values.len()), fails: Fails::Never };
    for (value, node) in graph.iter() {
        let one = NodeBounds {
            node,
            x: node.inputs.iter().map(|v| &values[v.index()]).collect(),
            e: node.inputs.iter().map(|v| bounds.errors[v.index()].as_slice()).collect(),
            y: &values[value.index()],
        };
        let mut errors = one.errors();
        for (i, error) in errors.iter_mut().enumerate() {
            *error = settled(*error, one.y.get_f64(i), node.ty.dtype);
        }
        bounds.fails = bounds.fails.max(one.fails());
        bounds.errors.push(errors);
    }
    bounds
}

/// Whole numbers are right or unknown; near the largest number, and beyond it, an error may be of any size.
fn settled(error: f64, y: f64, dtype: DType) -> f64 {
    let finite = error == 0.0 || (dtype.is_float() && y.is_finite() && y.abs() + error < largest(dtype));
    if error >= 0.0 && finite { error } else { ANY }
}

struct NodeBounds<'a> {
    node: &'a Node,
    x: Vec<&'a Tensor>,
    e: Vec<&'a [f64]>,
    y: &'a Tensor,
}

impl NodeBounds<'_> {
    fn errors(&self) -> Vec<f64> {
        let exact = self.e.iter().all(|e| e.iter().all(|e| *e == 0.0));
        match &self.node.op {
            Op::Input(_) | Op::Constant(_) | Op::Iota(_) => vec![0.0; self.y.elements()],
            Op::RandomUniform(_) => vec![if exact { 0.0 } else { ANY }; self.y.elements()],
            Op::Broadcast(_) | Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Concat(_) => {
                self.moved(&self.node.op)
            }
            Op::Reverse(_) | Op::ReduceMax(_) => self.moved(&self.node.op),
            Op::Pool2d(pool) if pool.kind == PoolKind::Max => self.moved(&self.node.op),
            Op::Pad(pad) => self.moved(&Op::Pad(Pad { value: Scalar(0.0), ..pad.clone() })),
            Op::ReduceSum(_) | Op::Pool2d(_) => self.sum(0),
            Op::ScatterAdd(_) if self.e[0].iter().all(|e| *e == 0.0) => self.sum(1),
            Op::MaxPool2dGrad(_) if self.e[0].iter().all(|e| *e == 0.0) => self.sum(1),
            Op::ScatterAdd(_) | Op::MaxPool2dGrad(_) => vec![ANY; self.y.elements()],
            Op::Dot(_) | Op::Conv2d(_) | Op::Conv2dGradInput(_) | Op::Conv2dGradWeight(_) => self.products(),
            Op::Attention(op) => self.rounded(self.attention(op).result()),
            Op::AttentionGrad(op) => self.rounded(self.attention(&op.of).gradients()),
            Op::Gather(_) => self.gathered(),
            Op::ArgMax(op) => self.arg_max(op.axis, exact),
            _ => (0..self.y.elements()).map(|i| self.element(i)).collect(),
        }
    }

    /// Attention of bf16 is computed in f32 and rounded once.
    fn attention<'a>(&'a self, op: &'a Attention) -> Operands<'a> {
        let dtype = if self.node.ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Operands { op, x: &self.x, e: &self.e, rounding: rounding(dtype) }
    }

    /// With the rounding to the type of the result, of either side.
    fn rounded(&self, mut errors: Vec<f64>) -> Vec<f64> {
        for (i, error) in errors.iter_mut().enumerate() {
            *error += 2.0 * rounding(self.node.ty.dtype) * (self.y.get_f64(i).abs() + *error) + TINY;
        }
        errors
    }

    /// Whether an index is outside the table. Rows without elements are never read.
    fn fails(&self) -> Fails {
        let (indices, rows) = match &self.node.op {
            Op::Gather(_) => (1, self.x[0].shape().dims()[0]),
            Op::ScatterAdd(_) => (0, self.y.shape().dims()[0]),
            _ => return Fails::Never,
        };
        let outside = |i: usize| usize::try_from(self.x[indices].get_i64(i)).map_or(true, |row| row >= rows);
        let elements = 0..self.x[indices].elements();
        if elements.clone().any(|i| self.e[indices][i] == 0.0 && outside(i)) {
            return if self.y.elements() == 0 { Fails::Maybe } else { Fails::Surely };
        }
        if elements.clone().any(|i| self.e[indices][i] != 0.0) { Fails::Maybe } else { Fails::Never }
    }

    /// What an op gives for other values of its inputs, as numbers that are never negative or NaN.
    fn run(&self, op: &Op, inputs: &[Option<Vec<f64>>]) -> Vec<f64> {
        let given: Vec<Tensor> = self
            .x
            .iter()
            .zip(inputs)
            .map(|(x, values)| match values {
                Some(values) => Tensor::from_f64(DType::F64, x.shape().clone(), |i| values[i]),
                None => (*x).clone(),
            })
            .collect();
        let result = op.rule().eval(&given.iter().collect::<Vec<_>>(), DType::F64, self.y.shape());
        (0..result.elements())
            .map(|i| result.get_f64(i))
            .map(|e| if e.is_nan() { ANY } else { e.max(0.0) })
            .collect()
    }

    /// An op that only picks elements picks their errors.
    fn moved(&self, op: &Op) -> Vec<f64> {
        self.run(op, &Vec::from_iter(self.e.iter().map(|e| Some(e.to_vec()))))
    }

    fn gathered(&self) -> Vec<f64> {
        let mut errors = self.run(&self.node.op, &[Some(self.e[0].to_vec()), None]);
        let width = self.x[0].shape().dims()[1..].iter().product::<usize>();
        for (i, error) in errors.iter_mut().enumerate() {
            *error += self.e[1][i / width];
        }
        errors
    }

    fn sizes(&self, input: usize) -> Vec<f64> {
        (0..self.x[input].elements()).map(|i| self.x[input].get_f64(i).abs()).collect()
    }

    /// A sum of elements of one input; the other one, if there is one, says which.
    fn sum(&self, input: usize) -> Vec<f64> {
        let with = |values: Vec<f64>| {
            let mut inputs = vec![None; self.x.len()];
            inputs[input] = Some(values);
            self.run(&self.node.op, &inputs)
        };
        let sizes = with(self.sizes(input));
        let carried = with(self.e[input].to_vec());
        let terms = with(vec![1.0; self.x[input].elements()]);
        self.summed(&sizes, &carried, &terms, grid(self.x[input]))
    }

    /// A sum of products of the two inputs' elements.
    fn products(&self) -> Vec<f64> {
        let with = |x: Vec<f64>, y: Vec<f64>| self.run(&self.node.op, &[Some(x), Some(y)]);
        let (x, y) = (self.sizes(0), self.sizes(1));
        // Kernels may multiply padding, which is zero, where the reference leaves it out: nobody can tell but by
        // numbers that are not finite.
        let finite = |i: usize| self.sizes(i).iter().zip(self.e[i]).all(|(x, e)| (x + e).is_finite());
        let known = matches!(self.node.op, Op::Dot(_)) || (finite(0) && finite(1));
        if !known {
            return vec![ANY; self.y.elements()];
        }
        let sizes = with(x.clone(), y.clone());
        let [ex, ey] = [0, 1].map(|i| self.e[i].to_vec());
        let upper = x.iter().zip(&ex).map(|(x, e)| x + e).collect();
        let carried: Vec<f64> = with(upper, ey).iter().zip(with(ex, y.clone())).map(|(a, b)| a + b).collect();
        let terms = with(vec![1.0; x.len()], vec![1.0; y.len()]);
        self.summed(&sizes, &carried, &terms, grid(self.x[0]) + grid(self.x[1]))
    }

    /// Errors of sums, given the sums of their terms' sizes, of their terms' errors, and the numbers of their terms,
    /// all of which are multiples of 2 to the power `grid`.
    fn summed(&self, sizes: &[f64], carried: &[f64], terms: &[f64], grid: i32) -> Vec<f64> {
        let dtype = self.node.ty.dtype;
        if !dtype.is_float() {
            return carried.iter().map(|e| if *e == 0.0 { 0.0 } else { ANY }).collect();
        }
        // Sums of bf16 are of f32 inside, and rounded once; but what is scattered is summed in the result itself.
        let scattered = matches!(self.node.op, Op::ScatterAdd(_) | Op::MaxPool2dGrad(_));
        let inner = if dtype == DType::F64 || scattered { dtype } else { DType::F32 };
        let holds = 2f64.powi(grid.clamp(-1000, 900)) / rounding(inner);
        let error = |i: usize| {
            if sizes[i] >= largest(dtype) {
                return ANY;
            }
            if carried[i] == 0.0 && sizes[i] <= holds {
                return 0.0;
            }
            let inside = (terms[i] + 2.0) * (rounding(inner) * (sizes[i] + carried[i]) + TINY);
            let end = if dtype == DType::BF16 {
                2.0 * rounding(dtype) * (self.y.get_f64(i).abs() + inside + carried[i])
            } else {
                0.0
            };
            carried[i] + inside + end
        };
        (0..sizes.len()).map(error).collect()
    }

    /// The place of a maximum is known where no other element can reach it.
    fn arg_max(&self, axis: usize, exact: bool) -> Vec<f64> {
        let (x, e) = (self.x[0], self.e[0]);
        let place = |i: usize| {
            let mut index = self.y.shape().unravel(i);
            index.insert(axis, 0);
            let mut at = |k: usize| {
                index[axis] = k;
                x.shape().ravel(&index)
            };
            let best = at(self.y.get_i64(i) as usize);
            let n = x.shape().dims()[axis];
            let clear = (0..n).map(at).all(|j| j == best || x.get_f64(j) + e[j] < x.get_f64(best) - e[best]);
            if clear { 0.0 } else { ANY }
        };
        if exact { vec![0.0; self.y.elements()] } else { (0..self.y.elements()).map(place).collect() }
    }

    /// The error of one element of an elementwise op.
    fn element(&self, i: usize) -> f64 {
        let x = |k: usize| self.x[k].get_f64(i);
        let e = |k: usize| self.e[k][i];
        let (dtype, y) = (self.node.ty.dtype, self.y.get_f64(i));
        let exact = self.e.iter().all(|e| e[i] == 0.0);
        if let Op::Select(_) = &self.node.op {
            return self.select(i);
        }
        if self.e.iter().any(|e| e[i] == ANY) {
            return ANY;
        }
        // Each of the two sides rounds once.
        let rounded = |carried: f64| carried + 2.0 * rounding(dtype) * (y.abs() + carried) + TINY;
        // Correctly rounded by everybody.
        let basic = |carried: f64| if exact { 0.0 } else { rounded(carried) };
        // In f32 inside where the type is bf16.
        let inner = if dtype == DType::F64 { dtype } else { DType::F32 };
        let function = |carried: f64| {
            let own = 2.0 * FUNCTION_ULPS * rounding(inner) * (y.abs() + carried) + TINY;
            let end = if dtype == DType::BF16 { 2.0 * rounding(dtype) * (y.abs() + carried) } else { 0.0 };
            carried + own + end
        };
        let within = |f: fn(f64) -> f64| (f(x(0) + e(0)) - y).abs().max((f(x(0) - e(0)) - y).abs());
        if !dtype.is_float() && !matches!(&self.node.op, Op::Cast(_) | Op::Compare(_)) {
            return 0.0;
        }
        match &self.node.op {
            Op::Neg(_) | Op::Abs(_) | Op::StopGradient(_) => e(0),
            Op::Add(_) | Op::Sub(_) => basic(e(0) + e(1)),
            Op::Mul(_) => basic(x(0).abs() * e(1) + x(1).abs() * e(0) + e(0) * e(1)),
            // The sign of a zero is nobody's concern, and tells here.
            Op::Div(_) if x(1).abs() <= e(1) => ANY,
            Op::Div(_) => basic((e(0) + y.abs() * e(1)) / (x(1).abs() - e(1))),
            Op::Max(_) | Op::Min(_) => e(0).max(e(1)),
            Op::Floor(_) => {
                if exact {
                    0.0
                } else {
                    within(f64::floor)
                }
            }
            Op::Sign(_) => {
                if exact {
                    0.0
                } else {
                    within(|x| if x == 0.0 { 0.0 } else { x.signum() })
                }
            }
            Op::Sqrt(_) => {
                if exact {
                    0.0
                } else {
                    basic(within(|x| x.max(0.0).sqrt()) + if x(0) < e(0) { ANY } else { 0.0 })
                }
            }
            // Where an exact operand gives infinity or NaN, so does everybody.
            _ if exact && !y.is_finite() && !matches!(&self.node.op, Op::Pow(_)) => 0.0,
            Op::Exp(_) => function(if exact { 0.0 } else { within(f64::exp) }),
            // Below zero it is NaN, which is no bound.
            Op::Log(_) if !exact && x(0) <= e(0) => ANY,
            Op::Log(_) => function(if exact { 0.0 } else { within(f64::ln) }),
            Op::Tanh(_) | Op::Sin(_) | Op::Cos(_) => function(e(0)),
            // The greatest slope is 2 / sqrt(pi).
            Op::Erf(_) => function(1.13 * e(0)),
            Op::Pow(_) if exact && (x(0) != 0.0 || y.is_finite()) => {
                if y.is_finite() {
                    function(0.0)
                } else {
                    0.0
                }
            }
            Op::Pow(_) if x(0) <= e(0) => ANY,
            Op::Pow(_) => {
                let corner = |dx: f64, dy: f64| ((x(0) + dx * e(0)).powf(x(1) + dy * e(1)) - y).abs();
                function(
                    corner(1.0, 1.0).max(corner(1.0, -1.0)).max(corner(-1.0, 1.0)).max(corner(-1.0, -1.0)),
                )
            }
            Op::Compare(_) => {
                if exact || (x(0) - x(1)).abs() > e(0) + e(1) {
                    0.0
                } else {
                    ANY
                }
            }
            Op::Cast(_) if exact => 0.0,
            Op::Cast(_) if dtype.is_float() => rounded(e(0)),
            Op::Cast(_) if dtype == DType::Bool => {
                if x(0).abs() > e(0) {
                    0.0
                } else {
                    ANY
                }
            }
            Op::Cast(_) => {
                if (x(0) - e(0)).trunc() == (x(0) + e(0)).trunc() {
                    0.0
                } else {
                    ANY
                }
            }
            other => unreachable!("`{}` has no bound", other.rule().name()),
        }
    }

    fn select(&self, i: usize) -> f64 {
        if self.e[0][i] == 0.0 {
            return self.e[if self.x[0].get_i64(i) != 0 { 1 } else { 2 }][i];
        }
        let apart = self.x[1].get_f64(i) - self.x[2].get_f64(i);
        apart.abs() + self.e[1][i] + self.e[2][i]
    }
}

/// The power of two that every element is a multiple of; low where there is none.
fn grid(x: &Tensor) -> i32 {
    let exponent = |v: f64| {
        let (bits, power) = (v.to_bits(), (v.to_bits() >> 52 & 0x7ff) as i32);
        let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
        if power == 0 { -2000 } else { power - 1075 + mantissa.trailing_zeros() as i32 }
    };
    (0..x.elements()).map(|i| x.get_f64(i)).filter(|v| *v != 0.0).map(exponent).min().unwrap_or(400)
}
