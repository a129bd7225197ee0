//! `dot`: the general matrix product, with batch and contracted dimensions.

use crate::ops::{OpEntry, OpRule, Sample, SampleInput, Vjp, sums};
use crate::{Attr, AttrReader, Builder, Cost, TensorType, Value};
use outgrow_tensor::{DType, Shape, Tensor};

/// Sums products over pairs of contracted dimensions, for each index of the paired batch dimensions. The result's
/// dimensions are the batch ones, then the free ones of the left, then those of the right operand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Dot {
    /// Batch dimensions of the left operand.
    pub lhs_batch: Vec<usize>,
    /// Batch dimensions of the right operand, in the same order.
    pub rhs_batch: Vec<usize>,
    /// Contracted dimensions of the left operand.
    pub lhs_contract: Vec<usize>,
    /// Contracted dimensions of the right operand, in the same order.
    pub rhs_contract: Vec<usize>,
    /// Element type of the sums, where it is not that of the operands: bf16 may give f32.
    pub result: Option<DType>,
}

impl Dot {
    /// The free dimensions of the left and of the right operand, for these ranks.
    pub fn free(&self, lhs_rank: usize, rhs_rank: usize) -> (Vec<usize>, Vec<usize>) {
        let free = |rank: usize, a: &[usize], b: &[usize]| {
            (0..rank).filter(|i| !a.contains(i) && !b.contains(i)).collect()
        };
        (free(lhs_rank, &self.lhs_batch, &self.lhs_contract), free(rhs_rank, &self.rhs_batch, &self.rhs_contract))
    }
}

fn distinct(axes: &[&[usize]], rank: usize) -> bool {
    let all: Vec<usize> = axes.concat();
    all.iter().enumerate().all(|(i, a)| *a < rank && !all[..i].contains(a))
}

