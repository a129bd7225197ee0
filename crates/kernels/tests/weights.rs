//! Weights are packed once for all programs that share them. (That results have the same bits as with operands that are
//! packed in each run is checked for all cases of all other tests, by their common runner.)

use outgrow_kernels::{
    BufferRef, Conv2d, KernelError, KernelPath, MatMul, Program, ProgramBuilder, ThreadPool, View, Weight,
    Window,
};
use outgrow_tensor::{DType, RngKey, Tensor};
use std::sync::Arc;

const CHANNELS: usize = 40;
const SIDE: usize = 6;
const CLASSES: usize = 70;

fn weight(dims: &[usize], seed: u64) -> Arc<Weight> {
    let mut stream = RngKey::new(seed).stream();
    Arc::new(Weight::new(Tensor::from_f64(DType::F32, dims, |_| stream.normal())))
}

/// A convolution of `[batch, 3, SIDE, SIDE]`, and a product of what it gives with the transpose of `[CLASSES, ...]`.
fn program(batch: usize, [filters, matrix]: [&Arc<Weight>; 2]) -> Program {
    let mut builder = ProgramBuilder::new(KernelPath::detect());
    let inner = CHANNELS * SIDE * SIDE;
    let x = builder.input(4 * batch * 3 * SIDE * SIDE);
    let y = builder.output(4 * batch * CLASSES);
    let (f, m) = (builder.weight(filters), builder.weight(matrix));
    let h = builder.arena(4 * batch * inner);
    let view = |buffer, dims: &[usize]| View::whole(buffer, DType::F32, dims);
    let images = view(h, &[batch, CHANNELS, SIDE, SIDE]);
    let x = view(x, &[batch, 3, SIDE, SIDE]);
    builder.push(Conv2d::new(x, view(f, &[CHANNELS, 3, 3, 3]), images, Window::new(1, 1), 1).unwrap());
    let b = view(m, &[CLASSES, inner]).permuted(&[1, 0]);
    builder.push(MatMul::new(view(h, &[batch, inner]), b, view(y, &[batch, CLASSES])).unwrap());
    builder.build().unwrap()
}

fn run(program: &Program, batch: usize) -> Vec<f32> {
    let mut instance = program.instance(1).unwrap();
    let mut stream = RngKey::new(9).stream();
    let x: Vec<f32> = (0..batch * 3 * SIDE * SIDE).map(|_| stream.uniform() as f32).collect();
    let mut y = vec![0.0; batch * CLASSES];
    program.run(&mut instance, &ThreadPool::new(1), [BufferRef::read(&x), BufferRef::write(&mut y)]).unwrap();
    y
}

#[test]
fn programs_for_all_batch_sizes_share_packed_weights() {
    let (filters, matrix) = (weight(&[CHANNELS, 3, 3, 3], 1), weight(&[CLASSES, CHANNELS * SIDE * SIDE], 2));
    assert_eq!((filters.packed_bytes(), matrix.packed_bytes()), (0, 0));
    let sizes = [1, 3, 8, 40];
    let programs = sizes.map(|batch| {
        let program = program(batch, [&filters, &matrix]);
        let (f, m) = (filters.packed_bytes(), matrix.packed_bytes());
        let (of_f, of_m) = (filters.tensor().bytes(), matrix.tensor().bytes());
        assert!(of_f <= f && f < of_f + 64, "filters of {of_f} bytes are packed in {f} for {batch}");
        assert!(of_m <= m && m < of_m + of_m / 4, "a matrix of {of_m} bytes is packed in {m} for {batch}");
        assert_eq!(program.constant_bytes(), 0);
        program
    });
    // A row's bits hang on neither the batch nor who packed.
    let rows = run(&programs[3], 40);
    for (program, batch) in programs.iter().zip(sizes) {
        assert_eq!(run(program, batch), rows[..batch * CLASSES], "batch {batch}");
    }
    let own = [weight(&[CHANNELS, 3, 3, 3], 1), weight(&[CLASSES, CHANNELS * SIDE * SIDE], 2)];
    assert_eq!(run(&program(3, [&own[0], &own[1]]), 3), rows[..3 * CLASSES]);
}

#[test]
fn a_matrix_of_bf16_is_packed_once() {
    let (inner, mut stream) = (64, RngKey::new(4).stream());
    let tensor = Tensor::from_f64(DType::BF16, [inner, CLASSES], |_| stream.normal());
    let weight = Arc::new(Weight::new(tensor));
    for batch in [1, 5] {
        let mut builder = ProgramBuilder::new(KernelPath::detect());
        let (x, w) = (builder.input(2 * batch * inner), builder.weight(&weight));
        let y = builder.output(4 * batch * CLASSES);
        let (a, b) =
            (View::whole(x, DType::BF16, [batch, inner]), View::whole(w, DType::BF16, [inner, CLASSES]));
        builder.push(MatMul::new(a, b, View::whole(y, DType::F32, [batch, CLASSES])).unwrap());
        builder.build().unwrap();
        // As f32, or in pairs of bf16 where the processor multiplies these.
        let packed =
            weight.packed_bytes() / if KernelPath::detect() == KernelPath::Avx512Bf16 { 2 } else { 4 };
        assert!((inner * CLASSES..inner * CLASSES * 5 / 4).contains(&packed), "{packed} for {batch}");
    }
}

/// On each path as much of a filter of bf16 is packed as is said beforehand.
#[test]
fn filters_of_bf16_are_packed_in_the_bytes_that_are_said() {
    let dims = [CHANNELS, 20, 3, 3];
    let mut stream = RngKey::new(5).stream();
    let tensor = Tensor::from_f64(DType::BF16, dims, |_| stream.normal());
    for path in KernelPath::supported() {
        let weight = Arc::new(Weight::new(tensor.clone()));
        let mut builder = ProgramBuilder::new(path);
        let (x, w) = (builder.input(2 * 20 * 16 * 16), builder.weight(&weight));
        let y = builder.output(4 * CHANNELS * 16 * 16);
        let x = View::whole(x, DType::BF16, [1, 20, 16, 16]);
        let y = View::whole(y, DType::F32, [1, CHANNELS, 16, 16]);
        builder.push(Conv2d::new(x, View::whole(w, DType::BF16, dims), y, Window::new(1, 1), 1).unwrap());
        builder.build().unwrap();
        let (packed, said) = (weight.packed_bytes(), weight.copy_bytes(path));
        assert!((said..said + 64).contains(&packed), "{packed} for {said} on {path}");
    }
}

#[test]
fn a_weight_is_not_written() {
    let weight = weight(&[4, 4], 1);
    let mut builder = ProgramBuilder::new(KernelPath::detect());
    let (x, w) = (builder.input(64), builder.weight(&weight));
    let view = |buffer| View::whole(buffer, DType::F32, [4, 4]);
    builder.push(MatMul::new(view(x), view(x), view(w)).unwrap());
    assert!(matches!(builder.build(), Err(KernelError::Memory { .. })));
}
