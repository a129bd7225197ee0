//! Every composite against its formula written by hand in f64, its derivative against central differences, its region,
//! and its text form; then the points where formulas break: large numbers, kinks, padding.

mod formulas;

use super::{Attention, LayerNorm};
use crate::ops::{SampleInput, Vjp, Window};
use crate::{Builder, Dim, Graph, InputRole, TensorType, Value, interpret};
use formulas as f;
use outgrow_tensor::{DType, RngKey, Tensor};

/// A composite, the inputs it is tested on, and what it must give.
struct Case {
    kind: &'static str,
    inputs: Vec<SampleInput>,
    build: fn(&mut Builder, &[Value]) -> Value,
    formula: fn(&[Tensor]) -> Vec<f64>,
}

fn case(
    kind: &'static str,
    inputs: &[SampleInput],
    build: fn(&mut Builder, &[Value]) -> Value,
    formula: fn(&[Tensor]) -> Vec<f64>,
) -> Case {
    Case { kind, inputs: inputs.to_vec(), build, formula }
}

fn x(dims: &[usize]) -> SampleInput {
    SampleInput::float(dims)
}

/// Sample weights of 0 or 1.
fn sample_weights(n: usize) -> SampleInput {
    SampleInput::new(DType::I32, &[n], 0.0, 2.0)
}

fn activations() -> Vec<Case> {
    let at = [x(&[3, 7])];
    vec![
        case("relu", &at, |b, v| b.relu(v[0]), |v| f::map(v, |x| if x > 0.0 { x } else { 0.0 })),
        case(
            "leaky_relu",
            &at,
            |b, v| b.leaky_relu(v[0], 0.1),
            |v| f::map(v, |x| if x > 0.0 { x } else { 0.1 * x }),
        ),
        case("sigmoid", &at, |b, v| b.sigmoid(v[0]), |v| f::map(v, f::sigmoid)),
        case("silu", &at, |b, v| b.silu(v[0]), |v| f::map(v, |x| x * f::sigmoid(x))),
        case(
            "gelu",
            &at,
            |b, v| b.gelu(v[0]),
            |v| f::map(v, |x| x * (1.0 + libm::erf(x / 2f64.sqrt())) / 2.0),
        ),
        case("gelu_tanh", &at, |b, v| b.gelu_tanh(v[0]), |v| f::map(v, f::gelu_tanh)),
        case("selu", &at, |b, v| b.selu(v[0]), |v| f::map(v, f::selu)),
        case("mish", &at, |b, v| b.mish(v[0]), |v| f::map(v, f::mish)),
        case("softplus", &at, |b, v| b.softplus(v[0]), |v| f::map(v, |x| (1.0 + x.exp()).ln())),
    ]
}

fn layers() -> Vec<Case> {
    let image = x(&[2, 4, 5, 6]);
    vec![
        case("dense", &[x(&[3, 4]), x(&[5, 4]), x(&[5])], |b, v| b.dense(v[0], v[1], Some(v[2])), f::dense),
        case("dense", &[x(&[2, 3, 4]), x(&[5, 4])], |b, v| b.dense(v[0], v[1], None), f::dense),
        case(
            "conv2d_bias",
            &[image.clone(), x(&[6, 2, 3, 3]), x(&[6])],
            |b, v| b.conv2d_bias(v[0], v[1], v[2], Window::new(2, 1), 2),
            |v| f::conv(v, 2, 1, 2),
        ),
        case(
            "max_pool",
            std::slice::from_ref(&image),
            |b, v| b.max_pool(v[0], [3, 2], Window::new(2, 1)),
            |v| f::pool(&v[0], [3, 2], 2, 1, f64::NEG_INFINITY, f64::max),
        ),
        case(
            "avg_pool",
            std::slice::from_ref(&image),
            |b, v| b.avg_pool(v[0], [3, 2], Window::new(2, 1)),
            |v| f::pool(&v[0], [3, 2], 2, 1, 0.0, |s, x| s + x / 6.0),
        ),
        case(
            "global_avg_pool",
            &[image],
            |b, v| b.global_avg_pool(v[0]),
            |v| f::rows(&v[0], 30, |row| vec![row.iter().sum::<f64>() / 30.0]),
        ),
        case(
            "embedding",
            &[x(&[5, 3]), SampleInput::index(&[2, 4], 5)],
            |b, v| b.embedding(v[0], v[1]),
            |v| (0..24).map(|i| v[0].get_f64(v[1].get_i64(i / 3) as usize * 3 + i % 3)).collect(),
        ),
        case(
            "residual",
            &[x(&[3, 4]), x(&[3, 4])],
            |b, v| b.residual(v[0], v[1]),
            |v| (0..12).map(|i| v[0].get_f64(i) + v[1].get_f64(i)).collect(),
        ),
        case(
            "attention",
            &[x(&[2, 5, 6]), x(&[2, 5, 6]), x(&[2, 5, 6])],
            |b, v| b.causal_attention(v[0], v[1], v[2], 2),
            |v| f::attention(v, 2),
        ),
        case(
            "dropout",
            &[x(&[9, 5]), SampleInput::new(DType::I64, &[], 0.0, 1e9)],
            |b, v| b.dropout(v[0], 0.3, v[1], 4),
            |v| f::dropout(v, 0.3, 4),
        ),
    ]
}

