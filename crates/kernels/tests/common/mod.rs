//! What the kernel tests share: random operands, a slow interpreter of block programs, and a runner that tries every
//! SIMD path of this processor with several numbers of threads.
#![allow(dead_code)]

use outgrow_kernels::{
    BinaryOp, BufferRef, CompareOp, Instr, Kernel, KernelPath, Literal, ProgramBuilder, RunError, ThreadPool,
    UnaryOp, View, Weight,
};
use outgrow_tensor::{DType, Element, RngStream, Tensor, bf16};
use std::sync::Arc;

/// The contents of one buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    pub dtype: DType,
    pub len: usize,
    words: Vec<u64>,
}

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Float(f64),
}

impl Value {
    pub fn float(self) -> f64 {
        match self {
            Self::Int(x) => x as f64,
            Self::Float(x) => x,
        }
    }

    pub fn int(self) -> i64 {
        match self {
            Self::Int(x) => x,
            Self::Float(x) => x as i64,
        }
    }
}

/// A value as an element type holds it.
pub fn round(dtype: DType, v: Value) -> Value {
    match (dtype, v) {
        (DType::Bool, v) => Value::Int(i64::from(v.float() != 0.0)),
        (DType::U8, Value::Int(x)) => Value::Int(i64::from(x as u8)),
        (DType::U8, Value::Float(x)) => Value::Int(i64::from(x as u8)),
        (DType::I32, Value::Int(x)) => Value::Int(i64::from(x as i32)),
        (DType::I32, Value::Float(x)) => Value::Int(i64::from(x as i32)),
        (DType::I64, v) => Value::Int(v.int()),
        (DType::BF16, v) => Value::Float(bf16::from_f32(v.float() as f32).to_f64()),
        (DType::F32, v) => Value::Float(f64::from(v.float() as f32)),
        (DType::F64, v) => Value::Float(v.float()),
    }
}

impl Data {
    pub fn zeros(dtype: DType, len: usize) -> Self {
        Self { dtype, len, words: vec![0; (len * dtype.bytes()).div_ceil(8) + 1] }
    }

    pub fn from(dtype: DType, values: impl IntoIterator<Item = Value>) -> Self {
        let values: Vec<Value> = values.into_iter().collect();
        let mut data = Self::zeros(dtype, values.len());
        values.into_iter().enumerate().for_each(|(i, v)| data.set(i, v));
        data
    }

    pub fn floats(dtype: DType, values: impl IntoIterator<Item = f64>) -> Self {
        Self::from(dtype, values.into_iter().map(Value::Float))
    }

    pub fn ints(dtype: DType, values: impl IntoIterator<Item = i64>) -> Self {
        Self::from(dtype, values.into_iter().map(Value::Int))
    }

    /// Random elements: floats in -2..2, integers in -9..10 (u8: 0..19).
    pub fn random(dtype: DType, len: usize, rng: &mut RngStream) -> Self {
        Self::from(
            dtype,
            (0..len).map(|_| match dtype {
                DType::Bool => Value::Int(rng.below(2) as i64),
                DType::U8 => Value::Int(rng.below(19) as i64),
                DType::I32 | DType::I64 => Value::Int(rng.below(19) as i64 - 9),
                _ => Value::Float(rng.uniform_in(-2.0, 2.0)),
            }),
        )
    }

    pub fn bytes(&self) -> usize {
        self.len * self.dtype.bytes()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes()]
    }

    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes();
        &mut bytemuck::cast_slice_mut(&mut self.words)[..bytes]
    }

    pub fn f32s(&self) -> &[f32] {
        assert_eq!(self.dtype, DType::F32);
        bytemuck::cast_slice(self.as_bytes())
    }

    pub fn set(&mut self, i: usize, v: Value) {
        let dtype = self.dtype;
        let v = round(dtype, v);
        let at = i * dtype.bytes();
        let slot = &mut self.as_bytes_mut()[at..at + dtype.bytes()];
        match dtype {
            DType::Bool | DType::U8 => slot[0] = v.int() as u8,
            DType::I32 => slot.copy_from_slice(&(v.int() as i32).to_le_bytes()),
            DType::I64 => slot.copy_from_slice(&v.int().to_le_bytes()),
            DType::BF16 => {
                slot.copy_from_slice(&<bf16 as Element>::from_f64(v.float()).to_bits().to_le_bytes())
            }
            DType::F32 => slot.copy_from_slice(&(v.float() as f32).to_le_bytes()),
            DType::F64 => slot.copy_from_slice(&v.float().to_le_bytes()),
        }
    }

    pub fn get(&self, i: usize) -> Value {
        assert!(i < self.len);
        let at = i * self.dtype.bytes();
        let b = &self.as_bytes()[at..at + self.dtype.bytes()];
        match self.dtype {
            DType::Bool | DType::U8 => Value::Int(i64::from(b[0])),
            DType::I32 => Value::Int(i64::from(i32::from_le_bytes(b.try_into().unwrap()))),
            DType::I64 => Value::Int(i64::from_le_bytes(b.try_into().unwrap())),
            DType::BF16 => Value::Float(bf16::from_bits(u16::from_le_bytes(b.try_into().unwrap())).to_f64()),
            DType::F32 => Value::Float(f64::from(f32::from_le_bytes(b.try_into().unwrap()))),
            DType::F64 => Value::Float(f64::from_le_bytes(b.try_into().unwrap())),
        }
    }
}

