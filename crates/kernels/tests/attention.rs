//! `Attention` and `AttentionGrad` against their definition in f64, over extents around those of tiles and blocks.

mod common;

use common::{Case, Data, close, position, run_case};
use outgrow_kernels::{Attention, AttentionGrad, ProgramBuilder, View};
use outgrow_tensor::{DType, RngKey};

/// Queries, keys, values and the gradient of the result, by `[token][element]`, of one head.
type Head = [Vec<Vec<f64>>; 4];

/// The result and the gradients by queries, keys and values of one head; and, for each, the sizes of its terms.
fn expected([q, k, v, dy]: &Head, causal: bool) -> [[Vec<Vec<f64>>; 4]; 2] {
    let (tokens, d) = (q.len(), q[0].len());
    let scale = 1.0 / (d as f64).sqrt();
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let size = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x * y).abs()).sum::<f64>();
    let mut sums = [0; 2].map(|_| [0; 4].map(|_| vec![vec![0.0; d]; tokens]));
    for i in 0..tokens {
        let seen = if causal { i + 1 } else { tokens };
        let scores: Vec<f64> = (0..seen).map(|j| dot(&q[i], &k[j]) * scale).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
        let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp() / sum).collect();
        let by: Vec<f64> = (0..seen).map(|j| dot(&dy[i], &v[j])).collect();
        let sizes: Vec<f64> = (0..seen).map(|j| size(&dy[i], &v[j])).collect();
        let (mean, mean_size) = (dot(&weights, &by), dot(&weights, &sizes));
        for j in 0..seen {
            let slope = weights[j] * (by[j] - mean) * scale;
            let slope_size = weights[j] * (sizes[j] + mean_size) * scale;
            for p in 0..d {
                for (part, at, factor, factor_size, x) in [
                    (0, i, weights[j], weights[j], v[j][p]),
                    (1, i, slope, slope_size, k[j][p]),
                    (2, j, slope, slope_size, q[i][p]),
                    (3, j, weights[j], weights[j], dy[i][p]),
                ] {
                    sums[0][part][at][p] += factor * x;
                    sums[1][part][at][p] += factor_size * x.abs();
                }
            }
        }
    }
    sums
}

/// Queries, keys and values lie in one buffer, as a layer gives them; the gradient's dimensions are in another order.
fn check(dtype: DType, [batch, tokens, heads, d]: [usize; 4], causal: bool) {
    let what = format!("{batch} x {tokens} x {heads} x {d} of {dtype}, causal: {causal}");
    let mut rng = RngKey::new(71).stream();
    let elements = batch * tokens * heads * d;
    let all = View::whole(0, dtype, [batch, tokens, 3 * heads, d]);
    let operand = |part: usize| all.sliced(2, part * heads, heads, 1);
    let dy = View::whole(1, dtype, [batch, heads, tokens, d]).permuted(&[0, 2, 1, 3]);
    let y = View::whole(2, dtype, [batch, tokens, heads, d]);
    let out = View::whole(3, dtype, [batch, tokens, 3 * heads, d]);
    let data = vec![
        Data::random(dtype, 3 * elements, &mut rng),
        Data::random(dtype, elements, &mut rng),
        Data::zeros(dtype, elements),
        Data::zeros(dtype, 3 * elements),
    ];
    let build = |b: &mut ProgramBuilder| {
        let [q, k, v] = [0, 1, 2].map(operand);
        b.push(Attention::new(q.clone(), k.clone(), v.clone(), y.clone(), causal).unwrap());
        b.push(AttentionGrad::new(q, k, v, dy.clone(), out.clone(), causal).unwrap());
    };
    let results = run_case(&Case { data: data.clone(), build: &build }).unwrap();
    let unit = if dtype == DType::F64 { 2f64.powi(-52) } else { 2f64.powi(-23) };
    for b in 0..batch {
        for h in 0..heads {
            let read = |view: &View| -> Vec<Vec<f64>> {
                let number =
                    |i, p| data[view.slot.buffer as usize].get(position(view, &[b, i, h, p])).float();
                (0..tokens).map(|i| (0..d).map(|p| number(i, p)).collect()).collect()
            };
            let head = [read(&operand(0)), read(&operand(1)), read(&operand(2)), read(&dy)];
            let [sums, sizes] = expected(&head, causal);
            for (path, after) in &results {
                for part in 0..4 {
                    for (i, p) in (0..tokens).flat_map(|i| (0..d).map(move |p| (i, p))) {
                        let (view, head) = if part == 0 { (&y, h) } else { (&out, (part - 1) * heads + h) };
                        let at = position(view, &[b, i, head, p]);
                        let got = after[view.slot.buffer as usize].get(at).float();
                        // Scores are up to four times √d.
                        let error = unit * (4.0 * d as f64 + tokens as f64 + 16.0) * sizes[part][i][p];
                        let what = format!("{what}, on {path}, part {part} of token {i}, head {h}, {p}");
                        assert!(
                            close(got, sums[part][i][p], 1e-12, error),
                            "{what}: {got}, not {}",
                            sums[part][i][p]
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn extents_of_every_kind() {
    for causal in [true, false] {
        for tokens in [1, 2, 13, 14, 15, 28, 29, 33, 57, 130] {
            for d in [1, 3, 16, 33, 64, 70] {
                check(DType::F32, [1, tokens, 2, d], causal);
            }
        }
        check(DType::F32, [3, 20, 5, 8], causal);
        check(DType::F64, [2, 19, 3, 5], causal);
    }
}

/// More tokens than a block of queries, and than a block of sums.
#[test]
fn many_tokens() {
    for causal in [true, false] {
        check(DType::F32, [1, 700, 1, 5], causal);
        check(DType::F32, [1, 1300, 1, 2], causal);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let view = |dims: [usize; 4], dtype| View::whole(0, dtype, dims);
    let like = || view([2, 3, 4, 5], DType::F32);
    let refused = |q, k, v, y| Attention::new(q, k, v, y, true).unwrap_err().to_string();
    let found = refused(like(), view([2, 3, 4, 6], DType::F32), like(), like());
    assert!(found.contains("do not give"), "{found}");
    let whole = || view([2, 3, 4, 5], DType::I32);
    assert!(refused(whole(), whole(), whole(), whole()).contains("f32 or f64"));
    let grad = AttentionGrad::new(like(), like(), like(), like(), like(), true).unwrap_err();
    assert!(grad.to_string().contains("do not give"), "three times as many heads: {grad}");
}
