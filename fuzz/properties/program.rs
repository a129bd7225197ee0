//! Makes a graph of any bytes: each few bytes choose an op, its attributes and its operands among the values there
//! are, and what does not fit is left out. So fuzzing meets graphs that verify, which random text hardly ever is.

use outgrow_ir::ops::conv2d::Conv2d;
use outgrow_ir::{
    Attr, AttrReader, Builder, Dim, Graph, InputRole, Op, OutputRole, Symbol, TensorType, Value,
};
use outgrow_tensor::DType;

/// A graph has at most this many nodes besides its inputs.
const NODES_MAX: usize = 40;

struct Program<'a> {
    bytes: &'a [u8],
    b: Builder,
    values: Vec<Value>,
    /// The type that most of it is of.
    float: DType,
}

/// The graph that these bytes spell. Its outputs are the last values, and `loss`, a float scalar, where one is a float.
pub fn graph(data: &[u8]) -> Graph {
    // By the length, so that no byte means something else than before.
    let float = if data.len() % 3 == 2 { DType::BF16 } else { DType::F32 };
    let mut program = Program { bytes: data, b: Builder::new("program"), values: Vec::new(), float };
    program.inputs();
    while !program.bytes.is_empty() && program.b.graph().nodes.len() < NODES_MAX {
        program.node();
    }
    let last: Vec<Value> = program.values.iter().rev().take(3).copied().collect();
    let Program { mut b, .. } = program;
    for (i, value) in last.iter().enumerate() {
        b.output(&format!("y{i}"), *value);
    }
    if let Some(value) = last.iter().find(|v| b.dtype(**v).is_float()) {
        let loss = b.sum_all(*value);
        b.output_as("loss", OutputRole::Loss, loss);
    }
    b.finish().unwrap_or_else(|found| panic!("only what fits is built: {found}"))
}

