//! Which graphs have attention, and that it computes what they did, gradients among it.

use super::*;
use crate::{DeadCode, PassManager, add_gradients, prepare};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{InputRole, OutputRole, TensorType, interpret};
use outgrow_tensor::{RngKey, Tensor};

const HEADS: usize = 3;
const TOKENS: usize = 5;
const D: usize = 4;

fn fixed(dims: &[usize]) -> Vec<Dim> {
    dims.iter().copied().map(Dim::Fixed).collect()
}

/// A graph of one value that `build` makes of `x: f64[batch, 5, 36]`: queries, keys and values of three heads.
fn graph(batch: Dim, build: impl Fn(&mut Builder, [Value; 3]) -> Value) -> Graph {
    let mut b = Builder::new("test");
    let dims = [batch, Dim::Fixed(TOKENS), Dim::Fixed(3 * HEADS * D)];
    let x = b.param("x", DType::F64, &[1, 1, 3 * HEADS * D]);
    let data = b.input("data", InputRole::Data, TensorType::new(DType::F64, dims));
    let x = b.broadcast(x, &dims, &[0, 1, 2]);
    let x = b.mul(x, data);
    let parts = [0, 1, 2].map(|i| b.slice(x, 2, i * HEADS * D, (i + 1) * HEADS * D));
    let y = build(&mut b, parts);
    let square = b.mul(y, y);
    let loss = b.sum_all(square);
    b.output("y", y);
    b.output_as("loss", OutputRole::Loss, loss);
    b.finish().unwrap()
}

fn is_attention(graph: &Graph) -> Option<bool> {
    graph.nodes.iter().find_map(|node| match &node.op {
        Op::Attention(op) => Some(op.causal),
        _ => None,
    })
}

/// Whether attention is found, and is causal; it computes the same, gradients among it.
#[track_caller]
fn check(expected: Option<bool>, batch: Dim, build: impl Fn(&mut Builder, [Value; 3]) -> Value) -> Graph {
    let before = graph(batch, build);
    let passes = PassManager::new(vec![Box::new(FindAttention), Box::new(DeadCode)]);
    let after = passes.run(&before).unwrap();
    assert_eq!(is_attention(&after), expected, "{after}");
    if expected.is_some() {
        assert!(!after.nodes.iter().any(|node| matches!(node.op, Op::Dot(_))), "{after}");
    }
    let count = batch.fixed().unwrap_or(2);
    let value = |seed: u64, i: usize| f64::from(RngKey::new(seed).uniform_at(i as u64)) * 2.0 - 1.0;
    let inputs = [
        Tensor::from_f64(DType::F64, [1, 1, 3 * HEADS * D], |i| value(1, i)),
        Tensor::from_f64(DType::F64, [count, TOKENS, 3 * HEADS * D], |i| value(2, i)),
    ];
    let run = |graph: &Graph| {
        let graph = add_gradients(graph).unwrap().bind(count);
        (is_attention(&graph), interpret(&prepare().run(&graph).unwrap(), &inputs).unwrap())
    };
    let ((_, xs), (found, ys)) = (run(&before), run(&after));
    assert_eq!(found, expected);
    for (x, y) in xs.iter().zip(&ys) {
        for i in 0..x.elements() {
            assert!((x.get_f64(i) - y.get_f64(i)).abs() < 1e-9 * (1.0 + x.get_f64(i).abs()), "{i}\n{after}");
        }
    }
    after
}

/// `[batch, heads, tokens, d]` of `[batch, tokens, heads * d]`.
fn by_heads(b: &mut Builder, x: Value) -> Value {
    let dims = [b.dim(x, 0), Dim::Fixed(TOKENS), Dim::Fixed(HEADS), Dim::Fixed(D)];
    let x = b.reshape(x, &dims);
    b.transpose(x, &[0, 2, 1, 3])
}

fn joined(b: &mut Builder, y: Value) -> Value {
    let y = b.transpose(y, &[0, 2, 1, 3]);
    let dims = [b.dim(y, 0), Dim::Fixed(TOKENS), Dim::Fixed(HEADS * D)];
    b.reshape(y, &dims)
}