fn normalisations() -> Vec<Case> {
    let affine = [x(&[4, 7]), x(&[7]), x(&[7])];
    let batch = [x(&[6, 3, 2, 2]), x(&[3]), x(&[3]), sample_weights(6)];
    fn trained(b: &mut Builder, v: &[Value]) -> super::BatchNormTrained {
        let weights = b.cast(v[3], b.dtype(v[0]));
        b.batch_norm_train(v[0], v[1], v[2], weights, 1e-3)
    }
    vec![
        case("softmax", &[x(&[3, 7])], |b, v| b.softmax(v[0]), |v| f::rows(&v[0], 7, f::softmax)),
        case(
            "log_softmax",
            &[x(&[2, 3, 7])],
            |b, v| b.log_softmax(v[0]),
            |v| f::rows(&v[0], 7, |row| f::softmax(row).iter().map(|p| p.ln()).collect()),
        ),
        case("layer_norm", &affine, |b, v| b.layer_norm(v[0], v[1], v[2], 1e-3), |v| f::layer_norm(v, 1e-3)),
        case("rms_norm", &affine[..2], |b, v| b.rms_norm(v[0], v[1], 1e-3), |v| f::rms_norm(v, 1e-3)),
        case("batch_norm", &batch, |b, v| trained(b, v).y, |v| f::batch_norm(v, 1e-3).0),
        case("batch_norm", &batch, |b, v| trained(b, v).statistics.mean, |v| f::batch_norm(v, 1e-3).1),
        case("batch_norm", &batch, |b, v| trained(b, v).statistics.variance, |v| f::batch_norm(v, 1e-3).2),
        case(
            "batch_norm",
            &[x(&[6, 3]), x(&[3]), x(&[3]), sample_weights(6)],
            |b, v| trained(b, v).y,
            |v| f::batch_norm(v, 1e-3).0,
        ),
        case(
            "batch_norm",
            &[x(&[2, 3, 4]), x(&[3]), x(&[3]), x(&[3]), SampleInput::positive(&[3])],
            |b, v| {
                let statistics = super::BatchNormStatistics { mean: v[3], variance: v[4] };
                b.batch_norm_eval(v[0], v[1], v[2], statistics, 1e-3)
            },
            |v| f::per_channel(v, |x, w, c| (x - w[2][c]) / (w[3][c] + 1e-3).sqrt() * w[0][c] + w[1][c]),
        ),
    ]
}

