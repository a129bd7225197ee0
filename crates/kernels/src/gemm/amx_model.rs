//! What the tiles of AMX compute, in plain Rust: a number's parts of bf16, and the order in which their products are summed
//! (`amx.rs`). It says how accurate they are on machines that have no tiles too; where there are some, they are held
//! against it.

use crate::matmul::MatMul;
use crate::path::{KernelPath, Products};
use crate::program::{BufferRef, ProgramBuilder};
use crate::threads::ThreadPool;
use crate::view::View;
use outgrow_tensor::{DType, RngKey};

/// Inner positions of a tile of bf16.
const STEP: usize = 32;

/// To the nearest bf16, ties to even.
fn rounded(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// The parts of a finite number: what rounding it to bf16 gives, what rounding the rest gives, and so on. What would round
/// to infinity has its bits cut off instead.
fn split(x: f32, parts: usize) -> Vec<f32> {
    let mut rest = x;
    let part = |_| {
        let near = rounded(rest);
        let part = if near.is_finite() { near } else { f32::from_bits(rest.to_bits() & 0xffff_0000) };
        rest -= part;
        part
    };
    (0..parts).map(part).collect()
}

/// Which parts of the left and the right number are multiplied, in order: all whose product is not below what the parts
/// leave out, the largest last.
fn order(parts: usize) -> &'static [(usize, usize)] {
    match parts {
        1 => &[(0, 0)],
        2 => &[(0, 1), (1, 0), (0, 0)],
        _ => &[(0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0)],
    }
}

/// An element of a product, of a row and a column that are one block of the inner dimension. An instruction multiplies a
/// tile by a tile: it sums even and odd positions by themselves, and adds both to what was there ("Intel Architecture
/// Instruction Set Extensions Programming Reference", TDPBF16PS).
fn dot(a: &[f32], b: &[f32], parts: usize) -> f32 {
    let split = |x: &[f32]| x.iter().map(|x| split(*x, parts)).collect::<Vec<_>>();
    let mut sum = 0.0;
    for (a, b) in a.chunks(STEP).zip(b.chunks(STEP)) {
        let (a, b) = (split(a), split(b));
        for &(s, t) in order(parts) {
            let mut sums = [0.0f32; 2];
            for (p, (a, b)) in a.iter().zip(&b).enumerate() {
                sums[p % 2] = a[s].mul_add(b[t], sums[p % 2]);
            }
            sum += sums[0] + sums[1];
        }
    }
    sum
}

/// The sum of an element's terms, and that of their sizes.
fn exact(a: &[f32], b: &[f32]) -> (f64, f64) {
    let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    terms.fold((0.0, 0.0), |(sum, sizes), term| (sum + term, sizes + term.abs()))
}

/// Numbers of both signs and of sizes from 2^-12 to 2^12.
fn numbers(count: usize, key: u64) -> Vec<f32> {
    let mut random = RngKey::new(key).stream();
    let mut draw = || {
        let size = (random.uniform() * 24.0 - 12.0).exp2();
        (size * (random.uniform() - 0.5).signum()) as f32
    };
    (0..count).map(|_| draw()).collect()
}

/// What is left out of a product, over its size, is below this.
fn bound(parts: usize) -> f64 {
    f64::exp2([-7.0, -15.0, -22.5][parts - 1])
}

#[test]
fn parts_are_bf16_and_leave_out_what_they_say() {
    let mut most = [0.0f64; 3];
    for x in numbers(20_000, 1).into_iter().chain([0.0, f32::MAX, -f32::MAX, f32::MIN_POSITIVE]) {
        for parts in 1..=3 {
            let found = split(x, parts);
            assert!(found.iter().all(|part| part.to_bits() & 0xffff == 0), "{x}: {found:?}");
            let sum: f64 = found.iter().copied().map(f64::from).sum();
            let off = (sum - f64::from(x)).abs() / f64::from(x.abs()).max(1e-300);
            most[parts - 1] = most[parts - 1].max(if x.abs() == f32::MAX { 0.0 } else { off });
        }
    }
    // Half of the last of 8 bits; of 16, and what the second part's sign adds to them; nothing.
    assert!(most[0] <= f64::exp2(-8.0) && most[0] > f64::exp2(-8.1), "{most:?}");
    assert!(most[1] <= f64::exp2(-17.0) && most[1] > f64::exp2(-17.5), "{most:?}");
    assert_eq!(most[2], 0.0);
}