/// What exporters make of a causal mask: ones up to the diagonal, and infinities where there are none.
fn infinities(b: &mut Builder, rows: usize, columns: usize, from: i64) -> Value {
    let dims = fixed(&[rows, columns]);
    let (row, column) = (b.iota(DType::I32, &dims, 0), b.iota(DType::I32, &dims, 1));
    let start = b.scalar(from as f64, DType::I32);
    let row = b.add(row, start);
    let seen = b.compare(Comparison::Le, column, row);
    let ones = b.cast(seen, DType::F64);
    let zero = b.scalar(0.0, DType::F64);
    let none = b.compare(Comparison::Eq, ones, zero);
    let least = b.scalar(f64::NEG_INFINITY, DType::F64);
    b.select(none, least, zero)
}

/// As PyTorch's exporter writes `scaled_dot_product_attention`: the root of the scale on both sides, and the mask added.
fn exported(b: &mut Builder, [q, k, v]: [Value; 3], mask: impl Fn(&mut Builder, Value) -> Value) -> Value {
    let [q, k, v] = [q, k, v].map(|x| by_heads(b, x));
    let scale = b.scalar(1.0 / D as f64, DType::F64);
    let (scale, q_scale) = (b.sqrt(scale), b.sqrt(scale));
    let (scale, q_scale) = (b.sqrt(scale), b.sqrt(q_scale));
    let k = b.transpose(k, &[0, 1, 3, 2]);
    let (q, k) = (b.mul(q, q_scale), b.mul(k, scale));
    let scores = b.matmul(q, k);
    let scores = mask(b, scores);
    let weights = b.softmax(scores);
    let y = b.matmul(weights, v);
    joined(b, y)
}

#[test]
fn the_builders_own_products_are_attention() {
    for causal in [false, true] {
        for batch in [Dim::Fixed(1), Dim::Fixed(2), Dim::B] {
            check(Some(causal), batch, |b, parts| {
                let [q, k, v] = parts.map(|x| {
                    let dims = [b.dim(x, 0), Dim::Fixed(TOKENS), Dim::Fixed(HEADS), Dim::Fixed(D)];
                    b.reshape(x, &dims)
                });
                b.attention_by_products(q, k, v, causal)
            });
        }
    }
}

#[test]
fn what_pytorch_exports_is_attention() {
    for batch in [Dim::Fixed(1), Dim::Fixed(2), Dim::B] {
        check(Some(false), batch, |b, parts| exported(b, parts, |_, scores| scores));
        let after = check(Some(true), batch, |b, parts| {
            exported(b, parts, |b, scores| {
                let mask = infinities(b, TOKENS, TOKENS, 0);
                b.add(scores, mask)
            })
        });
        if batch == Dim::Fixed(1) {
            continue;
        }
        // Everything is read where it lies.
        let after = prepare().run(&after.bind(2)).unwrap();
        let moves = |node: &&Node| matches!(node.op, Op::Transpose(_)) && node.ty.rank() == 4;
        assert_eq!(after.nodes.iter().filter(moves).count(), 0, "{after}");
    }
}