fn losses() -> Vec<Case> {
    vec![
        case(
            "cross_entropy",
            &[x(&[4, 6]), SampleInput::index(&[4], 6)],
            |b, v| b.cross_entropy(v[0], v[1]),
            |v| f::cross_entropy(v, 6),
        ),
        case(
            "cross_entropy",
            &[x(&[2, 3, 6]), SampleInput::index(&[2, 3], 6)],
            |b, v| b.cross_entropy(v[0], v[1]),
            |v| f::cross_entropy(v, 6),
        ),
        case(
            "soft_cross_entropy",
            &[x(&[4, 6]), SampleInput::new(DType::F32, &[4, 6], 0.0, 0.3)],
            |b, v| b.soft_cross_entropy(v[0], v[1]),
            |v| f::soft_cross_entropy(v, 6),
        ),
        case(
            "binary_cross_entropy",
            &[x(&[9]), SampleInput::new(DType::F32, &[9], 0.0, 1.0)],
            |b, v| b.binary_cross_entropy(v[0], v[1]),
            |v| {
                let loss = |i| {
                    let (p, y) = (f::sigmoid(v[0].get_f64(i)), v[1].get_f64(i));
                    -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
                };
                (0..9).map(loss).collect()
            },
        ),
        case(
            "mean_squared_error",
            &[x(&[4, 3]), x(&[4, 3])],
            |b, v| b.mean_squared_error(v[0], v[1]),
            |v| {
                let square = |i: usize| (v[0].get_f64(i) - v[1].get_f64(i)).powi(2);
                (0..4).map(|i| (0..3).map(|j| square(3 * i + j)).sum::<f64>() / 3.0).collect()
            },
        ),
        case(
            "mean_absolute_error",
            &[x(&[4, 3]), x(&[4, 3])],
            |b, v| b.mean_absolute_error(v[0], v[1]),
            |v| f::mean_of_differences(v, 3, f64::abs),
        ),
        case(
            "huber",
            &[x(&[6, 3]), x(&[6, 3])],
            |b, v| b.huber(v[0], v[1], 0.7),
            |v| f::mean_of_differences(v, 3, |d| f::huber(d, 0.7)),
        ),
        case(
            "focal_loss",
            &[x(&[4, 6]), SampleInput::index(&[4], 6)],
            |b, v| b.focal_loss(v[0], v[1], 2.0),
            |v| f::focal_loss(v, 6, 2.0),
        ),
        case(
            "focal_loss",
            &[x(&[2, 3, 6]), SampleInput::index(&[2, 3], 6)],
            |b, v| b.focal_loss(v[0], v[1], 0.5),
            |v| f::focal_loss(v, 6, 0.5),
        ),
    ]
}

fn cases() -> Vec<Case> {
    [activations(), layers(), normalisations(), losses()].into_iter().flatten().collect()
}

impl Case {
    /// The graph of this composite with one output `y`, every float of type `dtype`.
    fn graph(&self, dtype: DType) -> Graph {
        let mut b = Builder::new(self.kind);
        let values: Vec<Value> = (0..self.inputs.len())
            .map(|i| {
                let input = self.input(i, dtype);
                let ty = TensorType::new(input.dtype, input.dims.iter().copied());
                b.input(&format!("x{i}"), InputRole::Data, ty)
            })
            .collect();
        let y = (self.build)(&mut b, &values);
        b.output("y", y);
        b.finish().unwrap_or_else(|e| panic!("{}: {e}", self.kind))
    }

    fn input(&self, i: usize, dtype: DType) -> SampleInput {
        let input = self.inputs[i].clone();
        if input.dtype.is_float() { SampleInput { dtype, ..input } } else { input }
    }

    fn values(&self, dtype: DType) -> Vec<Tensor> {
        (0..self.inputs.len())
            .map(|i| self.input(i, dtype).values(RngKey::new(5).fold_in(i as u64)))
            .collect()
    }
}

/// The gradient by every value of `graph` when `grad` flows into `y`, by going through the nodes backwards.
fn backwards(b: &mut Builder, graph: &Graph, y: Value, grad: Value) -> Vec<Option<Value>> {
    let mut grads: Vec<Option<Value>> = vec![None; graph.nodes.len()];
    grads[y.index()] = Some(grad);
    for (value, node) in graph.iter().rev() {
        let Some(grad) = grads[value.index()] else { continue };
        let flows = node.op.rule().vjp(&mut Vjp { b, inputs: &node.inputs, output: value, grad });
        for (input, flow) in node.inputs.iter().zip(flows) {
            let Some(flow) = flow else { continue };
            grads[input.index()] = Some(match grads[input.index()] {
                Some(before) => b.add(before, flow),
                None => flow,
            });
        }
    }
    grads
}

