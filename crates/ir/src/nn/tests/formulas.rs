//! The formulas of composites in f64 on flat vectors, written without the graph.

use outgrow_tensor::{RngKey, Tensor};

pub fn floats(t: &Tensor) -> Vec<f64> {
    (0..t.elements()).map(|i| t.get_f64(i)).collect()
}

pub fn map(v: &[Tensor], formula: impl Fn(f64) -> f64) -> Vec<f64> {
    floats(&v[0]).into_iter().map(formula).collect()
}

/// Applies a formula to each row of the last dimension.
pub fn rows(t: &Tensor, width: usize, formula: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    floats(t).chunks(width).flat_map(formula).collect()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

pub fn selu(x: f64) -> f64 {
    let (scale, alpha) = (1.0507009873554805, 1.6732632423543772);
    scale * if x > 0.0 { x } else { alpha * x.exp_m1() }
}

pub fn mish(x: f64) -> f64 {
    x * x.exp().ln_1p().tanh()
}

pub fn softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|x| x.exp()).sum();
    row.iter().map(|x| x.exp() / sum).collect()
}

pub fn soft_cross_entropy(v: &[Tensor], classes: usize) -> Vec<f64> {
    let (logits, shares) = (floats(&v[0]), floats(&v[1]));
    let loss = |(row, shares): (&[f64], &[f64])| -> f64 {
        softmax(row).iter().zip(shares).map(|(p, share)| -share * p.ln()).sum()
    };
    logits.chunks(classes).zip(shares.chunks(classes)).map(loss).collect()
}

pub fn cross_entropy(v: &[Tensor], classes: usize) -> Vec<f64> {
    let logits = floats(&v[0]);
    let loss = |(i, row): (usize, &[f64])| -softmax(row)[v[1].get_i64(i) as usize].ln();
    logits.chunks(classes).enumerate().map(loss).collect()
}

pub fn focal_loss(v: &[Tensor], classes: usize, gamma: f64) -> Vec<f64> {
    cross_entropy(v, classes).into_iter().map(|loss| (1.0 - (-loss).exp()).powf(gamma) * loss).collect()
}

/// The mean over rows of so many numbers of what a formula gives for the difference of two tensors.
pub fn mean_of_differences(v: &[Tensor], width: usize, formula: impl Fn(f64) -> f64) -> Vec<f64> {
    let each: Vec<f64> = floats(&v[0]).iter().zip(floats(&v[1])).map(|(a, b)| formula(a - b)).collect();
    each.chunks(width).map(|row| row.iter().sum::<f64>() / width as f64).collect()
}

pub fn huber(d: f64, delta: f64) -> f64 {
    if d.abs() <= delta { 0.5 * d * d } else { delta * (d.abs() - 0.5 * delta) }
}

pub fn dense(v: &[Tensor]) -> Vec<f64> {
    let [out, width] = v[1].shape().dims() else { panic!("a matrix") };
    let weight = floats(&v[1]);
    rows(&v[0], *width, |row| {
        let sum = |o: usize| row.iter().zip(&weight[o * width..]).map(|(x, w)| x * w).sum::<f64>();
        (0..*out).map(|o| sum(o) + v.get(2).map_or(0.0, |b| b.get_f64(o))).collect()
    })
}

/// Element `[n, c, h, w]` of an image, if `h` and `w` lie inside.
fn pixel(t: &Tensor, n: usize, c: usize, h: isize, w: isize) -> Option<f64> {
    let d = t.shape().dims();
    let inside = (0..d[2] as isize).contains(&h) && (0..d[3] as isize).contains(&w);
    inside.then(|| t.get_f64(((n * d[1] + c) * d[2] + h as usize) * d[3] + w as usize))
}

/// Calls `at` for each image, channel and place of the result of a window.
fn windows(
    d: [usize; 4],
    size: [usize; 2],
    stride: usize,
    padding: usize,
    mut at: impl FnMut(usize, usize, isize, isize) -> f64,
) -> Vec<f64> {
    let places = |n: usize, k: usize| (n + 2 * padding - k) / stride + 1;
    let mut y = Vec::new();
    for n in 0..d[0] {
        for c in 0..d[1] {
            for h in 0..places(d[2], size[0]) {
                for w in 0..places(d[3], size[1]) {
                    let start = |p: usize| (p * stride) as isize - padding as isize;
                    y.push(at(n, c, start(h), start(w)));
                }
            }
        }
    }
    y
}

pub fn conv(v: &[Tensor], stride: usize, padding: usize, groups: usize) -> Vec<f64> {
    let (x, k) = (v[0].shape().dims(), v[1].shape().dims());
    let result = [x[0], k[0], x[2], x[3]];
    windows(result, [k[2], k[3]], stride, padding, |n, out, top, left| {
        let first = out / (k[0] / groups) * k[1];
        let mut sum = v[2].get_f64(out);
        for c in 0..k[1] {
            for i in 0..k[2] {
                for j in 0..k[3] {
                    let at = pixel(&v[0], n, first + c, top + i as isize, left + j as isize);
                    sum += at.unwrap_or(0.0) * v[1].get_f64(((out * k[1] + c) * k[2] + i) * k[3] + j);
                }
            }
        }
        sum
    })
}

