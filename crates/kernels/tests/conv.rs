//! Convolutions and pooling against sums over the products of the definition.

mod common;

use common::{Case, Data, Value, close, indices, kernel_case, position, round, run_case};
use outgrow_kernels::{
    BinaryOp, Conv2d, Conv2dGradInput, Conv2dGradWeight, Finish, Instr, KernelPath, Literal, Map,
    MaxPool2dGrad, Pool2d, PoolKind, ProgramBuilder, View, Window,
};
use outgrow_tensor::{DType, RngKey};

/// A convolution's extents.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    channels: usize,
    image: [usize; 2],
    out: usize,
    kernel: [usize; 2],
    groups: usize,
    window: Window,
}

impl Sizes {
    fn x(&self) -> [usize; 4] {
        [self.batch, self.channels, self.image[0], self.image[1]]
    }
    fn weight(&self) -> [usize; 4] {
        [self.out, self.channels / self.groups, self.kernel[0], self.kernel[1]]
    }
    fn y(&self) -> Option<[usize; 4]> {
        let places = |axis| self.window.places(axis, self.image[axis], self.kernel[axis]);
        Some([self.batch, self.out, places(0)?, places(1)?])
    }

    /// Calls `visit(x, weight, y)` with the indices of every product.
    fn products(&self, mut visit: impl FnMut([usize; 4], [usize; 4], [usize; 4])) {
        let [_, per_group, kh, kw] = self.weight();
        let y = self.y().unwrap();
        let source = |axis: usize, p: usize, k: usize| {
            let at = (p * self.window.strides[axis] + k * self.window.dilation[axis])
                .checked_sub(self.window.padding[2 * axis])?;
            (at < self.image[axis]).then_some(at)
        };
        for b in 0..self.batch {
            for o in 0..self.out {
                for (c, i, j) in (0..per_group * kh * kw).map(|k| (k / (kh * kw), k / kw % kh, k % kw)) {
                    let channel = o / (self.out / self.groups) * per_group + c;
                    for h in 0..y[2] {
                        for w in 0..y[3] {
                            if let (Some(row), Some(column)) = (source(0, h, i), source(1, w, j)) {
                                visit([b, channel, row, column], [o, c, i, j], [b, o, h, w]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A row-major view, or one whose channels lie innermost.
fn layout(buffer: u32, dtype: DType, dims: [usize; 4], channels_last: bool) -> View {
    if channels_last {
        let [n, c, h, w] = dims;
        View::whole(buffer, dtype, [n, h, w, c]).permuted(&[0, 3, 1, 2])
    } else {
        View::whole(buffer, dtype, dims)
    }
}

/// Runs all three directions and compares them with sums in f64.
fn check(sizes: Sizes, dtype: DType, channels_last: bool) {
    check_types(sizes, [dtype; 3], channels_last);
}

/// Runs all three directions on x, weights and y of these types and compares them with sums in f64 of products of the
/// operands, rounded to bf16 if one of the three is of it. What no window reads is infinite.
fn check_types(sizes: Sizes, dtypes: [DType; 3], channels_last: bool) {
    let Some(y_dims) = sizes.y() else { return };
    let narrow = dtypes.contains(&DType::BF16);
    let sum_type = if narrow { DType::F32 } else { dtypes[0] };
    let mut rng = RngKey::new(31).stream();
    let dims = [sizes.x(), sizes.weight(), y_dims];
    let count = |d: [usize; 4]| d.iter().product::<usize>();
    let mut data: Vec<Data> =
        dims.iter().zip(dtypes).map(|(&d, dtype)| Data::random(dtype, count(d), &mut rng)).collect();
    data.extend(dims.iter().map(|&d| Data::floats(sum_type, vec![9.0; count(d)])));
    let dtype = |i: usize| dtypes.get(i).copied().unwrap_or(sum_type);
    let view = |i: usize| layout(i as u32, dtype(i), dims[i % 3], channels_last);
    let build = |b: &mut ProgramBuilder| {
        b.push(Conv2d::new(view(0), view(1), view(5), sizes.window, sizes.groups).unwrap());
        b.push(Conv2dGradInput::new(view(2), view(1), view(3), sizes.window, sizes.groups).unwrap());
        b.push(Conv2dGradWeight::new(view(0), view(2), view(4), sizes.window, sizes.groups).unwrap());
    };
    let mut sums: Vec<Vec<(f64, f64)>> = dims.iter().map(|&d| vec![(0.0, 1e-30); count(d)]).collect();
    let views: Vec<View> = (0..3).map(view).collect();
    let mut is_read = vec![false; count(dims[0])];
    sizes.products(|x, _, _| is_read[position(&views[0], &x)] = true);
    let number =
        |(at, is_read): (usize, &bool)| if *is_read { data[0].get(at).float() } else { f64::INFINITY };
    let x = Data::floats(dtypes[0], is_read.iter().enumerate().map(number));
    data[0] = x;
    sizes.products(|x, w, y| {
        let at = [position(&views[0], &x), position(&views[1], &w), position(&views[2], &y)];
        for i in 0..3 {
            let value = |j: usize| data[j].get(at[j]);
            let is_narrow = (0..3).any(|j| j != i && dtypes[j] == DType::BF16);
            let number = |j| if is_narrow { round(DType::BF16, value(j)) } else { value(j) }.float();
            let product: f64 = (0..3).filter(|&j| j != i).map(number).product();
            sums[i][at[i]].0 += product;
            sums[i][at[i]].1 += product.abs();
        }
    });
    for (path, after) in run_case(&Case { data: data.clone(), build: &build }).unwrap() {
        for i in 0..3 {
            let name = ["grad_input", "grad_weight", "forward"][i];
            for (at, &(sum, magnitude)) in sums[i].iter().enumerate() {
                let got = after[3 + i].get(at).float();
                let right = close(got, sum, 0.0, 2e-6 * magnitude);
                assert!(right, "{name} of {sizes:?} {dtypes:?} on {path}: at {at} is {got}, expected {sum}");
            }
        }
    }
}

fn windows() -> Vec<Window> {
    vec![
        Window::default(),
        Window::new(1, 1),
        Window::new(2, 1),
        Window::new(2, 0),
        Window { strides: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2] },
        Window { strides: [3, 2], padding: [0, 2, 1, 1], dilation: [2, 1] },
        Window { strides: [1, 3], padding: [2, 2, 2, 2], dilation: [2, 2] },
    ]
}

#[test]
fn windows_groups_and_kernels() {
    for window in windows() {
        for (channels, out, groups, kernel) in
            [(2, 3, 1, [3, 3]), (4, 4, 2, [1, 2]), (3, 6, 3, [3, 1]), (5, 7, 1, [1, 1]), (3, 2, 1, [5, 5])]
        {
            for image in [[6, 7], [9, 4]] {
                check(Sizes { batch: 2, channels, image, out, kernel, groups, window }, DType::F32, false);
            }
        }
    }
}

#[test]
fn layouts_and_types() {
    for window in windows() {
        let sizes = Sizes { batch: 2, channels: 4, image: [6, 7], out: 6, kernel: [3, 3], groups: 2, window };
        check(sizes, DType::F32, true);
        check(sizes, DType::F64, false);
    }
}

/// Sizes at which tiles of outputs, channels and places are full, ragged, and cut by threads and chunks.
#[test]
fn larger_extents() {
    let sizes = |batch, channels, image, out, kernel, window| Sizes {
        batch,
        channels,
        image: [image; 2],
        out,
        kernel: [kernel; 2],
        groups: 1,
        window,
    };
    for case in [
        sizes(5, 17, 11, 35, 3, Window::new(1, 1)),
        sizes(3, 40, 8, 33, 3, Window::new(2, 1)),
        sizes(9, 33, 4, 70, 3, Window::new(1, 1)),
        sizes(4, 64, 9, 20, 1, Window::new(2, 0)),
        sizes(1, 3, 40, 16, 7, Window::new(2, 3)),
        sizes(33, 6, 14, 16, 5, Window::default()),
        // Vectors that hold images: in bands of rows, with steps, and with padding that no image reaches.
        sizes(33, 8, 18, 24, 3, Window::new(1, 1)),
        sizes(35, 9, 21, 12, 3, Window::new(2, 1)),
        sizes(34, 8, 6, 5, 3, Window { padding: [4, 3, 3, 5], ..Window::default() }),
        // Tiles of 4x4 that reach over the edges, in several chunks, and with more channels than are summed at a time.
        sizes(2, 16, 7, 16, 3, Window::new(1, 2)),
        sizes(41, 16, 16, 19, 3, Window::new(1, 1)),
        sizes(3, 300, 5, 17, 3, Window::new(1, 1)),
        sizes(2, 16, 12, 300, 3, Window { padding: [2, 0, 1, 3], ..Window::default() }),
        sizes(2, 16, 12, 16, 3, Window { padding: [4, 3, 3, 5], ..Window::default() }),
        sizes(0, 16, 12, 16, 3, Window::new(1, 1)),
        sizes(33, 16, 4, 16, 3, Window::new(1, 1)),
        // Many channels and few tiles: weights' values, and sums of their gradients, are made some at a time.
        sizes(33, 200, 4, 170, 3, Window::new(1, 1)),
        sizes(9, 130, 7, 200, 3, Window::new(1, 1)),
        // More taps than half of two blocks: fewer channels than the inner dimension would have blocks.
        sizes(1, 2, 29, 4, 27, Window::default()),
        sizes(1, 1, 1, 1, 1, Window::default()),
        sizes(0, 3, 5, 4, 3, Window::default()),
    ] {
        check(case, DType::F32, false);
    }
    check(sizes(35, 9, 21, 12, 3, Window::new(2, 1)), DType::F32, true);
    check(sizes(33, 8, 10, 12, 3, Window::new(1, 1)), DType::F32, true);
}

/// Products of bf16, from operands of bf16 or of f32 that are rounded: all layouts, odd numbers of channels, strides.
#[test]
fn products_of_bf16() {
    let (wide, narrow) = (DType::F32, DType::BF16);
    let types = [
        [narrow; 3],
        [wide, narrow, wide],
        [narrow, wide, wide],
        [narrow, narrow, wide],
        [wide, wide, narrow],
    ];
    let sizes = |batch, channels, image, out, kernel, groups, window| Sizes {
        batch,
        channels,
        image,
        out,
        kernel: [kernel; 2],
        groups,
        window,
    };
    for window in windows() {
        for (i, types) in types.into_iter().enumerate() {
            check_types(sizes(2, 5, [9, 7], 6, 3, 1, window), types, i % 2 == 1);
            check_types(sizes(2, 6, [6, 20], 9, 1 + i % 2, 3, window), types, false);
        }
    }
    for case in [
        sizes(3, 40, [8, 8], 33, 3, 1, Window::new(2, 1)),
        sizes(9, 33, [4, 4], 70, 3, 1, Window::new(1, 1)),
        sizes(4, 65, [9, 9], 20, 1, 1, Window::new(2, 0)),
        sizes(2, 67, [9, 9], 50, 1, 1, Window::default()),
        sizes(1, 1100, [3, 5], 30, 1, 1, Window::default()),
        sizes(1, 3, [40, 40], 16, 7, 1, Window::new(2, 3)),
        sizes(3, 300, [5, 5], 17, 3, 1, Window::new(1, 1)),
        sizes(2, 16, [40, 12], 16, 3, 1, Window::new(1, 1)),
        sizes(2, 12, [12, 12], 12, 3, 12, Window::new(1, 1)),
        sizes(0, 16, [12, 12], 16, 3, 1, Window::new(1, 1)),
        // Odd numbers of places, behind which there is a column that no window reads.
        sizes(2, 5, [9, 8], 6, 3, 1, Window::new(2, 0)),
        sizes(2, 5, [9, 14], 6, 1, 1, Window::new(2, 0)),
        sizes(2, 5, [9, 18], 6, 4, 1, Window::new(3, 1)),
        // Bands of rows, blocks of images of which the last is not full, and chunks of channels.
        sizes(3, 5, [40, 37], 6, 3, 1, Window::new(1, 1)),
        sizes(5, 16, [40, 12], 8, 3, 1, Window::new(1, 1)),
        sizes(2, 400, [20, 21], 4, 3, 1, Window::new(1, 1)),
    ] {
        check_types(case, [narrow; 3], false);
        check_types(case, [wide, narrow, wide], false);
    }
}

/// Winograd's algorithm reads bf16, and f32 that it rounds, as if another step had made f32 of it.
#[test]
fn tiles_of_bf16_have_the_bits_of_widened_ones() {
    let (wide, narrow) = (DType::F32, DType::BF16);
    let sizes = |batch, channels, image, out| Sizes {
        batch,
        channels,
        image,
        out,
        kernel: [3; 2],
        groups: 1,
        window: Window { padding: [1, 2, 1, 0], ..Window::default() },
    };
    let mut rng = RngKey::new(36).stream();
    // The last: so many weights that their values at the points are made where they are used, and the sums at the points
    // too; and the same with so many tiles that they are not.
    for (case, channels_last) in [
        (sizes(3, 20, [10, 9], 24), false),
        (sizes(2, 33, [7, 21], 17), true),
        (sizes(0, 16, [9, 9], 16), false),
        (sizes(3, 180, [9, 8], 170), false),
        (sizes(24, 110, [13, 12], 101), false),
    ] {
        let dims = [case.x(), case.weight(), case.y().unwrap()];
        for types in [[narrow; 2], [wide, narrow], [narrow, wide]] {
            // The operands of each direction, the directions' results behind them.
            let operands = [[0, 1], [2, 1], [0, 2]];
            let mut data = Vec::new();
            for operands in operands {
                let count = |i: usize| dims[i].iter().product::<usize>();
                data.extend([0, 1].map(|i| Data::random(types[i], count(operands[i]), &mut rng)));
            }
            let results = [2, 0, 1].map(|i| Data::zeros(wide, dims[i].iter().product()));
            let rounded =
                |data: &Data| Data::floats(wide, (0..data.len).map(|i| round(narrow, data.get(i)).float()));
            let mut widened: Vec<Data> = data.iter().map(rounded).collect();
            data.extend(results.clone());
            widened.extend(results);
            let run = |data: Vec<Data>| {
                let of: Vec<DType> = data.iter().map(|data| data.dtype).collect();
                let view = |i: usize| {
                    let role = if i < 6 { operands[i / 2][i % 2] } else { [2, 0, 1][i - 6] };
                    layout(i as u32, of[i], dims[role], channels_last)
                };
                let build = |b: &mut ProgramBuilder| {
                    b.push(Conv2d::new(view(0), view(1), view(6), case.window, 1).unwrap());
                    b.push(Conv2dGradInput::new(view(2), view(3), view(7), case.window, 1).unwrap());
                    b.push(Conv2dGradWeight::new(view(4), view(5), view(8), case.window, 1).unwrap());
                };
                run_case(&Case { data, build: &build }).unwrap()
            };
            for ((path, as_they_are), (_, widened)) in run(data).iter().zip(&run(widened)) {
                // Others multiply pairs of bf16.
                if !matches!(path, KernelPath::Portable | KernelPath::Avx2 | KernelPath::Avx512) {
                    continue;
                }
                for (i, name) in [(6, "forward"), (7, "grad_input"), (8, "grad_weight")] {
                    let same = as_they_are[i].as_bytes() == widened[i].as_bytes();
                    assert!(same, "{name} of {case:?}, {types:?} on {path}");
                }
            }
        }
    }
}

/// Each channel by itself: places that fill vectors, and are cut by bands of rows; windows that reach over edges.
#[test]
fn channels_by_themselves() {
    let sizes = |batch, channels, image, out, kernel, window| Sizes {
        batch,
        channels,
        image,
        out,
        kernel: [kernel; 2],
        groups: channels,
        window,
    };
    for window in windows() {
        for image in [[7, 7], [10, 33], [21, 70]] {
            check(sizes(2, 3, image, 3, 3, window), DType::F32, false);
            check(sizes(1, 2, image, 6, 5, window), DType::F32, false);
            check(sizes(1, 3, image, 3, 3, window), DType::F32, true);
        }
    }
    // Images of which windows see more than there is.
    for window in [Window::new(1, 1), Window::new(1, 5), Window::new(2, 1), Window::new(2, 4)] {
        for image in [[1, 1], [1, 3], [3, 1], [2, 2], [5, 2], [1, 17]] {
            check(sizes(2, 3, image, 6, 3, window), DType::F32, false);
        }
    }
    check(sizes(1, 2, [300, 130], 2, 3, Window::new(1, 1)), DType::F32, false);
    check(sizes(1, 2, [40, 40], 2, 3, Window { dilation: [1, 18], ..Window::default() }), DType::F32, false);
    check(sizes(0, 4, [9, 9], 4, 3, Window::new(1, 1)), DType::F32, false);
    check(sizes(1, 4, [3, 3], 4, 3, Window::new(5, 7)), DType::F32, false);
}

#[test]
fn layouts_with_many_channels() {
    let window = Window { padding: [1, 2, 1, 0], ..Window::default() };
    let sizes = Sizes { batch: 3, channels: 18, image: [9, 14], out: 21, kernel: [3, 3], groups: 1, window };
    check(sizes, DType::F32, true);
}

/// Fewer multiplications than the definition has give up little accuracy: the error's root mean square is held against
/// that of a plain sum of f32. Where channels and images are scaled badly, sums are of few terms really, and a plain sum
/// has little error.
#[test]
fn fewer_multiplications_are_about_as_accurate() {
    let (batch, channels, image, out) = (2, 64, 12, 64);
    let sizes = Sizes {
        batch,
        channels,
        image: [image; 2],
        out,
        kernel: [3; 2],
        groups: 1,
        window: Window::new(1, 1),
    };
    let count = |d: [usize; 4]| d.iter().product::<usize>();
    let dims = [sizes.x(), sizes.weight(), sizes.y().unwrap()];
    for scaled in [false, true] {
        let mut rng = RngKey::new(34).stream();
        let mut random = |d: [usize; 4], group: usize| {
            let mut scale = 1.0;
            let values = (0..count(d)).map(|i| {
                if scaled && i % group == 0 {
                    scale = f64::from(10.0f32).powi(rng.below(9) as i32 - 4);
                }
                rng.normal() * scale
            });
            Data::floats(DType::F32, values)
        };
        // A channel of an image; the weights of a result channel.
        let data =
            [random(dims[0], image * image), random(dims[1], channels * 9), random(dims[2], image * image)];
        // Sums in f64 and in f32, and what they are sums of.
        let mut sums = dims.map(|d| vec![(0.0f64, 0.0f32, 0.0f64); count(d)]);
        let views = [0, 1, 2].map(|i| layout(i as u32, DType::F32, dims[i], false));
        sizes.products(|x, w, y| {
            let at = [position(&views[0], &x), position(&views[1], &w), position(&views[2], &y)];
            let values = [0, 1, 2].map(|i| data[i].get(at[i]).float());
            for i in 0..3 {
                let [a, b] = [values[(i + 1) % 3], values[(i + 2) % 3]];
                let sum = &mut sums[i][at[i]];
                *sum = (sum.0 + a * b, sum.1 + a as f32 * b as f32, sum.2 + (a * b).abs());
            }
        });
        let mut all = data.to_vec();
        all.extend(dims.map(|d| Data::zeros(DType::F32, count(d))));
        let view = |i: usize| layout(i as u32, DType::F32, dims[i % 3], false);
        let build = |b: &mut ProgramBuilder| {
            b.push(Conv2d::new(view(0), view(1), view(5), sizes.window, 1).unwrap().together());
            b.push(Conv2dGradInput::new(view(2), view(1), view(3), sizes.window, 1).unwrap().together());
            b.push(Conv2dGradWeight::new(view(0), view(2), view(4), sizes.window, 1).unwrap());
        };
        for (path, after) in run_case(&Case { data: all, build: &build }).unwrap() {
            for i in 0..3 {
                // Relative to what each sum is of, so that no scale hides another.
                let errors = sums[i].iter().enumerate().map(|(at, &(right, plain, magnitude))| {
                    let relative = |value: f64| ((value - right) / magnitude).powi(2);
                    (relative(after[3 + i].get(at).float()), relative(f64::from(plain)))
                });
                let (ours, plain) = errors.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
                let ratio = (ours / plain).sqrt();
                let name = ["grad_input", "grad_weight", "forward"][i];
                assert!(ratio < if scaled { 5.0 } else { 3.0 }, "{name} on {path}, scaled {scaled}: {ratio}");
            }
        }
    }
}

/// Forward results and input gradients of an image do not depend on the other images of the batch.
#[test]
fn images_are_computed_alike_alone_and_together() {
    let mut rng = RngKey::new(32).stream();
    // The last: so many weights that it matters to algorithms how many images there are for them.
    for (window, images, channels, image, out, groups) in [
        (Window::new(1, 1), 4, 20, [10, 9], 24, 1),
        (Window::new(2, 1), 4, 20, [10, 9], 24, 1),
        (Window::new(2, 1), 4, 20, [10, 9], 20, 20),
        (Window::new(1, 1), 40, 140, [8, 8], 100, 1),
        // Few channels and short rows: vectors hold images, as long as there are enough of them.
        (Window::default(), 70, 8, [11, 12], 12, 1),
        (Window::new(2, 1), 67, 16, [13, 21], 12, 2),
    ] {
        let sizes = |batch| Sizes { batch, channels, image, out, kernel: [3; 2], groups, window };
        let count = |d: [usize; 4]| d.iter().product::<usize>();
        let all = sizes(images);
        let x = Data::random(DType::F32, count(all.x()), &mut rng);
        let w = Data::random(DType::F32, count(all.weight()), &mut rng);
        let y = Data::random(DType::F32, count(all.y().unwrap()), &mut rng);
        let run = |s: Sizes, x: &Data, y: &Data| {
            let view = |i, d| View::whole(i, DType::F32, d);
            let out = Data::zeros(DType::F32, y.len);
            let dx = Data::zeros(DType::F32, x.len);
            let build = |b: &mut ProgramBuilder| {
                let (xv, wv, yv) = (view(0, s.x()), view(1, s.weight()), view(2, s.y().unwrap()));
                b.push(Conv2d::new(xv, wv.clone(), view(3, s.y().unwrap()), s.window, groups).unwrap());
                b.push(Conv2dGradInput::new(yv, wv, view(4, s.x()), s.window, groups).unwrap());
            };
            run_case(&Case { data: vec![x.clone(), w.clone(), y.clone(), out, dx], build: &build }).unwrap()
        };
        let together = run(all, &x, &y);
        for image in 0..images {
            let part = |d: &Data| {
                let n = d.len / images;
                Data::from(DType::F32, (0..n).map(|i| d.get(image * n + i)))
            };
            for ((path, alone), (_, together)) in run(sizes(1), &part(&x), &part(&y)).iter().zip(&together) {
                for out in [3, 4] {
                    assert!(
                        alone[out].as_bytes() == part(&together[out]).as_bytes(),
                        "output {out} on {path}"
                    );
                }
            }
        }
    }
}

/// What follows a convolution element by element gives the same bits with it as after it, whichever way it is computed.
#[test]
fn finished_sums_have_the_bits_of_separate_steps() {
    let mut rng = RngKey::new(35).stream();
    for (batch, channels, image, out, kernel, groups, window) in [
        // Depthwise: whole and ragged vectors, both strides, and windows of another extent.
        (3, 6, [9, 21], 6, 3, 6, Window::new(1, 1)),
        (3, 6, [16, 7], 12, 3, 6, Window::new(2, 1)),
        (3, 6, [9, 21], 6, 5, 6, Window::new(1, 2)),
        // Products: with the image as it is, in one and several blocks, and with patches.
        (3, 20, [9, 7], 37, 1, 1, Window::default()),
        (3, 900, [5, 7], 50, 1, 1, Window::default()),
        // The same in whole tiles and with ragged ones behind them: many panels of columns held together, two, and none.
        (3, 16, [16, 40], 45, 1, 1, Window::default()),
        (3, 100, [9, 12], 20, 1, 1, Window::default()),
        (3, 1300, [8, 13], 31, 1, 1, Window::default()),
        (3, 20, [9, 8], 37, 1, 1, Window::new(2, 0)),
        (3, 12, [24, 30], 20, 3, 2, Window::new(2, 1)),
        // Tiles, and loops.
        (3, 64, [12, 13], 64, 3, 1, Window::new(1, 1)),
        (3, 4, [6, 6], 4, 2, 2, Window::default()),
        // Vectors that hold images.
        (33, 8, [11, 12], 12, 3, 1, Window::default()),
    ] {
        let sizes = Sizes { batch, channels, image, out, kernel: [kernel; 2], groups, window };
        let (x, w, y) = (sizes.x(), sizes.weight(), sizes.y().unwrap());
        let count = |d: [usize; 4]| d.iter().product::<usize>();
        for (bias, residual, low, high) in [
            (true, false, f32::NEG_INFINITY, f32::INFINITY),
            (false, true, 0.0, f32::INFINITY),
            (true, true, 0.0, 3.0),
        ] {
            let mut data: Vec<Data> =
                [count(x), count(w), out, count(y)].map(|n| Data::random(DType::F32, n, &mut rng)).to_vec();
            data[0].set(1, Value::Float(f64::NAN));
            data.extend([count(y); 5].map(|n| Data::zeros(DType::F32, n)));
            let view = |i: u32, d: [usize; 4]| View::whole(i, DType::F32, d);
            let bias_view = View::whole(2, DType::F32, [out]);
            let build = |b: &mut ProgramBuilder| {
                let conv = |to| Conv2d::new(view(0, x), view(1, w), view(to, y), window, groups).unwrap();
                b.push(conv(4));
                let mut code = vec![Instr::Load(0)];
                let mut inputs = vec![view(4, y)];
                let mut add = |input: View, code: &mut Vec<Instr>| {
                    inputs.push(input);
                    code.push(Instr::Load(inputs.len() - 1));
                    code.push(Instr::Binary(BinaryOp::Add, code.len() - 2, code.len() - 1));
                };
                if bias {
                    add(bias_view.broadcast(&y, &[1]), &mut code);
                }
                if residual {
                    add(view(3, y), &mut code);
                }
                code.push(Instr::Const(Literal::F32(low)));
                code.push(Instr::Binary(BinaryOp::Max, code.len() - 1, code.len() - 2));
                code.push(Instr::Const(Literal::F32(high)));
                code.push(Instr::Binary(BinaryOp::Min, code.len() - 2, code.len() - 1));
                code.push(Instr::Cast(code.len() - 1, DType::BF16));
                code.push(Instr::Cast(code.len() - 1, DType::F32));
                let outputs = vec![(code.len() - 3, view(5, y)), (code.len() - 1, view(7, y))];
                b.push(Map::new(&y, &code, inputs, outputs).unwrap());
                for (to, rounded) in [(6, false), (8, true)] {
                    let finish = Finish {
                        bias: bias.then(|| bias_view.clone()),
                        residual: residual.then(|| view(3, y)),
                        low,
                        zero_is_positive: false,
                        high,
                        rounded,
                    };
                    b.push(conv(to).finished(finish).unwrap());
                }
            };
            for (path, after) in run_case(&Case { data: data.clone(), build: &build }).unwrap() {
                for to in [5, 7] {
                    let same = after[to].as_bytes() == after[to + 1].as_bytes();
                    assert!(same, "{sizes:?} {bias} {residual} {to} on {path}");
                }
            }
        }
    }
}

/// Of two zeros a maximum gives its second operand, and so do bounds, whichever operand the sums are.
#[test]
fn bounded_zeros_have_the_sign_that_a_separate_step_gives_them() {
    for (kernel, groups) in [(1, 1), (3, 4), (5, 4)] {
        let (window, image) = (Window::default(), [6, 21]);
        let sizes = Sizes { batch: 1, channels: 4, image, out: 4, kernel: [kernel; 2], groups, window };
        let (x, w, y) = (sizes.x(), sizes.weight(), sizes.y().unwrap());
        let count = |d: [usize; 4]| d.iter().product::<usize>();
        // Products too small to be counted: where they are added unrounded, the sums are minus zero.
        let tiny = |d: [usize; 4], sign: f64| Data::floats(DType::F32, vec![sign * 1e-30; count(d)]);
        for sums_first in [false, true] {
            let mut data = vec![tiny(x, 1.0), tiny(w, -1.0)];
            data.extend([count(y); 3].map(|n| Data::floats(DType::F32, vec![9.0; n])));
            let view = |i: u32, d: [usize; 4]| View::whole(i, DType::F32, d);
            let build = |b: &mut ProgramBuilder| {
                let conv = |to| Conv2d::new(view(0, x), view(1, w), view(to, y), window, groups).unwrap();
                b.push(conv(2));
                let operands = if sums_first { [0, 1] } else { [1, 0] };
                let max = Instr::Binary(BinaryOp::Max, operands[0], operands[1]);
                let code = [Instr::Load(0), Instr::Const(Literal::F32(0.0)), max];
                b.push(Map::new(&y, &code, vec![view(2, y)], vec![(2, view(3, y))]).unwrap());
                let high = f32::INFINITY;
                let finish = Finish {
                    bias: None,
                    residual: None,
                    low: 0.0,
                    zero_is_positive: sums_first,
                    high,
                    rounded: false,
                };
                b.push(conv(4).finished(finish).unwrap());
            };
            for (path, after) in run_case(&Case { data: data.clone(), build: &build }).unwrap() {
                assert!(after[3].as_bytes() == after[4].as_bytes(), "{sizes:?} {sums_first} on {path}");
                // There each sum is one chain from zero on.
                if path == KernelPath::Avx2 && kernel == 3 {
                    assert_eq!(after[4].get(0).float().is_sign_negative(), !sums_first, "{sizes:?}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_sums_is_refused() {
    let view = |d: &[usize]| View::whole(0, DType::F32, d);
    let conv = || {
        let (x, w, y) = (view(&[1, 2, 5, 5]), view(&[3, 2, 3, 3]), View::whole(1, DType::F32, [1, 3, 3, 3]));
        Conv2d::new(x, w, y, Window::default(), 1).unwrap()
    };
    let finish =
        Finish { bias: None, residual: None, low: 0.0, zero_is_positive: true, high: 6.0, rounded: false };
    assert!(conv().finished(finish.clone()).is_ok());
    for (bias, residual) in [
        (Some(view(&[2])), None),
        (Some(view(&[3, 1])), None),
        (None, Some(view(&[1, 3, 3, 2]))),
        (None, Some(view(&[1, 3, 3, 3]).permuted(&[0, 1, 3, 2]))),
    ] {
        assert!(conv().finished(Finish { bias, residual, ..finish.clone() }).is_err());
    }
}

#[test]
fn pooling() {
    let mut rng = RngKey::new(33).stream();
    for (size, window, dims) in [
        ([2, 2], Window::new(2, 0), [2, 3, 6, 6]),
        ([2, 2], Window::new(2, 0), [2, 3, 5, 9]),
        ([2, 2], Window::new(2, 0), [1, 2, 4, 13]),
        ([2, 2], Window::new(2, 0), [1, 3, 4, 17]),
        ([2, 2], Window::new(2, 0), [1, 2, 7, 39]),
        ([3, 3], Window::new(2, 1), [1, 2, 7, 5]),
        ([2, 3], Window::new(1, 1), [2, 1, 4, 4]),
        ([2, 2], Window::new(3, 0), [1, 1, 8, 7]),
        ([1, 1], Window::default(), [1, 1, 1, 1]),
        ([3, 2], Window { strides: [2, 1], padding: [1, 2, 0, 1], dilation: [1, 2] }, [3, 20, 9, 33]),
        ([7, 7], Window::default(), [2, 40, 7, 7]),
        ([3, 3], Window::new(2, 1), [1, 2, 20, 37]),
        ([3, 3], Window::new(1, 2), [1, 2, 5, 6]),
    ] {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            for channels_last in [false, true] {
                let places = [0, 1].map(|a| window.places(a, dims[2 + a], size[a]).unwrap());
                let y_dims = [dims[0], dims[1], places[0], places[1]];
                let n = dims.iter().product::<usize>();
                let ny = y_dims.iter().product::<usize>();
                // Few distinct values make ties; one NaN.
                let mut x = Data::floats(dtype, (0..n).map(|_| rng.below(5) as f64 - 2.0));
                x.set(n / 2, Value::Float(f64::NAN));
                let dy = Data::floats(dtype, (0..ny).map(|_| rng.below(5) as f64 - 1.0));
                let data = vec![x, dy, Data::zeros(dtype, ny), Data::zeros(dtype, ny), Data::zeros(dtype, n)];
                let xs = |i| layout(i, dtype, dims, channels_last);
                let ys = |i| layout(i, dtype, y_dims, channels_last);
                let build = |b: &mut ProgramBuilder| {
                    b.push(Pool2d::new(PoolKind::Max, xs(0), ys(2), size, window).unwrap());
                    b.push(Pool2d::new(PoolKind::Sum, xs(0), ys(3), size, window).unwrap());
                    b.push(MaxPool2dGrad::new(xs(0), ys(1), xs(4), size, window).unwrap());
                };
                let mut grad = vec![0.0; n];
                let mut expected = Vec::new();
                for index in indices(&y_dims) {
                    let mut best: Option<(f64, usize)> = None;
                    let mut sum = 0.0;
                    for k in 0..size[0] * size[1] {
                        let at = |axis: usize, k: usize| {
                            (index[2 + axis] * window.strides[axis] + k * window.dilation[axis])
                                .checked_sub(window.padding[2 * axis])
                                .filter(|&p| p < dims[2 + axis])
                        };
                        let (Some(h), Some(w)) = (at(0, k / size[1]), at(1, k % size[1])) else { continue };
                        let from = position(&xs(0), &[index[0], index[1], h, w]);
                        let v = data[0].get(from).float();
                        sum += v;
                        if best.is_none_or(|(b, _)| v > b || (v.is_nan() && !b.is_nan())) {
                            best = Some((v, from));
                        }
                    }
                    let (max, from) = best.unwrap();
                    grad[from] += data[1].get(position(&ys(1), &index)).float();
                    expected.push((position(&ys(2), &index), max, sum));
                }
                for (path, after) in run_case(&Case { data: data.clone(), build: &build }).unwrap() {
                    for &(at, max, sum) in &expected {
                        assert!(close(after[2].get(at).float(), max, 0.0, 0.0), "max on {path}");
                        assert!(close(after[3].get(at).float(), sum, 0.0, 0.0), "sum on {path}: {size:?}");
                    }
                    for (i, &g) in grad.iter().enumerate() {
                        assert_eq!(after[4].get(i).float(), g, "gradient {i} on {path}");
                    }
                }
            }
        }
    }
}

#[test]
fn misfits_are_refused() {
    let view = |d: [usize; 4]| View::whole(0, DType::F32, d);
    let w = Window::default();
    assert!(Conv2d::new(view([1, 2, 5, 5]), view([3, 2, 3, 3]), view([1, 3, 3, 3]), w, 1).is_ok());
    for (x, weight, y, groups) in [
        ([1, 2, 5, 5], [3, 2, 3, 3], [1, 3, 3, 4], 1),
        ([1, 2, 5, 5], [3, 1, 3, 3], [1, 3, 3, 3], 1),
        ([1, 2, 5, 5], [3, 1, 3, 3], [1, 3, 3, 3], 2),
        ([1, 2, 5, 5], [3, 2, 3, 3], [2, 3, 3, 3], 1),
        ([1, 2, 5, 5], [3, 2, 6, 3], [1, 3, 0, 3], 1),
        ([1, 2, 5, 5], [3, 2, 3, 3], [1, 3, 3, 3], 0),
    ] {
        assert!(Conv2d::new(view(x), view(weight), view(y), w, groups).is_err(), "{x:?} {weight:?} {y:?}");
    }
    let bad = Window { strides: [0, 1], ..w };
    assert!(Conv2d::new(view([1, 2, 5, 5]), view([3, 2, 3, 3]), view([1, 3, 3, 3]), bad, 1).is_err());
    assert!(
        !kernel_case(vec![Data::zeros(DType::F32, 25), Data::zeros(DType::F32, 1)], || {
            let y = View::whole(1, DType::F32, [1, 1, 1, 1]);
            Pool2d::new(PoolKind::Sum, view([1, 1, 5, 5]), y, [5, 5], w).unwrap()
        })
        .is_empty()
    );
}