/// The graph with `sum(y * weights)` and its gradients by every float input.
fn with_gradients(graph: &Graph) -> Graph {
    let mut b = Builder::extend(Graph { outputs: Vec::new(), ..graph.clone() });
    let y = graph.outputs[0].value;
    let weights = SampleInput { dtype: b.dtype(y), ..x(&b.ty(y).static_shape().unwrap()) };
    let weights = b.constant(weights.values(RngKey::new(9)));
    let product = b.mul(y, weights);
    let sum = b.sum_all(product);
    b.output("sum", sum);
    let grads = backwards(&mut b, graph, y, weights);
    for (i, input) in graph.inputs.iter().enumerate() {
        if let Some(grad) = grads[input.index()] {
            b.output(&i.to_string(), grad);
        }
    }
    b.finish().unwrap()
}

#[test]
fn values_are_the_formulas() {
    for case in cases() {
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 3e-6), (DType::BF16, 0.06)] {
            let (graph, values) = (case.graph(dtype), case.values(dtype));
            let got = interpret(&graph, &values).unwrap().remove(0);
            let expected = (case.formula)(&values);
            assert_eq!(got.elements(), expected.len(), "{}", case.kind);
            for (i, expected) in expected.iter().enumerate() {
                let (got, scale) = (got.get_f64(i), 1.0 + expected.abs());
                let close = (got - expected).abs() <= tolerance * scale;
                assert!(close, "{} in {dtype}: element {i} is {got}, expected {expected}", case.kind);
            }
        }
    }
}

#[test]
fn derivatives_agree_with_central_differences() {
    for case in cases() {
        let (graph, inputs) = (with_gradients(&case.graph(DType::F64)), case.values(DType::F64));
        graph.verify().unwrap();
        let outputs = interpret(&graph, &inputs).unwrap();
        let sum = |inputs: &[Tensor]| interpret(&graph, inputs).unwrap()[0].get_f64(0);
        let mut nonzero = 0;
        for i in (0..inputs.len()).filter(|i| inputs[*i].dtype() == DType::F64) {
            let place = graph.outputs.iter().position(|o| o.name == i.to_string());
            for j in 0..inputs[i].elements().min(40) {
                let step = 1e-5;
                let moved = |by: f64| {
                    let mut moved = inputs.clone();
                    moved[i].as_mut_slice::<f64>().unwrap()[j] += by;
                    sum(&moved)
                };
                let expected = (moved(step) - moved(-step)) / (2.0 * step);
                let got = place.map_or(0.0, |p| outputs[p].get_f64(j));
                let close = (got - expected).abs() <= 1e-7 * (1.0 + expected.abs());
                assert!(close, "{}: d/dx{i}[{j}] is {got}, differences give {expected}", case.kind);
                nonzero += usize::from(got != 0.0);
            }
        }
        assert!(nonzero > 0, "{}: no gradient flows at all", case.kind);
    }
}

#[test]
fn composites_are_regions_and_print_and_parse_back() {
    for case in cases() {
        let graph = case.graph(DType::F32);
        graph.verify().unwrap();
        let kinds: Vec<_> = graph.regions.iter().map(|r| r.kind.as_str()).collect();
        assert!(kinds.contains(&case.kind), "{}: regions {kinds:?}", case.kind);
        let outside = graph.iter().filter(|(_, n)| n.region.is_none() && !graph.inputs.is_empty());
        let outside: Vec<_> = outside.map(|(_, n)| n.op.rule().name()).collect();
        assert!(
            outside.iter().all(|op| ["input", "cast"].contains(op)),
            "{}: outside: {outside:?}",
            case.kind
        );
        let text = graph.to_string();
        assert_eq!(Graph::parse(&text).unwrap_or_else(|e| panic!("{text}\n{e}")), graph, "{text}");
    }
}

/// What a backend that runs a composite whole goes by: its operands are what it is built from, in that order, and
/// what the formula above gives of them is a result of it.
#[test]
fn regions_say_what_is_made_of_what() {
    for case in cases() {
        let graph = case.graph(DType::F64);
        let region = graph.regions.iter().find(|r| r.kind == case.kind && r.parent.is_none()).unwrap();
        let cast = |value: Value| match graph.node(value).op {
            crate::Op::Cast(_) => graph.node(value).inputs[0],
            _ => value,
        };
        let operands: Vec<Value> = region.operands.iter().map(|v| cast(*v)).collect();
        let made: Vec<Value> = graph.outputs.iter().map(|output| cast(output.value)).collect();
        assert_eq!(operands, graph.inputs, "{}\n{graph}", case.kind);
        let result = region.results.iter().any(|v| made.contains(v));
        assert!(result, "{}\n{graph}", case.kind);
    }
}

