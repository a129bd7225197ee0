//! Sizes that cannot be counted or had are refused when a kernel or a program is built: they neither wrap to small
//! ones, which would be written past, nor end the process.

use outgrow_kernels::{
    Conv2d, Conv2dGradInput, Conv2dGradWeight, Instr, Kernel, KernelError, KernelPath, Literal, Map,
    ProgramBuilder, Reduce, ReduceOp, ReduceSpec, View, Window,
};
use outgrow_tensor::DType;

fn builder() -> ProgramBuilder {
    ProgramBuilder::new(KernelPath::detect())
}

/// Whether a program of this kernel over buffers of one cache line is refused: by the kernel, by the program, or when
/// its memory is asked for.
fn refused<K: Kernel + 'static>(kernel: Result<K, KernelError>) -> bool {
    let mut builder = builder();
    for _ in 0..3 {
        builder.output(64);
    }
    kernel
        .and_then(|kernel| {
            builder.push(kernel);
            builder.build()?.instance(2)
        })
        .is_err()
}

#[test]
fn an_arena_that_cannot_be_had_is_an_error() {
    for bytes in [1 << 61, isize::MAX as usize, usize::MAX - 3, usize::MAX] {
        let mut builder = builder();
        builder.arena(bytes);
        let error = builder.build().unwrap().instance(2).map(|_| ()).unwrap_err();
        assert_eq!(error, KernelError::Allocation { what: "arena", bytes });
    }
}

/// The partial sums of a reduction without outputs were counted as the outputs would be, modulo 2^64.
#[test]
fn a_reduction_that_nobody_reads_has_extents_too() {
    let reduce = |dims: &[usize], reduced: &[usize]| {
        Reduce::new(ReduceSpec {
            dims: dims.to_vec(),
            reduced: reduced.to_vec(),
            code: vec![Instr::Const(Literal::F32(1.0))],
            reductions: vec![(0, ReduceOp::Sum)],
            ..ReduceSpec::default()
        })
    };
    for dims in [[1 << 61, 2], [1 << 40, 1 << 40], [1 << 32, 1 << 32], [usize::MAX, usize::MAX]] {
        assert!(refused(reduce(&dims, &[1])), "{dims:?}");
        assert!(refused(reduce(&[0, dims[0], dims[1]], &[0])), "no times {dims:?}");
    }
    // What can be counted and not be had: the sums of 2^59 outputs.
    assert!(refused(reduce(&[1 << 59, 2], &[1])));
    assert!(!refused(reduce(&[8, 2], &[1])));
}

/// 2^64 elements in one: the extents' product wraps to nothing, and nothing has no elements to share.
#[test]
fn repeated_elements_are_counted() {
    let many = [1 << 32, 1 << 32];
    let view = |buffer| View::whole(buffer, DType::F32, [1]).broadcast(&many, &[0]);
    assert!(refused(Map::copy(view(0), view(1))));
    assert!(refused(Map::fill(Literal::F32(0.0), view(0))));
    let empty = |buffer| View::whole(buffer, DType::F32, [0, 1 << 40, 1 << 40]);
    assert!(refused(Map::copy(empty(0), empty(1))));
}

/// Padding belongs to no operand, so no view bounds it.
#[test]
fn windows_are_bounded() {
    let x = || View::whole(0, DType::F32, [1, 1, 2, 2]);
    let weight = || View::whole(1, DType::F32, [1, 1, 1, 1]);
    let far = usize::MAX / 2 - 8;
    let windows = [
        Window { strides: [far, 1], padding: [far, 0, 0, 0], dilation: [1; 2] },
        Window { strides: [far, far], padding: [0; 4], dilation: [1; 2] },
        Window { strides: [1; 2], padding: [0; 4], dilation: [usize::MAX, 1] },
    ];
    for window in windows {
        let y = || {
            let places = |axis: usize| {
                (2 + window.padding[2 * axis] + window.padding[2 * axis + 1] - 1) / window.strides[axis] + 1
            };
            View::whole(2, DType::F32, [1, 1, places(0), places(1)])
        };
        assert!(refused(Conv2d::new(x(), weight(), y(), window, 1)), "{window:?}");
        assert!(refused(Conv2dGradInput::new(y(), weight(), x(), window, 1)), "{window:?}");
        assert!(refused(Conv2dGradWeight::new(x(), y(), weight(), window, 1)), "{window:?}");
    }
    // Far too large a padding that leaves one place: a padded copy of it cannot be had.
    let far = 1 << 31;
    let window = Window { strides: [far; 2], padding: [far - 2, 0, far - 2, 0], dilation: [1; 2] };
    let y = || View::whole(2, DType::F32, [1, 1, 1, 1]);
    for built in [
        refused(Conv2d::new(x(), weight(), y(), window, 1)),
        refused(Conv2dGradInput::new(y(), weight(), x(), window, 1)),
        refused(Conv2dGradWeight::new(x(), y(), weight(), window, 1)),
    ] {
        assert!(!built, "a window that skips what it pads needs no copy of it");
    }
}
