//! The kernels that a machine is judged by: those that training and inference spend their time in, and those that move
//! data only.

use outgrow_ir::ops::Window;
use outgrow_ir::{Builder, Graph, InputRole, TensorType, Value};
use outgrow_tensor::DType;

/// A graph with one kernel, or a few.
pub struct Work {
    /// What it does, with its extents.
    pub name: &'static str,
    /// With static shapes and small inputs.
    pub graph: Graph,
}

/// The types and extents of a work's inputs.
type Inputs = &'static [(DType, &'static [usize])];
/// How a work is built of its inputs.
type Build = fn(&mut Builder, &[Value]) -> Value;

const F32: DType = DType::F32;
const BF16: DType = DType::BF16;
const HEADS: (DType, &[usize]) = (F32, &[16, 128, 4, 64]);

/// All of them.
pub fn works() -> Vec<Work> {
    let table: [(&'static str, Inputs, Build); 26] = [
        ("product 1024 x 1024 x 1024", &[(F32, &[1024, 1024]), (F32, &[1024, 1024])], product),
        ("product 2048 x 2048 x 2048", &[(F32, &[2048, 2048]), (F32, &[2048, 2048])], product),
        ("product 1024 x 1024 x 1024, bf16", &[(BF16, &[1024, 1024]), (BF16, &[1024, 1024])], product),
        ("product 2048 x 2048 x 2048, bf16", &[(BF16, &[2048, 2048]), (BF16, &[2048, 2048])], product),
        ("product 128 x 784 x 512", &[(F32, &[128, 784]), (F32, &[784, 512])], product),
        ("product 2048 x 256 x 1024", &[(F32, &[2048, 256]), (F32, &[256, 1024])], product),
        ("product 1 x 4096 x 4096", &[(F32, &[1, 4096]), (F32, &[4096, 4096])], product),
        (
            "convolution 3x3, 32 x 64 x 32 x 32",
            &[(F32, &[32, 64, 32, 32]), (F32, &[64, 64, 3, 3])],
            |b, v| b.conv2d(v[0], v[1], Window::new(1, 1), 1),
        ),
        (
            "convolution 3x3, 32 x 512 x 4 x 4",
            &[(F32, &[32, 512, 4, 4]), (F32, &[512, 512, 3, 3])],
            |b, v| b.conv2d(v[0], v[1], Window::new(1, 1), 1),
        ),
        (
            "convolution 3x3 of stride 2, 32 x 64 x 32 x 32",
            &[(F32, &[32, 64, 32, 32]), (F32, &[128, 64, 3, 3])],
            |b, v| b.conv2d(v[0], v[1], Window::new(2, 1), 1),
        ),
        (
            "convolution 1x1, 8 x 256 x 56 x 56",
            &[(F32, &[8, 256, 56, 56]), (F32, &[64, 256, 1, 1])],
            |b, v| b.conv2d(v[0], v[1], Window::new(1, 0), 1),
        ),
        (
            "convolution 3x3 of each channel, 8 x 144 x 56 x 56",
            &[(F32, &[8, 144, 56, 56]), (F32, &[144, 1, 3, 3])],
            |b, v| b.conv2d(v[0], v[1], Window::new(1, 1), 144),
        ),
        (
            "gradient of weights 3x3, 32 x 64 x 32 x 32",
            &[(F32, &[32, 64, 32, 32]), (F32, &[32, 64, 32, 32])],
            |b, v| b.conv2d_grad_weight(v[0], v[1], convolution(), [3, 3]),
        ),
        ("causal attention 16 x 128 x 4 x 64", &[HEADS; 3], |b, v| b.attention(v[0], v[1], v[2], true)),
        ("its gradients", &[HEADS; 4], |b, v| b.attention_grad(v[0], v[1], v[2], v[3], true)),
        ("sum of two, 16 Mi", &[(F32, &[1 << 24]), (F32, &[1 << 24])], |b, v| b.add(v[0], v[1])),
        ("sum of two, 64 Ki", &[(F32, &[1 << 16]), (F32, &[1 << 16])], |b, v| b.add(v[0], v[1])),
        ("gelu, 2048 x 1024", &[(F32, &[2048, 1024])], |b, v| b.gelu_tanh(v[0])),
        ("softmax, 2048 x 1024", &[(F32, &[2048, 1024])], |b, v| b.softmax(v[0])),
        ("layer norm, 2048 x 256", &[(F32, &[2048, 256]), (F32, &[256]), (F32, &[256])], |b, v| {
            b.layer_norm(v[0], v[1], v[2], 1e-5)
        }),
        ("sums of rows, 4096 x 4096", &[(F32, &[4096, 4096])], |b, v| b.reduce_sum(v[0], &[1])),
        ("sums of columns, 4096 x 4096", &[(F32, &[4096, 4096])], |b, v| b.reduce_sum(v[0], &[0])),
        ("transpose, 4096 x 4096", &[(F32, &[4096, 4096])], |b, v| b.transpose(v[0], &[1, 0])),
        ("maxima 2x2, 32 x 64 x 32 x 32", &[(F32, &[32, 64, 32, 32])], |b, v| {
            b.max_pool(v[0], [2, 2], Window::new(2, 0))
        }),
        ("rows by index, 65536 of 256", &[(F32, &[1024, 256]), (DType::I32, &[65536])], |b, v| {
            b.gather(v[0], v[1])
        }),
        ("random numbers, 16 Mi", &[(DType::I64, &[])], |b, v| {
            b.random_uniform(v[0], &[outgrow_ir::Dim::Fixed(1 << 24)], 0)
        }),
    ];
    table.into_iter().map(|(name, inputs, build)| Work { name, graph: graph(inputs, build) }).collect()
}

fn product(b: &mut Builder, v: &[Value]) -> Value {
    b.dot_as(F32, v[0], v[1], (&[], &[]), (&[1], &[0]))
}

/// Of 3x3, with padding.
fn convolution() -> outgrow_ir::ops::conv2d::Conv2d {
    outgrow_ir::ops::conv2d::Conv2d { window: Window::new(1, 1), groups: 1, result: None }
}

fn graph(inputs: Inputs, build: Build) -> Graph {
    let mut b = Builder::new("work");
    let input = |(i, (dtype, dims)): (usize, &(DType, &[usize]))| {
        let ty = TensorType::new(*dtype, dims.iter().copied());
        b.input(&i.to_string(), InputRole::Data, ty)
    };
    let values: Vec<Value> = inputs.iter().enumerate().map(input).collect();
    let y = build(&mut b, &values);
    b.output("y", y);
    b.finish().expect("invariant: the works are valid graphs")
}