/// However its operands come, and whether it is one op or several.
#[test]
fn attention_is_the_same_by_products() {
    for causal in [true, false] {
        let mut b = Builder::new("g");
        let qkv = b.input("qkv", InputRole::Data, TensorType::new(DType::F64, [2usize, 5, 18]));
        let all = b.reshape(qkv, &[2, 5, 6, 3].map(Dim::Fixed));
        let [q, k, v] = [0, 1, 2].map(|i| b.slice(all, 2, 2 * i, 2 * i + 2));
        let ys = [b.attention(q, k, v, causal), b.attention_by_products(q, k, v, causal)];
        let mut ys = ys.map(|y| b.reshape(y, &[2, 5, 6].map(Dim::Fixed))).to_vec();
        if causal {
            let [q, k, v] = [0, 1, 2].map(|i| b.slice(qkv, 2, 6 * i, 6 * i + 6));
            ys.extend([b.causal_attention(q, k, v, 2), b.causal_self_attention(qkv, 2)]);
        }
        ys.iter().enumerate().for_each(|(i, y)| b.output(&i.to_string(), *y));
        let input = x(&[2, 5, 18]).values(RngKey::new(8));
        let input = Tensor::from_f64(DType::F64, [2, 5, 18], |i| input.get_f64(i));
        let outputs = interpret(&b.finish().unwrap(), &[input]).unwrap();
        for y in &outputs[1..] {
            for i in 0..y.elements() {
                assert!((y.get_f64(i) - outputs[0].get_f64(i)).abs() < 1e-12, "{i}, causal: {causal}");
            }
        }
    }
}

#[test]
fn attributes_are_read_back_and_checked() {
    let mut b = Builder::new("g");
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [2usize, 3, 8]));
    let weight = b.param("weight", DType::F32, &[8]);
    let y = b.causal_attention(x, x, x, 4);
    let y = b.layer_norm(y, weight, weight, 1e-3);
    b.output("y", y);
    let graph = b.finish().unwrap();
    let (attention, region) = graph.composites::<Attention>().next().unwrap();
    assert_eq!((attention, &region.operands), (Attention { heads: 4, causal: true }, &vec![x; 3]));
    let (norm, region) = graph.composites::<LayerNorm>().next().unwrap();
    assert_eq!((norm, &region.results), (LayerNorm { eps: 1e-3 }, &vec![y]));
    let text = graph.to_string();
    assert!(text.contains("= \"attention\" {heads = 4, causal = true} (%0, %0, %0) => (%"), "{text}");
    for (from, to, expected) in [
        ("heads = 4, ", "", "attribute `heads` is missing"),
        ("causal = true", "causal = maybe", "attribute `causal` must be true or false, got `maybe`"),
        ("causal = true", "causal = true, depth = 2", "unknown attribute `depth`"),
        ("(%0, %0, %0) =>", "(%0, %0, %9999) =>", "is of a value that does not exist"),
    ] {
        let found = Graph::parse(&text.replace(from, to)).unwrap_err().to_string();
        assert!(found.contains(expected), "{found}");
    }
}

/// Evaluates a composite on f32 vectors, and its gradient by the first.
fn at_points(inputs: &[&[f32]], build: fn(&mut Builder, &[Value]) -> Value) -> (Vec<f32>, Vec<f32>) {
    let mut b = Builder::new("points");
    let ty = |v: &[f32]| TensorType::new(DType::F32, [v.len()]);
    let values: Vec<_> = inputs.iter().map(|v| b.input(&format!("{v:?}"), InputRole::Data, ty(v))).collect();
    let y = build(&mut b, &values);
    b.output("y", y);
    let graph = b.finish().unwrap();
    let mut with = Builder::extend(graph.clone());
    let one = with.full(1.0, DType::F32, &with.dims(y));
    let grads = backwards(&mut with, &graph, y, one);
    with.output("grad", grads[0].unwrap());
    let inputs: Vec<_> = inputs.iter().map(|v| Tensor::vector(v.to_vec())).collect();
    let outputs = interpret(&with.finish().unwrap(), &inputs).unwrap();
    let floats = |i: usize| outputs[i].as_slice::<f32>().unwrap().to_vec();
    (floats(0), floats(1))
}