impl OpRule for Dot {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn attrs(&self) -> Vec<(&'static str, Attr)> {
        let mut attrs = vec![
            ("lhs_batch", Attr::list(&self.lhs_batch)),
            ("rhs_batch", Attr::list(&self.rhs_batch)),
            ("lhs_contract", Attr::list(&self.lhs_contract)),
            ("rhs_contract", Attr::list(&self.rhs_contract)),
        ];
        sums::push_attr(&mut attrs, self.result);
        attrs
    }
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let [x, y] = inputs else { return Err("takes two inputs".into()) };
        if x.dtype != y.dtype || x.dtype == DType::Bool {
            return Err("takes two values of one number type".into());
        }
        let dtype = sums::sum_type(x.dtype, self.result)?;
        if !distinct(&[&self.lhs_batch, &self.lhs_contract], x.rank())
            || !distinct(&[&self.rhs_batch, &self.rhs_contract], y.rank())
            || self.lhs_batch.len() != self.rhs_batch.len()
            || self.lhs_contract.len() != self.rhs_contract.len()
        {
            return Err("its axes must be distinct, in range, and paired".into());
        }
        let lhs = self.lhs_batch.iter().chain(&self.lhs_contract);
        let rhs = self.rhs_batch.iter().chain(&self.rhs_contract);
        for (i, j) in lhs.zip(rhs) {
            if x.dims[*i] != y.dims[*j] {
                return Err(format!("dimension {} of the left is not {} of the right", x.dims[*i], y.dims[*j]));
            }
        }
        let (lhs_free, rhs_free) = self.free(x.rank(), y.rank());
        let left = self.lhs_batch.iter().chain(&lhs_free).map(|i| x.dims[*i]);
        Ok(TensorType { dtype, dims: left.chain(rhs_free.iter().map(|j| y.dims[*j])).collect() })
    }
    fn eval(&self, inputs: &[&Tensor], dtype: DType, shape: &Shape) -> Tensor {
        let (x, y) = (inputs[0], inputs[1]);
        let (lhs_free, rhs_free) = self.free(x.shape().rank(), y.shape().rank());
        let inner = Shape::new(self.lhs_contract.iter().map(|i| x.shape().dims()[*i]).collect::<Vec<_>>());
        let places = |i: usize, k: usize| {
            let (out, k) = (shape.unravel(i), inner.unravel(k));
            let batch = self.lhs_batch.len();
            let mut at_x = vec![0; x.shape().rank()];
            let mut at_y = vec![0; y.shape().rank()];
            self.lhs_batch.iter().zip(&out).for_each(|(a, i)| at_x[*a] = *i);
            self.rhs_batch.iter().zip(&out).for_each(|(a, i)| at_y[*a] = *i);
            lhs_free.iter().zip(&out[batch..]).for_each(|(a, i)| at_x[*a] = *i);
            rhs_free.iter().zip(&out[batch + lhs_free.len()..]).for_each(|(a, i)| at_y[*a] = *i);
            self.lhs_contract.iter().zip(&k).for_each(|(a, i)| at_x[*a] = *i);
            self.rhs_contract.iter().zip(&k).for_each(|(a, i)| at_y[*a] = *i);
            (x.shape().ravel(&at_x), y.shape().ravel(&at_y))
        };
        let terms = |i| (0..inner.elements()).map(move |k| (i, k));
        if dtype.is_float() {
            Tensor::from_f64(dtype, shape.clone(), |i| {
                terms(i).map(|(i, k)| places(i, k)).map(|(a, b)| x.get_f64(a) * y.get_f64(b)).sum()
            })
        } else {
            Tensor::from_i64(dtype, shape.clone(), |i| {
                terms(i).map(|(i, k)| places(i, k)).fold(0i64, |sum, (a, b)| {
                    sum.wrapping_add(x.get_i64(a).wrapping_mul(y.get_i64(b)))
                })
            })
        }
    }
    fn vjp(&self, cx: &mut Vjp<'_>) -> Vec<Option<Value>> {
        let (x, y) = (cx.inputs[0], cx.inputs[1]);
        // Gradients are of the operands' type. Where the result was wider, its gradient is rounded to that type first:
        // so the products on the way back have two operands of one type, as backends have them fast.
        let grad = cx.b.cast(cx.grad, cx.b.dtype(x));
        let (lhs_rank, rhs_rank) = (cx.b.rank(x), cx.b.rank(y));
        let (lhs_free, rhs_free) = self.free(lhs_rank, rhs_rank);
        let batch: Vec<usize> = (0..self.lhs_batch.len()).collect();
        let left: Vec<usize> = (0..lhs_free.len()).map(|i| i + batch.len()).collect();
        let right: Vec<usize> = (0..rhs_free.len()).map(|i| i + batch.len() + left.len()).collect();
        // dx[batch, left free, contracted] = grad . y over the free dimensions of y.
        let dx = Self {
            lhs_batch: batch.clone(),
            rhs_batch: self.rhs_batch.clone(),
            lhs_contract: right,
            rhs_contract: rhs_free.clone(),
            result: None,
        };
        let dx = cx.b.push(dx, &[grad, y]);
        let order = contract_order(&self.rhs_contract, &self.lhs_contract);
        let dx = restore(cx.b, dx, &[&self.lhs_batch, &lhs_free, &order]);
        // dy[batch, contracted, right free] = x . grad over the free dimensions of x.
        let dy = Self {
            lhs_batch: self.lhs_batch.clone(),
            rhs_batch: batch,
            lhs_contract: lhs_free,
            rhs_contract: left,
            result: None,
        };
        let dy = cx.b.push(dy, &[x, grad]);
        let order = contract_order(&self.lhs_contract, &self.rhs_contract);
        let dy = restore(cx.b, dy, &[&self.rhs_batch, &order, &rhs_free]);
        vec![Some(dx), Some(dy)]
    }
    fn cost(&self, inputs: &[&TensorType], output: &TensorType) -> Cost {
        let inner = self.lhs_contract.iter().map(|i| inputs[0].dims[*i].unit());
        Cost::streaming(Cost::product(inner.chain([2, output.unit_elements()])), inputs, output)
    }
}

/// The contracted axes of one operand in the order in which their partners stand in the other.
fn contract_order(partners: &[usize], axes: &[usize]) -> Vec<usize> {
    let mut pairs: Vec<_> = partners.iter().zip(axes).collect();
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, axis)| *axis).collect()
}

/// Puts dimensions that stand in the order of `parts` back into their own order.
fn restore(b: &mut Builder, x: Value, parts: &[&[usize]]) -> Value {
    let order = parts.concat();
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, a)| inverse[*a] = i);
    if inverse.iter().enumerate().all(|(i, a)| i == *a) { x } else { b.transpose(x, &inverse) }
}