#[test]
fn keys_may_be_turned_as_matrices_and_heads_may_be_part_of_the_batch() {
    let matrices = |b: &mut Builder, x: Value| {
        let dims = b.dims(x);
        b.reshape(x, &[dims[0].times(dims[1]).unwrap(), dims[2], dims[3]])
    };
    // Keys as PyTorch's second exporter turns them.
    check(Some(false), Dim::Fixed(2), |b, parts| {
        let [q, k, v] = parts.map(|x| by_heads(b, x));
        let k = matrices(b, k);
        let k = b.transpose(k, &[0, 2, 1]);
        let k = b.reshape(k, &fixed(&[2, HEADS, D, TOKENS]));
        let scores = b.matmul(q, k);
        let scores = b.mul_scalar(scores, 0.5);
        let weights = b.softmax(scores);
        let y = b.matmul(weights, v);
        joined(b, y)
    });
    // As `MultiheadAttention` does, with the mask on scores of another shape.
    for batch in [Dim::Fixed(2), Dim::B] {
        check(Some(true), batch, |b, parts| {
            let [q, k, v] = parts.map(|x| {
                let x = by_heads(b, x);
                matrices(b, x)
            });
            let k = b.transpose(k, &[0, 2, 1]);
            let q = b.mul_scalar(q, 1.0 / (D as f64).sqrt());
            let scores = b.matmul(q, k);
            let square = [Dim::Fixed(TOKENS); 2];
            let all = b.dim(scores, 0);
            let apart = [batch, Dim::Fixed(HEADS), square[0], square[1]];
            let scores = b.reshape(scores, &apart);
            let mask = infinities(b, TOKENS, TOKENS, 0);
            let scores = b.add(mask, scores);
            let scores = b.reshape(scores, &[all, square[0], square[1]]);
            let weights = b.softmax(scores);
            let y = b.matmul(weights, v);
            let y = b.reshape(y, &[batch, Dim::Fixed(HEADS), Dim::Fixed(TOKENS), Dim::Fixed(D)]);
            joined(b, y)
        });
    }
}

#[test]
fn other_scales_are_multiplied_into_the_queries() {
    let after = check(Some(false), Dim::Fixed(2), |b, parts| {
        exported(b, parts, |b, scores| {
            let seven = b.scalar(7.0, DType::F64);
            b.div(scores, seven)
        })
    });
    assert!(after.nodes.iter().any(|node| matches!(node.op, Op::Attention(_))));
    // A scale below zero turns what is masked into what is not.
    let negative = |b: &mut Builder, parts| exported(b, parts, |b, scores| b.neg(scores));
    check(None, Dim::Fixed(2), negative);
}

#[test]
fn masks_that_are_not_causal_stay() {
    let added = |mask: fn(&mut Builder) -> Value| {
        move |b: &mut Builder, parts: [Value; 3]| {
            exported(b, parts, |b, scores| {
                let mask = mask(b);
                b.add(scores, mask)
            })
        }
    };
    let number = |least: f64, dims: &[usize]| {
        Tensor::from_f64(DType::F64, dims, |i| if i % TOKENS <= i / TOKENS % TOKENS { 0.0 } else { least })
    };
    // One of zeros says nothing, and one that leaves weights above zero is not causal.
    check(Some(false), Dim::Fixed(2), added(|b| b.scalar(0.0, DType::F64)));
    check(None, Dim::Fixed(2), added(|b| infinities(b, TOKENS, TOKENS, 1)));
    for (least, expected) in [(-1e38, Some(true)), (-1e4, None), (0.5, None)] {
        check(expected, Dim::Fixed(2), |b, parts| {
            exported(b, parts, |b, scores| {
                let mask = b.constant(number(least, &[1, 1, TOKENS, TOKENS]));
                b.add(scores, mask)
            })
        });
    }
    // Another one for each head, of which one is not causal.
    check(None, Dim::Fixed(2), |b, parts| {
        exported(b, parts, |b, scores| {
            let all = number(f64::NEG_INFINITY, &[HEADS, TOKENS, TOKENS]);
            let last = HEADS * TOKENS * TOKENS - 2;
            let mask = Tensor::from_f64(DType::F64, [HEADS, TOKENS, TOKENS], |i| {
                if i == last { f64::NEG_INFINITY } else { all.get_f64(i) }
            });
            let mask = b.constant(mask);
            b.add(scores, mask)
        })
    });
    // Nor is one that the data decide.
    check(None, Dim::Fixed(2), |b, parts| {
        let q = parts[0];
        exported(b, parts, |b, scores| {
            let row = b.slice(q, 2, 0, TOKENS);
            let mask = b.reshape(row, &fixed(&[2, 1, TOKENS, TOKENS]));
            let dims = b.dims(scores);
            let mask = b.broadcast(mask, &dims, &[0, 1, 2, 3]);
            b.add(scores, mask)
        })
    });
}