#[test]
fn kinks_have_pytorchs_derivative() {
    assert_eq!(at_points(&[&[-1.0, 0.0, 2.0]], |b, v| b.relu(v[0])).1, [0.0, 0.0, 1.0]);
    assert_eq!(at_points(&[&[-1.0, 0.0, 2.0]], |b, v| b.leaky_relu(v[0], 0.5)).1, [0.5, 0.5, 1.0]);
    assert!(at_points(&[&[f32::NAN]], |b, v| b.relu(v[0])).0[0].is_nan());
    // A logistic model that starts at zero moves only if the slope at 0 is right.
    assert_eq!(at_points(&[&[0.0]], |b, v| b.softplus(v[0])).1, [0.5]);
    assert_eq!(
        at_points(&[&[0.0, 0.0], &[0.0, 1.0]], |b, v| b.binary_cross_entropy(v[0], v[1])).1,
        [0.5, -0.5]
    );
}

/// Differences on both sides of `delta`, at it and at 0: the slopes are PyTorch's.
#[test]
fn losses_of_numbers_have_pytorchs_slopes() {
    let zero: &[f32] = &[0.0];
    for (difference, absolute, huber, slope) in
        [(0.0, 0.0, 0.0, 0.0), (0.25, 0.25, 0.03125, 0.25), (0.5, 0.5, 0.125, 0.5), (-2.0, 2.0, 0.875, -0.5)]
    {
        let (y, grad) = at_points(&[&[difference], zero], |b, v| b.mean_absolute_error(v[0], v[1]));
        assert_eq!(
            (y, grad),
            (vec![absolute], vec![if difference == 0.0 { 0.0 } else { difference.signum() }])
        );
        let (y, grad) = at_points(&[&[difference], zero], |b, v| b.huber(v[0], v[1], 0.5));
        assert_eq!((y, grad), (vec![huber], vec![slope]));
    }
}

/// However sure the model is, loss and gradient are numbers, whatever `gamma` is; without it, it is the cross-entropy.
#[test]
fn the_focal_loss_is_sure_of_nothing_that_is_no_number() {
    let logits = [[1000.0f32, -1000.0, 0.0], [30.0, -30.0, 0.0], [0.0, 0.0, 0.0]];
    for row in &logits {
        for target in [[1.0f32, 0.0, 0.0], [0.0, 1.0, 0.0]] {
            for gamma in [0.0, 0.1, 2.0] {
                let mut b = Builder::new("focal");
                let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [1usize, 3]));
                let t = b.input("t", InputRole::Data, TensorType::new(DType::I32, [1usize]));
                let y = b.focal_loss(x, t, gamma);
                let plain = b.cross_entropy(x, t);
                b.output("y", y);
                b.output("plain", plain);
                let graph = b.finish().unwrap();
                let mut with = Builder::extend(graph.clone());
                let one = with.full(1.0, DType::F32, &with.dims(y));
                let grads = backwards(&mut with, &graph, y, one);
                with.output("grad", grads[0].unwrap());
                let class = target.iter().position(|t| *t == 1.0).unwrap() as i32;
                let x = Tensor::new([1, 3], row.to_vec()).unwrap();
                let out = interpret(&with.finish().unwrap(), &[x, Tensor::vector(vec![class])]).unwrap();
                let all = out.iter().flat_map(|t| t.as_slice::<f32>().unwrap().to_vec());
                assert!(
                    all.clone().all(f32::is_finite),
                    "{row:?} {class} {gamma}: {:?}",
                    all.collect::<Vec<_>>()
                );
                let (focal, plain) = (out[0].get_f64(0), out[1].get_f64(0));
                assert!(
                    focal >= 0.0 && if gamma == 0.0 { focal == plain } else { focal <= plain },
                    "{focal} {plain}"
                );
            }
        }
    }
}