/// All multi-indices of `dims` in row-major order.
pub fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    let shape = outgrow_tensor::Shape::new(dims);
    (0..shape.elements()).map(|i| shape.unravel(i)).collect()
}

/// The element position, within its buffer, of `index` in `view`.
pub fn position(view: &View, index: &[usize]) -> usize {
    let offset: isize = index.iter().zip(&view.strides).map(|(&i, &s)| i as isize * s).sum();
    (view.slot.offset / view.dtype.bytes() + view.start).checked_add_signed(offset).unwrap()
}

/// What a kernel test runs: buffers that may all be written.
pub struct Case<'a> {
    pub data: Vec<Data>,
    pub build: &'a dyn Fn(&mut ProgramBuilder),
}

/// A case of a single kernel.
pub fn kernel_case<K: Kernel + 'static>(
    data: Vec<Data>,
    kernel: impl Fn() -> K,
) -> Vec<(KernelPath, Vec<Data>)> {
    run_case(&Case {
        data,
        build: &|b| {
            b.push(kernel());
        },
    })
    .unwrap()
}

/// Runs a case on every path of this processor; on each with 1, 2 and 3 threads, and with all that is only read as
/// weights, which must give the same bits. Returns the buffers afterwards, by path.
pub fn run_case(case: &Case<'_>) -> Result<Vec<(KernelPath, Vec<Data>)>, RunError> {
    let mut results = Vec::new();
    for path in KernelPath::supported() {
        let mut first: Option<Vec<Data>> = None;
        for (threads, weights) in [(1, false), (2, false), (3, false), (2, true)] {
            let data = run_once(case, path, threads, weights)?;
            match &first {
                None => first = Some(data),
                Some(first) => {
                    for (i, (a, b)) in first.iter().zip(&data).enumerate() {
                        assert!(
                            a.as_bytes() == b.as_bytes(),
                            "{path}: buffer {i} differs with {threads} threads, weights: {weights}"
                        );
                    }
                }
            }
        }
        results.push((path, first.unwrap()));
    }
    Ok(results)
}

fn run_once(case: &Case<'_>, path: KernelPath, threads: usize, weights: bool) -> Result<Vec<Data>, RunError> {
    let program = |is_weight: &dyn Fn(usize) -> bool| {
        let mut builder = ProgramBuilder::new(path);
        for (i, data) in case.data.iter().enumerate() {
            if is_weight(i) {
                let tensor = Tensor::from_le_bytes(data.dtype, [data.len], data.as_bytes()).unwrap();
                builder.weight(&Arc::new(Weight::new(tensor)));
            } else {
                builder.output(data.bytes());
            }
        }
        (case.build)(&mut builder);
        builder.build().unwrap()
    };
    let mut built = program(&|_| false);
    let mut is_weight = vec![false; case.data.len()];
    if weights {
        is_weight.fill(true);
        let written = |k: &dyn Kernel| k.writes().iter().map(|v| v.slot.buffer as usize).collect::<Vec<_>>();
        built.kernels().flat_map(written).for_each(|i| is_weight[i] = false);
        built = program(&|i| is_weight[i]);
    }
    let mut instance = built.instance(threads).unwrap();
    let mut data = case.data.clone();
    let given = data.iter_mut().zip(&is_weight).filter(|(_, is_weight)| !**is_weight);
    let buffers = given.map(|(d, _)| BufferRef::Write(d.as_bytes_mut()));
    built.run(&mut instance, &ThreadPool::new(threads), buffers)?;
    Ok(data)
}

/// Whether two values are equal within `relative` of the larger, or `absolute`; NaN equals NaN.
pub fn close(a: f64, b: f64, relative: f64, absolute: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute.max(relative * a.abs().max(b.abs()))
}