/// Scores of queries and keys, and attention by what `weights` makes of them, with the last dimension of the weights as that
/// of keys.
fn by_weights(
    b: &mut Builder,
    [q, k, v]: [Value; 3],
    weights: impl Fn(&mut Builder, Value) -> Value,
) -> Value {
    let [q, k, v] = [q, k, v].map(|x| by_heads(b, x));
    let scores = b.dot(q, k, (&[0, 1], &[0, 1]), (&[3], &[3]));
    let weights = weights(b, scores);
    let y = b.matmul(weights, v);
    joined(b, y)
}

/// A softmax step by step, of which `sum` sees the sum of each row.
fn softmax(b: &mut Builder, x: Value, sum: impl Fn(&mut Builder, Value) -> Value) -> Value {
    let dims = b.dims(x);
    let constant = b.stop_gradient(x);
    let max = b.reduce_max(constant, &[3]);
    let max = b.broadcast(max, &dims, &[0, 1, 2]);
    let shifted = b.sub(x, max);
    let exp = b.exp(shifted);
    let all = b.reduce_sum(exp, &[3]);
    let all = sum(b, all);
    let all = b.broadcast(all, &dims, &[0, 1, 2]);
    b.div(exp, all)
}

#[test]
fn what_is_no_softmax_over_keys_stays() {
    check(Some(false), Dim::Fixed(2), |b, parts| {
        by_weights(b, parts, |b, scores| softmax(b, scores, |_, sum| sum))
    });
    // Sums of which no gradient is taken have another gradient.
    check(None, Dim::Fixed(2), |b, parts| {
        by_weights(b, parts, |b, scores| softmax(b, scores, |b, sum| b.stop_gradient(sum)))
    });
    // Over the queries, and over the keys but with a product over the queries: there are as many of both.
    check(None, Dim::Fixed(2), |b, parts| {
        by_weights(b, parts, |b, scores| {
            let turned = b.transpose(scores, &[0, 1, 3, 2]);
            let weights = b.softmax(turned);
            b.transpose(weights, &[0, 1, 3, 2])
        })
    });
    check(None, Dim::Fixed(2), |b, parts| {
        let [q, k, v] = parts.map(|x| by_heads(b, x));
        let scores = b.dot(q, k, (&[0, 1], &[0, 1]), (&[3], &[3]));
        let weights = b.softmax(scores);
        let y = b.dot(weights, v, (&[0, 1], &[0, 1]), (&[2], &[2]));
        joined(b, y)
    });
    // A scale that the data decide.
    check(None, Dim::Fixed(2), |b, parts| {
        let data = parts[0];
        by_weights(b, parts, |b, scores| {
            let dims = b.dims(scores);
            let scale = b.slice(data, 2, 0, 1);
            let scale = b.reshape(scale, &fixed(&[2, 1, TOKENS, 1]));
            let scale = b.broadcast(scale, &dims, &[0, 1, 2, 3]);
            let scores = b.mul(scores, scale);
            b.softmax(scores)
        })
    });
    // Weights that are an output.
    check(None, Dim::Fixed(2), |b, parts| {
        by_weights(b, parts, |b, scores| {
            let weights = b.softmax(scores);
            b.output("weights", weights);
            weights
        })
    });
}

#[test]
fn weights_that_are_read_and_keys_that_are_fewer_stay() {
    check(None, Dim::Fixed(2), |b, parts| {
        let [q, k, v] = parts.map(|x| by_heads(b, x));
        let scores = b.dot(q, k, (&[0, 1], &[0, 1]), (&[3], &[3]));
        let weights = b.softmax(scores);
        let y = b.matmul(weights, v);
        let y = joined(b, y);
        let read = b.sum_all(weights);
        let dims = b.dims(y);
        let read = b.broadcast(read, &dims, &[]);
        b.add(y, read)
    });
    check(None, Dim::Fixed(2), |b, parts| {
        let [q, k, v] = parts.map(|x| by_heads(b, x));
        let [k, v] = [k, v].map(|x| b.slice(x, 2, 0, TOKENS - 1));
        let scores = b.dot(q, k, (&[0, 1], &[0, 1]), (&[3], &[3]));
        let weights = b.softmax(scores);
        let y = b.matmul(weights, v);
        joined(b, y)
    });
}