#[test]
fn products_of_parts_are_all_that_matter_and_the_largest_comes_last() {
    for parts in 1..=3 {
        let mut all: Vec<_> = (0..3).flat_map(|s| (0..3).map(move |t| (s, t))).collect();
        all.retain(|(s, t)| s + t < parts);
        let mut found = order(parts).to_vec();
        assert_eq!(found.last(), Some(&(0, 0)));
        found.sort_unstable();
        assert_eq!(found, all, "{parts} parts");
    }
}

/// One product, where nothing else rounds but three or six sums.
#[test]
fn a_product_is_as_accurate_as_it_says() {
    let (a, b) = (numbers(100_000, 2), numbers(100_000, 3));
    for parts in 1..=3 {
        let mut most = 0.0f64;
        for (a, b) in a.iter().zip(&b) {
            let (exact, size) = exact(&[*a], &[*b]);
            most = most.max((f64::from(dot(&[*a], &[*b], parts)) - exact).abs() / size);
        }
        assert!(most < bound(parts), "{parts} parts: {most}");
        assert!(most > bound(parts) / 4.0, "{parts} parts: {most}, of which the bound says too little");
    }
}

/// Sums of many: what parts leave out comes to less than of one, in units of the sizes of the terms, and two parts are
/// finer than TF32, whose operands have 11 bits.
#[test]
fn sums_are_as_accurate_as_their_terms() {
    let tf32 = |x: &f32| f32::from_bits((x.to_bits() + 0xfff + (x.to_bits() >> 13 & 1)) & !0x1fff);
    for k in [1, 7, 32, 33, 100, 512, 768] {
        let mut most = [0.0f64; 4];
        for key in 0..40 {
            let (a, b) = (numbers(k, 100 + key), numbers(k, 200 + key));
            let (exact, size) = exact(&a, &b);
            let off = |found: f64| (found - exact).abs() / size;
            for parts in 1..=3 {
                most[parts] = most[parts].max(off(f64::from(dot(&a, &b, parts))));
            }
            let narrow = |x: &[f32]| x.iter().map(tf32).collect::<Vec<_>>();
            most[0] = most[0].max(off(self::exact(&narrow(&a), &narrow(&b)).0));
        }
        let [by_tf32, one, two, three] = most;
        // Rounding of sums in f32: a chain for each half of a step, and one over all steps.
        let sums = (16 + 6 * k.div_ceil(STEP)) as f64 * f64::exp2(-24.0);
        for (parts, off) in [(1, one), (2, two), (3, three)] {
            assert!(off < bound(parts) + sums, "{parts} parts, {k} positions: {off}");
        }
        assert!(two * 4.0 < by_tf32 && by_tf32 < one, "{k} positions: {most:?}");
        assert!(two > three, "{k} positions: {most:?}");
    }
}

/// Where there are tiles, they give what is written here, but for how an instruction rounds.
#[test]
fn tiles_give_what_the_model_gives() {
    let (m, n, k) = (37, 45, 200);
    let (a, b) = (numbers(m * k, 4), numbers(k * n, 5));
    for products in [Products::F32, Products::Bf16x3].into_iter().filter(|_| KernelPath::Amx.is_supported()) {
        let parts = if products == Products::F32 { 3 } else { 2 };
        let mut builder = ProgramBuilder::new(KernelPath::Amx.with_products(products));
        let buffers = [builder.input(4 * m * k), builder.input(4 * k * n), builder.output(4 * m * n)];
        let view = |buffer, rows, columns| View::whole(buffer, DType::F32, [rows, columns]);
        let [left, right, result] = buffers;
        builder.push(MatMul::new(view(left, m, k), view(right, k, n), view(result, m, n)).unwrap());
        let (program, pool) = (builder.build().unwrap(), ThreadPool::new(2));
        let mut c = vec![0.0f32; m * n];
        let mut instance = program.instance(pool.threads()).unwrap();
        let buffers = [BufferRef::read(&a), BufferRef::read(&b), BufferRef::write(&mut c)];
        program.run(&mut instance, &pool, buffers).unwrap();
        for (i, found) in c.iter().enumerate() {
            let row = &a[i / n * k..][..k];
            let column: Vec<f32> = (0..k).map(|p| b[p * n + i % n]).collect();
            let (exact, size) = exact(row, &column);
            let model = dot(row, &column, parts);
            assert!(
                f64::from((found - model).abs()) < f64::exp2(-21.0) * size,
                "{parts} parts: {found}, {model}"
            );
            assert!(
                (f64::from(*found) - exact).abs() < bound(parts) * size,
                "{parts} parts: {found}, {exact}"
            );
        }
    }
}