impl Program<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        usize::from(*first)
    }

    fn below(&mut self, n: usize) -> usize {
        self.byte() % n.max(1)
    }

    fn dtype(&mut self) -> DType {
        // Mostly f32, in which models compute, or bf16.
        match self.byte() {
            n @ 0..=34 => DType::ALL[n % 7],
            _ => self.float,
        }
    }

    fn dim(&mut self) -> Dim {
        match self.byte() {
            // Longer than a vector, than a tile, than a block.
            n @ 0..=5 => Dim::Fixed([17, 33, 65, 40, 129, 260][n]),
            n if n % 8 == 6 => Dim::B,
            n if n % 8 == 7 => Dim::multiple(2, Symbol::BATCH.into()),
            n => Dim::Fixed(n % 8),
        }
    }

    fn dims(&mut self) -> Vec<Dim> {
        (0..self.below(5)).map(|_| self.dim()).collect()
    }

    fn inputs(&mut self) {
        let kinds = [InputRole::Param, InputRole::Param, InputRole::Data];
        // Windows need operands that no two random shapes would be.
        let images = self.byte() < 40;
        for (i, kind) in kinds.into_iter().enumerate() {
            let dims = if images { self.image(i) } else { self.dims() };
            let ty = TensorType { dtype: self.dtype(), dims };
            let value = self.b.input(&format!("x{i}"), kind, ty);
            self.values.push(value);
        }
        let key = self.b.input("key", InputRole::Key, TensorType::scalar(DType::I64));
        self.values.push(key);
    }

    /// A kernel, another one, or an image for both.
    fn image(&mut self, i: usize) -> Vec<Dim> {
        let (channels, side) = (Dim::Fixed(2), [1, 2, 3, 3][self.below(4)]);
        let dims = [Dim::Fixed(2 * (1 + self.below(3))), channels, Dim::Fixed(side), Dim::Fixed(side)];
        let image = [self.dim(), channels, Dim::Fixed(3 + self.below(5)), Dim::Fixed(3 + self.below(12))];
        if i < 2 { dims.to_vec() } else { image.to_vec() }
    }

    /// One of the values, mostly one of the last.
    fn operand(&mut self) -> Value {
        let n = self.values.len();
        let back = self.below(2 * n);
        self.values[n - 1 - if back < n { back } else { (back - n) % 3.min(n) }]
    }

    /// Adds one node, if the bytes give one that fits.
    fn node(&mut self) {
        let name = Op::NAMES[self.below(Op::NAMES.len())];
        let x = self.first(name);
        let ty = self.b.ty(x).clone();
        let attrs = self.attrs(name, &ty);
        let Ok(op) = Op::parse(name, AttrReader::new(attrs)) else { return };
        let mut inputs = match name {
            "input" | "constant" | "iota" => Vec::new(),
            _ => vec![x],
        };
        let wanted = if name == "concat" { 1 + self.below(3) } else { 0 };
        // Further operands: mostly such as complete the op, where there are any.
        loop {
            let infer = |more: &[Value]| {
                let types: Vec<_> = inputs.iter().chain(more).map(|v| self.b.ty(*v)).collect();
                op.rule().infer(&types).ok().filter(|ty| ty.unit_elements() < 3000)
            };
            if inputs.len() >= wanted && infer(&[]).is_some() {
                let value = self.b.push(op.clone(), &inputs);
                self.values.push(value);
                return self.backwards(&op, &inputs, value);
            }
            if inputs.is_empty() || inputs.len() == 4 {
                return;
            }
            let fitting: Vec<Value> =
                self.values.iter().filter(|v| infer(&[**v]).is_some()).copied().collect();
            // Attention is of operands of one type only, so that no single one completes it.
            let alike = name.starts_with("attention");
            let like =
                |v: &&Value| if alike { *self.b.ty(**v) == ty } else { self.b.ty(**v).dims == ty.dims };
            let like: Vec<Value> = self.values.iter().filter(like).copied().collect();
            let next = match self.byte() {
                0..=180 if !fitting.is_empty() => fitting[self.below(fitting.len())],
                byte if alike || byte <= 220 => like[self.below(like.len())],
                _ => self.operand(),
            };
            inputs.push(next);
        }
    }

    /// After a convolution of bf16, its gradients as sums in f32: random operands hardly ever fit them.
    fn backwards(&mut self, op: &Op, inputs: &[Value], y: Value) {
        let (Op::Conv2d(conv), [x, weight], DType::BF16) = (op, inputs, self.b.dtype(y)) else { return };
        let conv = Conv2d { result: Some(DType::F32), ..conv.clone() };
        let [image, kernel] = [*x, *weight].map(|v| [2, 3].map(|axis| self.b.fixed_dim(v, axis)));
        let dx = self.b.conv2d_grad_input(y, *weight, conv.clone(), image);
        let dw = self.b.conv2d_grad_weight(*x, y, conv, kernel);
        self.values.extend([dx, dw]);
    }

    /// The first operand: of a kind that the op takes, where there is one.
    fn first(&mut self, name: &str) -> Value {
        let fits = |v: &&Value| {
            let ty = self.b.ty(**v);
            match name {
                "and" | "or" | "not" | "select" => ty.dtype == DType::Bool,
                "scatter_add" => matches!(ty.dtype, DType::I32 | DType::I64),
                "random_uniform" => *ty == TensorType::scalar(DType::I64),
                "conv2d" | "conv2d_grad_input" | "conv2d_grad_weight" | "pool2d" | "max_pool2d_grad" => {
                    ty.rank() == 4
                }
                "attention" | "attention_grad" => ty.rank() == 4 && ty.dtype.is_float(),
                _ => false,
            }
        };
        let fitting: Vec<Value> = self.values.iter().filter(fits).copied().collect();
        if fitting.is_empty() { self.operand() } else { fitting[self.below(fitting.len())] }
    }

    fn attrs(&mut self, name: &str, ty: &TensorType) -> Vec<(String, Attr)> {
        let rank = ty.rank();
        let mut attrs: Vec<(&str, Attr)> = Vec::new();
        match name {
            "constant" => {
                let (dtype, number) = (self.dtype(), self.byte() as f64 / 4.0 - 3.0);
                let tensor = outgrow_tensor::Tensor::from_f64(dtype, [], |_| number);
                attrs.push(("value", Attr::Tensor(tensor.into())));
            }
            "iota" => {
                let dtype = self.dtype().name().into();
                attrs.extend([("dtype", Attr::Name(dtype)), ("dims", Attr::Dims(self.dims()))]);
                attrs.push(("axis", Attr::int(self.below(3))));
            }
            "random_uniform" => {
                attrs.extend([("dims", Attr::Dims(self.dims())), ("stream", Attr::int(self.byte()))]);
            }
            "cast" => attrs.push(("dtype", Attr::Name(self.dtype().name().into()))),
            "compare" => {
                let relation = outgrow_ir::ops::compare::Comparison::ALL[self.below(6)].1;
                attrs.push(("is", Attr::Name(relation.into())));
            }
            "broadcast" => attrs.extend(self.broadcast(ty)),
            "reshape" => attrs.push(("dims", Attr::Dims(self.reshaped(ty)))),
            "transpose" => {
                let turn = self.below(rank);
                let mut axes: Vec<usize> = (0..rank).map(|i| (i + turn) % rank).collect();
                if rank > 1 && self.byte() < 128 {
                    axes.swap(0, 1);
                }
                attrs.push(("axes", Attr::list(&axes)));
            }
            "attention" | "attention_grad" => attrs.push(("causal", Attr::flag(self.below(2) == 1))),
            "slice" | "pad" | "concat" | "reverse" | "arg_max" => attrs.extend(self.along_axis(name, ty)),
            "reduce_sum" | "reduce_max" => {
                let chosen = self.byte();
                let axes: Vec<usize> = (0..rank).filter(|i| chosen >> i & 1 == 1).collect();
                attrs.push(("axes", Attr::list(&axes)));
            }
            "scatter_add" => attrs.push(("rows", Attr::Dims(vec![self.dim()]))),
            "dot" => {
                for key in ["lhs_batch", "rhs_batch", "lhs_contract", "rhs_contract"] {
                    let axes: Vec<usize> = (0..[0, 1, 1, 2][self.below(4)]).map(|_| self.below(4)).collect();
                    attrs.push((key, Attr::list(&axes)));
                }
                attrs.extend(self.sums(ty));
            }
            _ => attrs.extend(self.window(name, ty)),
        }
        attrs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Where sums of products may have another type than their operands, that type for half of them.
    fn sums(&mut self, ty: &TensorType) -> Option<(&'static str, Attr)> {
        (ty.dtype == DType::BF16 && self.below(2) == 1)
            .then(|| ("result", Attr::Name(DType::F32.name().into())))
    }

    fn broadcast(&mut self, ty: &TensorType) -> [(&'static str, Attr); 2] {
        let (new, at) = (self.dim(), self.below(ty.rank() + 1));
        let mut dims: Vec<Dim> = ty.dims.clone();
        let added = self.byte() < 128;
        if !added {
            dims.iter_mut().filter(|d| **d == Dim::Fixed(1)).for_each(|d| *d = new);
            return [("dims", Attr::Dims(dims)), ("axes", Attr::list(&Vec::from_iter(0..ty.rank())))];
        }
        dims.insert(at, new);
        let axes: Vec<usize> = (0..dims.len()).filter(|i| *i != at).collect();
        [("dims", Attr::Dims(dims)), ("axes", Attr::list(&axes))]
    }

    fn reshaped(&mut self, ty: &TensorType) -> Vec<Dim> {
        let mut dims = ty.dims.clone();
        match self.below(4) {
            0 => dims.insert(self.below(dims.len() + 1), Dim::Fixed(1)),
            1 => dims.retain(|d| *d != Dim::Fixed(1)),
            2 => dims.reverse(),
            _ => {
                let product = dims.iter().try_fold(Dim::Fixed(1), |product, d| product.times(*d));
                dims = product.into_iter().collect();
            }
        }
        dims
    }

    fn along_axis(&mut self, name: &str, ty: &TensorType) -> Vec<(&'static str, Attr)> {
        let axis = self.below(ty.rank());
        let mut attrs = vec![("axis", Attr::int(axis))];
        let extent = ty.dims.get(axis).map_or(0, |d| d.unit());
        match name {
            "slice" => {
                let start = self.below(extent + 1);
                let end = start + self.below(extent - start + 1);
                attrs.extend([("start", Attr::int(start)), ("end", Attr::int(end))]);
                attrs.push(("stride", Attr::int(1 + self.below(3))));
            }
            "pad" => {
                for key in ["low", "high", "interior"] {
                    attrs.push((key, Attr::int(self.below(3))));
                }
                attrs.push(("value", Attr::Float(self.below(3) as f64 - 1.0)));
            }
            _ => {}
        }
        attrs
    }

    /// The attributes of convolutions and pooling; none for ops without attributes.
    fn window(&mut self, name: &str, ty: &TensorType) -> Vec<(&'static str, Attr)> {
        let mut attrs = Vec::new();
        let pool = matches!(name, "pool2d" | "max_pool2d_grad");
        if !pool && !name.starts_with("conv2d") {
            return attrs;
        }
        let mut list =
            |n: usize, low: usize| Attr::list(&Vec::from_iter((0..n).map(|_| low + self.below(3))));
        attrs.extend([("strides", list(2, 1)), ("padding", list(4, 0))]);
        match name {
            "conv2d_grad_input" => attrs.push(("image", list(2, 1))),
            "conv2d_grad_weight" => attrs.push(("kernel", list(2, 1))),
            _ if pool => attrs.push(("size", list(2, 1))),
            _ => {}
        }
        attrs.push(("dilation", if pool { Attr::list(&[1, 1]) } else { list(2, 1) }));
        if name == "pool2d" {
            attrs.push(("kind", Attr::Name(["max", "sum"][self.below(2)].into())));
        }
        if !pool {
            attrs.push(("groups", Attr::int(1 + self.below(2))));
            attrs.extend(self.sums(ty));
        }
        attrs
    }
}
