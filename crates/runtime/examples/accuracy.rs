//! How accurate products and convolutions are on each kernel path, beside plain sums in f32:
//! `cargo run --release -p outgrow-runtime --example accuracy`. Errors are against f64 and in units of 2^-24 of the sum of
//! the terms' sizes, which is what a rounding of the largest possible sum is: root mean square, and the largest; and the
//! largest in units of the sizes of that result which has the largest, as algorithms are judged that add up more than a
//! result's own terms (Winograd's). A Markdown table.
#![allow(clippy::print_stdout)]

use outgrow_ir::ops::Window;
use outgrow_ir::ops::conv2d::Conv2d;
use outgrow_ir::{Builder, Graph, InputRole, TensorType, Value, interpret};
use outgrow_runtime::{CompileOptions, CpuBackend, KernelPath, ThreadPool, compile, run_tensors};
use outgrow_tensor::{DType, RngKey, RngStream, Tensor};
use std::sync::Arc;

const BATCH: usize = 4;
const IMAGE: usize = 12;
const CHANNELS: usize = 32;
/// Rows, inner extent and columns of products.
const PRODUCT: [usize; 3] = [48, 1024, 40];

/// What is computed, of two operands.
struct Work {
    name: &'static str,
    dims: [&'static [usize]; 2],
    build: fn(&mut Builder, &[Value]) -> Value,
    /// The terms of each element of the result, as positions in the operands.
    terms: fn() -> Vec<Vec<[usize; 2]>>,
}

const IMAGES: &[usize] = &[BATCH, CHANNELS, IMAGE, IMAGE];
const KERNEL: &[usize] = &[CHANNELS, CHANNELS, 3, 3];

fn conv() -> Conv2d {
    Conv2d { window: Window::new(1, 1), groups: 1, result: None }
}

const WORKS: [Work; 4] = [
    Work {
        name: "product, 1024 terms",
        dims: [&[PRODUCT[0], PRODUCT[1]], &[PRODUCT[1], PRODUCT[2]]],
        build: |b, v| b.matmul(v[0], v[1]),
        terms: product_terms,
    },
    Work {
        name: "convolution 3x3 of 32",
        dims: [IMAGES, KERNEL],
        build: |b, v| b.conv2d(v[0], v[1], Window::new(1, 1), 1),
        terms: || terms_of_convolution(0),
    },
    Work {
        name: "its gradient by the images",
        dims: [IMAGES, KERNEL],
        build: |b, v| b.conv2d_grad_input(v[0], v[1], conv(), [IMAGE, IMAGE]),
        terms: || terms_of_convolution(1),
    },
    Work {
        name: "its gradient by the weights",
        dims: [IMAGES, IMAGES],
        build: |b, v| b.conv2d_grad_weight(v[0], v[1], conv(), [3, 3]),
        terms: || terms_of_convolution(2),
    },
];

fn product_terms() -> Vec<Vec<[usize; 2]>> {
    let [m, k, n] = PRODUCT;
    let term = |i: usize, p: usize| [(i / n) * k + p, p * n + i % n];
    (0..m * n).map(|i| (0..k).map(|p| term(i, p)).collect()).collect()
}

/// The products that a 3x3 convolution of padding 1 is made of, gathered by its result, its images or its weights.
fn terms_of_convolution(by: usize) -> Vec<Vec<[usize; 2]>> {
    let images = BATCH * CHANNELS * IMAGE * IMAGE;
    let mut terms = vec![Vec::new(); if by == 2 { CHANNELS * CHANNELS * 9 } else { images }];
    let image = |b: usize, c: usize, h: usize, w: usize| ((b * CHANNELS + c) * IMAGE + h) * IMAGE + w;
    for b in 0..BATCH {
        for (o, c) in (0..CHANNELS * CHANNELS).map(|i| (i / CHANNELS, i % CHANNELS)) {
            for (h, w) in (0..IMAGE * IMAGE).map(|i| (i / IMAGE, i % IMAGE)) {
                for (i, j) in (0..9).map(|k| (k / 3, k % 3)) {
                    let (Some(row), Some(column)) = ((h + i).checked_sub(1), (w + j).checked_sub(1)) else {
                        continue;
                    };
                    if row >= IMAGE || column >= IMAGE {
                        continue;
                    }
                    let weight = (o * CHANNELS + c) * 9 + i * 3 + j;
                    let (x, y) = (image(b, c, row, column), image(b, o, h, w));
                    match by {
                        0 => terms[y].push([x, weight]),
                        1 => terms[x].push([y, weight]),
                        _ => terms[weight].push([x, y]),
                    }
                }
            }
        }
    }
    terms
}

/// Kinds of numbers, by their position.
type Numbers = fn(&mut RngStream, usize) -> f64;

const KINDS: [(&str, Numbers); 5] = [
    ("normal", |rng, _| rng.normal()),
    ("between 0 and 1", |rng, _| rng.uniform()),
    ("of sizes from 2^-20 to 2^20", |rng, _| rng.normal() * 2f64.powf(rng.uniform_in(-20.0, 20.0))),
    ("neighbours that cancel out", |rng, i| {
        (1.0 + 1e-4 * rng.normal()) * if i.is_multiple_of(2) { 1.0 } else { -1.0 }
    }),
    ("one in a hundred a million times as large", |rng, _| {
        rng.normal() * if rng.below(100) == 0 { 1e6 } else { 1.0 }
    }),
];

/// A graph of one work on operands of a type.
fn graph(work: &Work, dtype: DType) -> Graph {
    let mut b = Builder::new("work");
    let input = |(i, dims): (usize, &&[usize])| {
        b.input(&i.to_string(), InputRole::Data, TensorType::new(dtype, dims.iter().copied()))
    };
    let inputs: Vec<Value> = work.dims.iter().enumerate().map(input).collect();
    let y = (work.build)(&mut b, &inputs);
    b.output("y", y);
    b.finish().expect("a valid graph")
}

/// Root mean square and largest error in units of 2^-24 of the terms' sizes, and the largest in those of the largest.
fn error(got: impl Fn(usize) -> f64, exact: &Tensor, sizes: &[f64]) -> String {
    let errors: Vec<f64> = (0..exact.elements())
        .filter(|i| sizes[*i] > 0.0)
        .map(|i| (got(i) - exact.get_f64(i)).abs() / (sizes[i] * 2f64.powi(-24)))
        .collect();
    let square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
    let most = |all: &mut dyn Iterator<Item = f64>| all.fold(0.0, f64::max);
    let largest = most(&mut sizes.iter().copied());
    let of_largest =
        errors.iter().zip(sizes.iter().filter(|size| **size > 0.0)).map(|(e, size)| e * size / largest);
    let number = |x: f64| if x < 1000.0 { format!("{x:.2}") } else { format!("{x:.0e}") };
    [square.sqrt(), most(&mut errors.iter().copied()), most(&mut of_largest.into_iter())]
        .map(number)
        .join(" / ")
}

fn main() {
    let pool = Arc::new(ThreadPool::new(2));
    let paths: Vec<KernelPath> = KernelPath::supported();
    let names: Vec<&str> = paths.iter().map(|path| path.name()).collect();
    println!("| what | numbers | plain sums | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(paths.len()));
    for work in &WORKS {
        let terms = (work.terms)();
        for (kind, number) in &KINDS {
            let operand = |i: usize| {
                let mut rng = RngKey::new(5).fold_in(i as u64).stream();
                let dims = work.dims[i].to_vec();
                let elements = dims.iter().product::<usize>();
                let values: Vec<f64> = (0..elements).map(|at| number(&mut rng, at)).collect();
                Tensor::from_f64(DType::F32, dims, |at| values[at])
            };
            let inputs = [operand(0), operand(1)];
            let wide =
                inputs.each_ref().map(|x| Tensor::from_f64(DType::F64, x.shape().clone(), |i| x.get_f64(i)));
            let exact = interpret(&graph(work, DType::F64), &wide).expect("a valid graph").remove(0);
            let term = |[x, y]: &[usize; 2]| (inputs[0].get_f64(*x), inputs[1].get_f64(*y));
            let size =
                |terms: &Vec<[usize; 2]>| terms.iter().map(term).map(|(x, y)| (x * y).abs()).sum::<f64>();
            let sizes: Vec<f64> = terms.iter().map(size).collect();
            let plain = |i: usize| {
                let sum = terms[i].iter().map(term).fold(0f32, |sum, (x, y)| sum + x as f32 * y as f32);
                f64::from(sum)
            };
            let mut cells = vec![error(plain, &exact, &sizes)];
            for path in &paths {
                let backend = CpuBackend { path: *path, ..CpuBackend::new(pool.clone()) };
                let compiled = compile(&backend, &graph(work, DType::F32), 1, &CompileOptions::default());
                let compiled = compiled.expect("a valid graph");
                let got = run_tensors(&backend, &compiled, &inputs).expect("memory").remove(0);
                cells.push(error(|i| got.get_f64(i), &exact, &sizes));
            }
            println!("| {} | {kind} | {} |", work.name, cells.join(" | "));
        }
    }
}