#[test]
fn large_numbers_do_not_overflow() {
    let (y, grad) = at_points(&[&[-1000.0, 1000.0]], |b, v| b.softplus(v[0]));
    assert_eq!((y, grad), (vec![0.0, 1000.0], vec![0.0, 1.0]));
    let (y, grad) =
        at_points(&[&[-1000.0, 1000.0, 30.0], &[1.0, 1.0, 1.0]], |b, v| b.binary_cross_entropy(v[0], v[1]));
    assert_eq!(y[..2], [1000.0, 0.0]);
    assert!((0.0..1e-12).contains(&y[2]), "{y:?}");
    assert_eq!(grad[..2], [-1.0, 0.0]);
    let (y, grad) = at_points(&[&[1000.0, -1000.0, 1000.0]], |b, v| b.softmax(v[0]));
    assert_eq!((y, grad), (vec![0.5, 0.0, 0.5], vec![0.0, 0.0, 0.0]));
    assert_eq!(at_points(&[&[-200.0, 200.0]], |b, v| b.sigmoid(v[0])), (vec![0.0, 1.0], vec![0.0, 0.0]));
    assert_eq!(at_points(&[&[-100.0, 100.0]], |b, v| b.gelu_tanh(v[0])), (vec![-0.0, 100.0], vec![0.0, 1.0]));
    let (mish, slopes) = at_points(&[&[-1000.0, 1000.0]], |b, v| b.mish(v[0]));
    assert_eq!((mish, slopes), (vec![-0.0, 1000.0], vec![0.0, 1.0]));
    let (selu, slopes) = at_points(&[&[-1000.0, 1000.0]], |b, v| b.selu(v[0]));
    assert_eq!((selu, slopes), (vec![-1.758_099_3, 1_050.701], vec![0.0, 1.050_701]));
}

/// Padded samples change neither the statistics nor the result of the others, and a batch of padding alone is finite.
#[test]
fn padding_does_not_count_in_batch_norm() {
    let run = |samples: usize, x: Vec<f64>, weights: &[f64]| {
        let mut b = Builder::new("padding");
        let input = |b: &mut Builder, name: &str, dims: &[usize]| {
            b.input(name, InputRole::Data, TensorType::new(DType::F64, dims.iter().copied()))
        };
        let (x_in, w) = (input(&mut b, "x", &[samples, 2]), input(&mut b, "w", &[samples]));
        let (one, zero) =
            (b.full(1.0, DType::F64, &[Dim::Fixed(2)]), b.full(0.0, DType::F64, &[Dim::Fixed(2)]));
        let trained = b.batch_norm_train(x_in, one, zero, w, 1e-5);
        b.output("y", trained.y);
        b.output("mean", trained.statistics.mean);
        b.output("variance", trained.statistics.variance);
        let inputs = [Tensor::new([samples, 2], x).unwrap(), Tensor::vector(weights.to_vec())];
        let outputs = interpret(&b.finish().unwrap(), &inputs).unwrap();
        outputs.iter().map(|t| t.as_slice::<f64>().unwrap().to_vec()).collect::<Vec<_>>()
    };
    let real = vec![1.0, -2.0, 3.0, 5.0, 0.5, 4.0];
    let padded = [real.clone(), vec![100.0, -100.0]].concat();
    let (short, long) = (run(3, real, &[1.0; 3]), run(4, padded, &[1.0, 1.0, 1.0, 0.0]));
    assert_eq!(short[0], long[0][..6]);
    assert_eq!(short[1..], long[1..]);
    assert_eq!(short[2][0], 1.75, "the unbiased variance of 1, 3 and 0.5");
    let nothing = run(1, vec![7.0, 7.0], &[0.0]);
    assert!(nothing.iter().flatten().all(|x| x.is_finite()), "{nothing:?}");
}

#[test]
fn what_does_not_fit_is_said_with_the_layer() {
    let check = |build: fn(&mut Builder, Value) -> Value, expect: &str| {
        let mut b = Builder::new("wrong");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [2usize, 3, 8]));
        b.scoped("block.1", |b| build(b, x));
        let found = b.finish().unwrap_err().to_string();
        assert!(found.contains(expect) && found.contains("block.1"), "{found}");
    };
    check(|b, x| b.causal_attention(x, x, x, 3), "3 heads");
    check(|b, x| b.global_avg_pool(x), "[batch, channels, height, width]");
    check(|b, x| b.dense(x, x, None), "dot");
    check(|b, x| b.dropout(x, 1.0, x, 0), "from 0 to below 1");
}