/// Evaluates `code` for one element with every float operation in f64, rounded to the register's type.
pub fn interpret(
    code: &[Instr],
    index: &[usize],
    load: impl Fn(usize) -> (DType, Value),
    reduced: &[(DType, Value)],
) -> Vec<(DType, Value)> {
    let mut regs: Vec<(DType, Value)> = Vec::new();
    for instr in code {
        let (dtype, value) = match *instr {
            Instr::Load(i) => load(i),
            Instr::Reduced(i) => reduced[i],
            Instr::Const(literal) => (
                literal.dtype(),
                match literal {
                    Literal::Bool(x) => Value::Int(i64::from(x)),
                    Literal::U8(x) => Value::Int(i64::from(x)),
                    Literal::I32(x) => Value::Int(i64::from(x)),
                    Literal::I64(x) => Value::Int(x),
                    Literal::BF16(x) => Value::Float(x.to_f64()),
                    Literal::F32(x) => Value::Float(f64::from(x)),
                    Literal::F64(x) => Value::Float(x),
                },
            ),
            Instr::Iota { dim, dtype } => (dtype, Value::Int(index[dim] as i64)),
            Instr::Unary(op, a) => {
                let (t, v) = regs[a];
                (if op == UnaryOp::IsFinite { DType::Bool } else { t }, unary(op, v))
            }
            Instr::Binary(op, a, b) => (regs[a].0, binary(op, regs[a].1, regs[b].1)),
            Instr::Compare(op, a, b) => (DType::Bool, compare(op, regs[a].1, regs[b].1)),
            Instr::Select(c, a, b) => (regs[a].0, if regs[c].1.int() != 0 { regs[a].1 } else { regs[b].1 }),
            // A cast rounds once; arithmetic on bf16 is done in f32, and then rounded again.
            Instr::Cast(a, DType::BF16) => {
                (DType::BF16, Value::Float(<bf16 as Element>::from_f64(regs[a].1.float()).to_f64()))
            }
            Instr::Cast(a, to) => (to, regs[a].1),
        };
        regs.push((dtype, round(dtype, value)));
    }
    regs
}

fn unary(op: UnaryOp, v: Value) -> Value {
    match v {
        Value::Int(x) => Value::Int(match op {
            UnaryOp::Neg => x.wrapping_neg(),
            UnaryOp::Abs => x.wrapping_abs(),
            UnaryOp::Sign => x.signum(),
            UnaryOp::Not => i64::from(x == 0),
            UnaryOp::IsFinite => 1,
            _ => panic!("{op:?} of an integer"),
        }),
        Value::Float(x) => Value::Float(match op {
            UnaryOp::Neg => -x,
            UnaryOp::Abs => x.abs(),
            UnaryOp::Exp => libm::exp(x),
            UnaryOp::Log => libm::log(x),
            UnaryOp::Sqrt => x.sqrt(),
            UnaryOp::Rsqrt => 1.0 / x.sqrt(),
            UnaryOp::Tanh => libm::tanh(x),
            UnaryOp::Erf => libm::erf(x),
            UnaryOp::Floor => x.floor(),
            UnaryOp::Ceil => x.ceil(),
            UnaryOp::Round => x.round_ties_even(),
            UnaryOp::Sign if x == 0.0 || x.is_nan() => x,
            UnaryOp::Sign => x.signum(),
            UnaryOp::Sin => libm::sin(x),
            UnaryOp::Cos => libm::cos(x),
            UnaryOp::IsFinite => f64::from(u8::from(x.is_finite())),
            UnaryOp::Not => panic!("not of a float"),
        }),
    }
}

pub fn binary(op: BinaryOp, a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => Value::Int(match op {
            BinaryOp::Add => x.wrapping_add(y),
            BinaryOp::Sub => x.wrapping_sub(y),
            BinaryOp::Mul => x.wrapping_mul(y),
            BinaryOp::Div => x.checked_div(y).unwrap_or(0),
            BinaryOp::Rem => x.checked_rem(y).unwrap_or(0),
            BinaryOp::Max => x.max(y),
            BinaryOp::Min => x.min(y),
            BinaryOp::And => x & y,
            BinaryOp::Or => x | y,
            BinaryOp::Pow if y >= 0 => (0..63).rev().fold(1i64, |p, bit| {
                let square = p.wrapping_mul(p);
                if y >> bit & 1 == 1 { square.wrapping_mul(x) } else { square }
            }),
            BinaryOp::Pow if x == 1 => 1,
            BinaryOp::Pow if x == -1 => 1 - 2 * (y & 1),
            BinaryOp::Pow => 0,
        }),
        _ => {
            let (x, y) = (a.float(), b.float());
            Value::Float(match op {
                BinaryOp::Add => x + y,
                BinaryOp::Sub => x - y,
                BinaryOp::Mul => x * y,
                BinaryOp::Div => x / y,
                BinaryOp::Rem => x % y,
                BinaryOp::Max if x.is_nan() || y.is_nan() => f64::NAN,
                BinaryOp::Max => x.max(y),
                BinaryOp::Min if x.is_nan() || y.is_nan() => f64::NAN,
                BinaryOp::Min => x.min(y),
                BinaryOp::Pow => libm::pow(x, y),
                BinaryOp::And | BinaryOp::Or => panic!("{op:?} of floats"),
            })
        }
    }
}

fn compare(op: CompareOp, a: Value, b: Value) -> Value {
    let (x, y) = (a.float(), b.float());
    Value::Int(i64::from(match op {
        CompareOp::Eq => x == y,
        CompareOp::Ne => x != y,
        CompareOp::Lt => x < y,
        CompareOp::Le => x <= y,
        CompareOp::Gt => x > y,
        CompareOp::Ge => x >= y,
    }))
}