impl OpEntry for Dot {
    const NAME: &'static str = "dot";
    fn parse(attrs: &mut AttrReader) -> Result<Self, String> {
        Ok(Self {
            lhs_batch: attrs.ints("lhs_batch")?,
            rhs_batch: attrs.ints("rhs_batch")?,
            lhs_contract: attrs.ints("lhs_contract")?,
            rhs_contract: attrs.ints("rhs_contract")?,
            result: sums::parse_attr(attrs)?,
        })
    }
    fn samples() -> Vec<Sample> {
        let case = |x: &[usize], y: &[usize], axes: [&[usize]; 4]| {
            let [lhs_batch, rhs_batch, lhs_contract, rhs_contract] = axes.map(<[usize]>::to_vec);
            let op = Self { lhs_batch, rhs_batch, lhs_contract, rhs_contract, result: None };
            Sample::new(op, &[SampleInput::float(x), SampleInput::float(y)])
        };
        let mut samples = vec![
            case(&[3, 4], &[4, 5], [&[], &[], &[1], &[0]]),
            case(&[3, 4], &[5, 4], [&[], &[], &[1], &[1]]),
            case(&[4, 3], &[4, 5], [&[], &[], &[0], &[0]]),
            case(&[2, 3, 4], &[2, 4, 5], [&[0], &[0], &[2], &[1]]),
            case(&[2, 3, 6, 4], &[2, 6, 3, 4], [&[0, 1], &[0, 2], &[3], &[3]]),
            case(&[2, 3, 4], &[5, 4, 3], [&[], &[], &[1, 2], &[2, 1]]),
            case(&[2, 3, 4], &[4, 5], [&[], &[], &[2], &[0]]),
            case(&[7], &[7], [&[], &[], &[0], &[0]]),
            case(&[3], &[4], [&[], &[], &[], &[]]),
            case(&[1, 1], &[1, 1], [&[], &[], &[1], &[0]]),
            case(&[3, 0], &[0, 2], [&[], &[], &[1], &[0]]),
            case(&[0, 3], &[3, 2], [&[], &[], &[1], &[0]]),
            case(&[1, 65], &[65, 33], [&[], &[], &[1], &[0]]),
            case(&[37, 19], &[19, 1], [&[], &[], &[1], &[0]]),
        ];
        let ints = |dims: &[usize]| SampleInput::new(DType::I32, dims, -9.0, 9.0);
        let matmul = Self { lhs_contract: vec![1], rhs_contract: vec![0], ..Self::default() };
        samples.push(Sample::new(matmul.clone(), &[ints(&[3, 4]), ints(&[4, 2])]));
        let half = |dims: &[usize]| SampleInput::new(DType::BF16, dims, -2.0, 2.0);
        let wide = |op: &Self| Self { result: Some(DType::F32), ..op.clone() };
        samples.push(Sample::new(wide(&matmul), &[half(&[37, 65]), half(&[65, 40])]));
        let batched =
            Self { lhs_batch: vec![1], rhs_batch: vec![0], lhs_contract: vec![0], rhs_contract: vec![2], result: None };
        samples.push(Sample::new(wide(&batched), &[half(&[6, 2, 9]), half(&[2, 5, 6])]));
        samples
    }
}

impl Builder {
    /// The general product over paired batch and contracted dimensions, given as `(left, right)`.
    pub fn dot(&mut self, x: Value, y: Value, batch: (&[usize], &[usize]), contract: (&[usize], &[usize])) -> Value {
        self.dot_as(self.dtype(x), x, y, batch, contract)
    }

    /// As [`Builder::dot`], with sums of `dtype`: the operands' own type, or f32 of bf16, which are then not rounded.
    pub fn dot_as(
        &mut self,
        dtype: DType,
        x: Value,
        y: Value,
        batch: (&[usize], &[usize]),
        contract: (&[usize], &[usize]),
    ) -> Value {
        let op = Dot {
            lhs_batch: batch.0.to_vec(),
            rhs_batch: batch.1.to_vec(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
            result: (dtype != self.dtype(x)).then_some(dtype),
        };
        self.push(op, &[x, y])
    }

    /// `x @ y` of `[…, m, k]` and `[k, n]`, or of `[batch…, m, k]` and `[batch…, k, n]`.
    pub fn matmul(&mut self, x: Value, y: Value) -> Value {
        let (rx, ry) = (self.rank(x), self.rank(y));
        if rx < 2 || ry < 2 || (ry != 2 && rx != ry) {
            return self.error(format!("no matrix product of {} and {}", self.ty(x), self.ty(y)));
        }
        let batch: Vec<usize> = (0..ry - 2).collect();
        self.dot(x, y, (&batch, &batch), (&[rx - 1], &[ry - 2]))
    }
}

/// The symbolic batch may be contracted, as in the gradient of weights.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dim;

    #[test]
    fn batch_dimension_contracts() {
        let ty = |dims: &[Dim]| TensorType { dtype: DType::F32, dims: dims.to_vec() };
        let op = Dot { lhs_contract: vec![0], rhs_contract: vec![0], ..Dot::default() };
        let result = op.infer(&[&ty(&[Dim::B, Dim::Fixed(3)]), &ty(&[Dim::B, Dim::Fixed(4)])]);
        assert_eq!(result.unwrap().to_string(), "f32[3, 4]");
    }

    #[test]
    fn only_bf16_gives_another_type() {
        for operands in DType::ALL {
            for result in DType::ALL {
                let ty = TensorType::new(operands, [3usize]);
                let op = Dot { lhs_contract: vec![0], rhs_contract: vec![0], result: Some(result), ..Dot::default() };
                let given = op.infer(&[&ty, &ty]).ok().map(|ty| ty.dtype);
                let fits = (operands, result) == (DType::BF16, DType::F32);
                assert_eq!(given, fits.then_some(result), "{operands} to {result}");
            }
        }
    }
}