pub fn pool(
    x: &Tensor,
    size: [usize; 2],
    stride: usize,
    padding: usize,
    start: f64,
    step: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let d = x.shape().dims();
    windows([d[0], d[1], d[2], d[3]], size, stride, padding, |n, c, top, left| {
        let places = (0..size[0]).flat_map(|i| (0..size[1]).map(move |j| (i as isize, j as isize)));
        places.filter_map(|(i, j)| pixel(x, n, c, top + i, left + j)).fold(start, &step)
    })
}

pub fn layer_norm(v: &[Tensor], eps: f64) -> Vec<f64> {
    let n = v[1].elements();
    rows(&v[0], n, |row| {
        let mean = row.iter().sum::<f64>() / n as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let y =
            |(i, x): (usize, &f64)| (x - mean) / (variance + eps).sqrt() * v[1].get_f64(i) + v[2].get_f64(i);
        row.iter().enumerate().map(y).collect()
    })
}

pub fn rms_norm(v: &[Tensor], eps: f64) -> Vec<f64> {
    let n = v[1].elements();
    rows(&v[0], n, |row| {
        let square = row.iter().map(|x| x * x).sum::<f64>() / n as f64;
        row.iter().enumerate().map(|(i, x)| x / (square + eps).sqrt() * v[1].get_f64(i)).collect()
    })
}

/// Applies `formula(x, vectors, channel)` to each element of `v[0] [batch, channels, ..]`; the vectors are the rest.
pub fn per_channel(v: &[Tensor], formula: impl Fn(f64, &[Vec<f64>], usize) -> f64) -> Vec<f64> {
    let vectors: Vec<_> = v[1..].iter().map(floats).collect();
    let dims = v[0].shape().dims();
    let places: usize = dims[2..].iter().product();
    let channel = |i: usize| i / places % dims[1];
    floats(&v[0]).into_iter().enumerate().map(|(i, x)| formula(x, &vectors, channel(i))).collect()
}

/// The normalised values, the mean and the unbiased variance; `v` is x, weight, bias, sample weights.
pub fn batch_norm(v: &[Tensor], eps: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let dims = v[0].shape().dims().to_vec();
    let places: usize = dims[2..].iter().product();
    let x = floats(&v[0]);
    let (mut means, mut variances, mut unbiased) = (Vec::new(), Vec::new(), Vec::new());
    for c in 0..dims[1] {
        let counted = x
            .iter()
            .enumerate()
            .filter(|(i, _)| i / places % dims[1] == c && v[3].get_f64(i / places / dims[1]) == 1.0);
        let counted: Vec<f64> = counted.map(|(_, x)| *x).collect();
        let n = counted.len() as f64;
        let mean = counted.iter().sum::<f64>() / n;
        let squares = counted.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        means.push(mean);
        variances.push(squares / n);
        unbiased.push(squares / (n - 1.0));
    }
    let y = per_channel(&v[..3], |x, w, c| (x - means[c]) / (variances[c] + eps).sqrt() * w[0][c] + w[1][c]);
    (y, means, unbiased)
}

pub fn attention(v: &[Tensor], heads: usize) -> Vec<f64> {
    let [batch, tokens, width] = v[0].shape().dims() else { panic!("three dimensions") };
    let (tokens, width, d) = (*tokens, *width, width / heads);
    let [q, k, value] = [0, 1, 2].map(|i| floats(&v[i]));
    let mut y = vec![0.0; q.len()];
    for b in 0..*batch {
        for h in 0..heads {
            let at = |t: usize, i: usize| (b * tokens + t) * width + h * d + i;
            for t in 0..tokens {
                let score =
                    |s: usize| (0..d).map(|i| q[at(t, i)] * k[at(s, i)]).sum::<f64>() / (d as f64).sqrt();
                let weights = softmax(&(0..=t).map(score).collect::<Vec<_>>());
                for i in 0..d {
                    y[at(t, i)] = weights.iter().enumerate().map(|(s, w)| w * value[at(s, i)]).sum();
                }
            }
        }
    }
    y
}

pub fn dropout(v: &[Tensor], p: f64, stream: u64) -> Vec<f64> {
    let key = RngKey::new(v[1].get_i64(0) as u64).fold_in(stream);
    let keep = |i: usize| key.uniform_at(i as u64) >= p as f32;
    floats(&v[0]).iter().enumerate().map(|(i, x)| if keep(i) { x / (1.0 - p) } else { 0.0 }).collect()
}
