//! Measures kernels: `cargo run --release -p outgrow-kernels --example kernel_speed [PART] [PATH] [TEXT]`, where PART
//! is `matmul`, `conv`, `map`, `reduce`, `other` or `all`, PATH is a SIMD path (or `-`), and TEXT is what the names of the
//! lines contain that are to be measured. Each line is the best of several runs
//! with one thread, and with all.
#![allow(clippy::type_complexity)]
#![allow(clippy::print_stdout)]

use outgrow_kernels::{
    ArgMax, Attention, AttentionGrad, BinaryOp, BufferRef, Conv2d, Conv2dGradInput, Conv2dGradWeight, Instr,
    Kernel, KernelPath, Literal, Map, MatMul, MaxPool2dGrad, Pool2d, PoolKind, ProgramBuilder, RandomUniform,
    Reduce, ReduceOp, ReduceSpec, ThreadPool, UnaryOp, View, Window, copy,
};
use outgrow_tensor::{DType, RngKey};
use std::time::Instant;

/// What a line's speed is counted in.
#[derive(Clone, Copy)]
enum Unit {
    Flops,
    Bytes,
}

struct Bench {
    path: KernelPath,
    pools: Vec<ThreadPool>,
    /// What names of lines must contain.
    only: String,
}

impl Bench {
    /// Times `kernel` over f32 buffers of these lengths, all random.
    fn line(&self, name: &str, lengths: &[usize], unit: Unit, kernel: impl Fn() -> Box<dyn Kernel>) {
        if !name.contains(&self.only) {
            return;
        }
        let mut text = format!("{name:52}");
        for pool in &self.pools {
            let mut builder = ProgramBuilder::new(self.path);
            let mut rng = RngKey::new(1).stream();
            let mut buffers: Vec<Vec<f32>> = lengths
                .iter()
                .map(|&n| {
                    builder.output(4 * n);
                    (0..n).map(|_| rng.uniform() as f32 - 0.5).collect()
                })
                .collect();
            builder.push_boxed(kernel());
            let program = builder.build().expect("a valid kernel");
            let mut instance = program.instance(pool.threads()).expect("memory");
            let work = program
                .kernels()
                .map(|k| if let Unit::Flops = unit { k.flops() } else { k.bytes() })
                .sum::<u64>();
            let mut refs: Vec<BufferRef<'_>> = buffers.iter_mut().map(|b| BufferRef::write(b)).collect();
            let mut run = || {
                program
                    .run(&mut instance, pool, refs.iter_mut().map(BufferRef::again))
                    .expect("valid buffers")
            };
            run();
            let start = Instant::now();
            run();
            let repeats = (2_000_000 / (start.elapsed().as_nanos() as u64 + 1)).clamp(1, 5_000);
            let mut best = f64::INFINITY;
            let begin = Instant::now();
            let mut rounds = 0;
            while rounds < 5 || (begin.elapsed().as_millis() < 150 && rounds < 100) {
                let start = Instant::now();
                (0..repeats).for_each(|_| run());
                best = best.min(start.elapsed().as_secs_f64() / repeats as f64);
                rounds += 1;
            }
            let unit = if let Unit::Flops = unit { "GFLOP/s" } else { "GB/s" };
            text += &format!("{:12.2} us {:8.1} {unit}", best * 1e6, work as f64 / best / 1e9);
        }
        println!("{text}");
    }

    fn matmul(&self) {
        let sizes: [[usize; 3]; 14] = [
            [32, 10, 784],
            [32, 10, 10],
            [10, 784, 32],
            [128, 512, 784],
            [784, 512, 128],
            [128, 784, 512],
            [128, 10, 512],
            [1, 512, 512],
            [64, 64, 64],
            [256, 256, 256],
            [512, 512, 512],
            [1024, 1024, 1024],
            [2048, 2048, 2048],
            [4096, 256, 256],
        ];
        for [m, n, k] in sizes {
            for (left, right) in [("N", "N"), ("N", "T"), ("T", "N")] {
                let view = |buffer, rows, columns, transposed: &str| {
                    if transposed == "T" {
                        View::whole(buffer, DType::F32, [columns, rows]).permuted(&[1, 0])
                    } else {
                        View::whole(buffer, DType::F32, [rows, columns])
                    }
                };
                let name = format!("matmul {m}x{n}, k {k}, {left}{right}");
                self.line(&name, &[m * k, k * n, m * n], Unit::Flops, || {
                    let (a, b, c) = (view(0, m, k, left), view(1, k, n, right), view(2, m, n, "N"));
                    Box::new(MatMul::new(a, b, c).expect("fits"))
                });
            }
        }
        let (b, t, d) = (64, 64, 32);
        self.line("matmul batch 64: 64x64, k 32", &[b * t * d, b * t * d, b * t * t], Unit::Flops, || {
            let keys = View::whole(1, DType::F32, [b, t, d]).permuted(&[0, 2, 1]);
            Box::new(
                MatMul::new(
                    View::whole(0, DType::F32, [b, t, d]),
                    keys,
                    View::whole(2, DType::F32, [b, t, t]),
                )
                .expect("fits"),
            )
        });
    }

    fn conv(&self) {
        self.convolutions(
            32,
            &[
                (3, 32, 64, 3, 1),
                (64, 32, 64, 3, 1),
                (64, 32, 128, 3, 2),
                (64, 32, 128, 1, 2),
                (128, 16, 128, 3, 1),
                (128, 16, 256, 3, 2),
                (256, 8, 256, 3, 1),
                (256, 8, 512, 3, 2),
                (512, 4, 512, 3, 1),
                (1, 28, 6, 5, 1),
                (6, 14, 16, 5, 1),
            ],
        );
        for batch in [2, 4, 8, 16] {
            self.convolutions(batch, &[(256, 8, 256, 3, 1), (512, 4, 512, 3, 1)]);
        }
        self.convolutions(
            1,
            &[
                (64, 32, 64, 3, 1),
                (128, 16, 128, 3, 1),
                (256, 8, 256, 3, 1),
                (512, 4, 512, 3, 1),
                (64, 56, 64, 3, 1),
                (128, 28, 128, 3, 1),
                (256, 14, 256, 3, 1),
                (512, 7, 512, 3, 1),
                (3, 224, 32, 3, 2),
                (32, 112, 16, 1, 1),
                (16, 112, 96, 1, 1),
                (144, 56, 24, 1, 1),
                (192, 28, 32, 1, 1),
                (64, 14, 384, 1, 1),
                (384, 14, 64, 1, 1),
                (160, 7, 960, 1, 1),
                (960, 7, 160, 1, 1),
            ],
        );
        self.depthwise(&[(32, 112, 1), (96, 112, 2), (144, 56, 1), (144, 56, 2), (192, 28, 1), (192, 28, 2)]);
        self.depthwise(&[(384, 14, 1), (576, 14, 2), (960, 7, 1)]);
    }

    /// Windows of 3x3 over each channel of an image by itself: channels, rows and columns, stride.
    fn depthwise(&self, all: &[(usize, usize, usize)]) {
        for &(channels, image, stride) in all {
            let window = Window::new(stride, 1);
            let places = window.places(0, image, 3).expect("fits");
            let (xd, wd, yd) =
                ([1, channels, image, image], [channels, 1, 3, 3], [1, channels, places, places]);
            let view = |buffer, dims| View::whole(buffer, DType::F32, dims);
            let lengths = [xd, wd, yd].map(|d: [usize; 4]| d.iter().product());
            let name = format!("depthwise {channels}x{image}x{image}, 3x3 stride {stride}");
            self.line(&name, &lengths, Unit::Flops, || {
                Box::new(Conv2d::new(view(0, xd), view(1, wd), view(2, yd), window, channels).expect("fits"))
            });
        }
    }

    /// Of so many images: channels, rows and columns, result channels, extent of the window, stride.
    fn convolutions(&self, batch: usize, all: &[(usize, usize, usize, usize, usize)]) {
        for &(channels, image, out, kernel, stride) in all {
            let window = Window::new(stride, if kernel == 5 { 0 } else { kernel / 2 });
            let places = window.places(0, image, kernel).expect("fits");
            let (xd, wd, yd) = (
                [batch, channels, image, image],
                [out, channels, kernel, kernel],
                [batch, out, places, places],
            );
            let view = |buffer, dims| View::whole(buffer, DType::F32, dims);
            let lengths = [xd, wd, yd].map(|d: [usize; 4]| d.iter().product());
            let name =
                format!("{batch} of {channels}x{image}x{image} to {out}, {kernel}x{kernel} stride {stride}");
            self.line(&format!("conv {name}"), &lengths, Unit::Flops, || {
                Box::new(
                    Conv2d::new(view(0, xd), view(1, wd), view(2, yd), window, 1).expect("fits").together(),
                )
            });
            self.line(&format!("     {name}, grad input"), &lengths, Unit::Flops, || {
                Box::new(
                    Conv2dGradInput::new(view(2, yd), view(1, wd), view(0, xd), window, 1)
                        .expect("fits")
                        .together(),
                )
            });
            self.line(&format!("     {name}, grad weight"), &lengths, Unit::Flops, || {
                Box::new(
                    Conv2dGradWeight::new(view(0, xd), view(2, yd), view(1, wd), window, 1).expect("fits"),
                )
            });
        }
    }

    fn map(&self) {
        use BinaryOp as B;
        let one = Instr::Const(Literal::F32(1.5));
        let codes: [(&str, usize, Vec<Instr>); 10] = [
            ("copy", 1, vec![Instr::Load(0)]),
            ("x + y", 2, vec![Instr::Load(0), Instr::Load(1), Instr::Binary(B::Add, 0, 1)]),
            (
                "relu(x * c + y)",
                2,
                vec![
                    Instr::Load(0),
                    one,
                    Instr::Binary(B::Mul, 0, 1),
                    Instr::Load(1),
                    Instr::Binary(B::Add, 2, 3),
                    Instr::Const(Literal::F32(0.0)),
                    Instr::Binary(B::Max, 4, 5),
                ],
            ),
            ("exp", 1, vec![Instr::Load(0), Instr::Unary(UnaryOp::Exp, 0)]),
            ("log", 1, vec![Instr::Load(0), Instr::Unary(UnaryOp::Log, 0)]),
            ("tanh", 1, vec![Instr::Load(0), Instr::Unary(UnaryOp::Tanh, 0)]),
            ("erf", 1, vec![Instr::Load(0), Instr::Unary(UnaryOp::Erf, 0)]),
            ("sin", 1, vec![Instr::Load(0), Instr::Unary(UnaryOp::Sin, 0)]),
            ("sqrt", 1, vec![Instr::Load(0), Instr::Unary(UnaryOp::Sqrt, 0)]),
            ("pow", 2, vec![Instr::Load(0), Instr::Load(1), Instr::Binary(B::Pow, 0, 1)]),
        ];
        for n in [320, 8192, 1 << 22] {
            for (name, inputs, code) in &codes {
                self.line(&format!("map {name}, {n}"), &[n, n, n], Unit::Bytes, || {
                    let views = (0..*inputs as u32).map(|b| View::whole(b, DType::F32, [n])).collect();
                    let out = vec![(code.len() - 1, View::whole(2, DType::F32, [n]))];
                    Box::new(Map::new(&[n], code, views, out).expect("valid"))
                });
            }
        }
        let n = 1 << 22;
        for (name, dims, view) in [
            (
                "x + bias over rows, 32x10",
                vec![32, 10],
                View::whole(1, DType::F32, [10]).broadcast(&[32, 10], &[1]),
            ),
            (
                "x + bias over rows, 4096x1024",
                vec![4096, 1024],
                View::whole(1, DType::F32, [1024]).broadcast(&[4096, 1024], &[1]),
            ),
            (
                "x + channel, 32x64x1024",
                vec![32, 64, 1024],
                View::whole(1, DType::F32, [64]).broadcast(&[32, 64, 1024], &[1]),
            ),
            (
                "x + channel, 32x512x16",
                vec![32, 512, 16],
                View::whole(1, DType::F32, [512]).broadcast(&[32, 512, 16], &[1]),
            ),
            (
                "x + y transposed, 2048x2048",
                vec![2048, 2048],
                View::whole(1, DType::F32, [2048, 2048]).permuted(&[1, 0]),
            ),
        ] {
            self.line(&format!("map {name}"), &[n, n, n], Unit::Bytes, || {
                let views = vec![View::whole(0, DType::F32, dims.clone()), view.clone()];
                let code = [Instr::Load(0), Instr::Load(1), Instr::Binary(B::Add, 0, 1)];
                Box::new(
                    Map::new(&dims, &code, views, vec![(2, View::whole(2, DType::F32, dims.clone()))])
                        .expect("valid"),
                )
            });
        }
        self.line("map transpose 2048x2048", &[n, n], Unit::Bytes, || {
            let from = View::whole(0, DType::F32, [2048, 2048]).permuted(&[1, 0]);
            copy(from, View::whole(1, DType::F32, [2048, 2048])).expect("valid")
        });
        self.line("map adam, 1048576", &[n / 4; 4], Unit::Bytes, || Box::new(adam(n / 4)));
    }

    fn reduce(&self) {
        for (dims, reduced) in [
            (vec![32, 10], vec![1]),
            (vec![32, 10], vec![0]),
            (vec![128, 512], vec![0]),
            (vec![4096, 64], vec![1]),
            (vec![4096, 1024], vec![1]),
            (vec![4096, 1024], vec![0]),
            (vec![32, 64, 1024], vec![0, 2]),
            (vec![32, 512, 16], vec![0, 2]),
            (vec![1 << 22], vec![0]),
        ] {
            let n = dims.iter().product();
            let kept: Vec<usize> =
                (0..dims.len()).filter(|d| !reduced.contains(d)).map(|d| dims[d]).collect();
            self.line(&format!("reduce sum {dims:?} over {reduced:?}"), &[n, n], Unit::Bytes, || {
                let (x, y) =
                    (View::whole(0, DType::F32, dims.clone()), View::whole(1, DType::F32, kept.clone()));
                Box::new(Reduce::simple(x, reduced.clone(), ReduceOp::Sum, y).expect("valid"))
            });
            self.line(
                &format!("reduce mean and square {dims:?} over {reduced:?}"),
                &[n, n, n],
                Unit::Bytes,
                || {
                    let y = |b| View::whole(b, DType::F32, kept.clone());
                    Box::new(
                        Reduce::new(ReduceSpec {
                            dims: dims.clone(),
                            reduced: reduced.clone(),
                            code: vec![Instr::Load(0), Instr::Binary(BinaryOp::Mul, 0, 0)],
                            inputs: vec![View::whole(0, DType::F32, dims.clone())],
                            reductions: vec![(0, ReduceOp::Sum), (1, ReduceOp::Sum)],
                            epilogue: vec![Instr::Reduced(0), Instr::Reduced(1)],
                            epilogue_inputs: vec![],
                            outputs: vec![(0, y(1)), (1, y(2))],
                        })
                        .expect("valid"),
                    )
                },
            );
        }
    }

    fn other(&self) {
        let n = 1 << 20;
        self.line("random uniform, 1048576", &[2, n], Unit::Bytes, || {
            let key = View::whole(0, DType::I64, [1]);
            Box::new(RandomUniform::new(key, View::whole(1, DType::F32, [n]), 3).expect("valid"))
        });
        self.line("arg max 4096x1000", &[4096 * 1000, 4096], Unit::Bytes, || {
            let x = View::whole(0, DType::F32, [4096, 1000]);
            Box::new(ArgMax::new(x, 1, View::whole(1, DType::I32, [4096])).expect("valid"))
        });
        let (x, y) = ([32, 64, 32, 32], [32, 64, 16, 16]);
        let (nx, ny) = (x.iter().product(), y.iter().product());
        let view = |b, d: [usize; 4]| View::whole(b, DType::F32, d);
        let w = Window::new(2, 0);
        self.line("max pool 2x2, 32x64x32x32", &[nx, ny], Unit::Bytes, || {
            Box::new(Pool2d::new(PoolKind::Max, view(0, x), view(1, y), [2, 2], w).expect("valid"))
        });
        self.line("max pool gradient", &[nx, ny, nx], Unit::Bytes, || {
            Box::new(MaxPool2dGrad::new(view(0, x), view(1, y), view(2, x), [2, 2], w).expect("valid"))
        });
        for dims in [[16, 128, 4, 64], [2, 1024, 4, 64]] {
            let [batch, tokens, heads, d] = dims;
            let (n, all) = (batch * tokens * heads * d, [batch, tokens, 3 * heads, d]);
            let qkv = |part| view(0, all).sliced(2, part * heads, heads, 1);
            let name = format!("causal attention {batch}x{tokens}x{heads}x{d}");
            self.line(&name, &[3 * n, n], Unit::Flops, || {
                Box::new(Attention::new(qkv(0), qkv(1), qkv(2), view(1, dims), true).expect("valid"))
            });
            self.line(&format!("{name}, gradient"), &[3 * n, n, 3 * n], Unit::Flops, || {
                let (dy, out) = (view(1, dims), view(2, all));
                Box::new(AttentionGrad::new(qkv(0), qkv(1), qkv(2), dy, out, true).expect("valid"))
            });
        }
    }
}

/// Adam's update of `n` parameters: parameter, gradient and both moments, in place.
fn adam(n: usize) -> Map {
    use BinaryOp as B;
    let c = |x: f32| Instr::Const(Literal::F32(x));
    let code = [
        Instr::Load(0),
        Instr::Load(1),
        Instr::Load(2),
        Instr::Load(3),
        c(0.9),
        c(0.1),
        c(0.999),
        c(0.001),
        c(1e-8),
        Instr::Binary(B::Mul, 2, 4),
        Instr::Binary(B::Mul, 1, 5),
        Instr::Binary(B::Add, 9, 10),
        Instr::Binary(B::Mul, 3, 6),
        Instr::Binary(B::Mul, 1, 1),
        Instr::Binary(B::Mul, 13, 7),
        Instr::Binary(B::Add, 12, 14),
        Instr::Unary(UnaryOp::Sqrt, 15),
        Instr::Binary(B::Add, 16, 8),
        Instr::Binary(B::Div, 11, 17),
        Instr::Binary(B::Mul, 18, 7),
        Instr::Binary(B::Sub, 0, 19),
    ];
    let view = |b| View::whole(b, DType::F32, [n]);
    Map::new(&[n], &code, (0..4).map(view).collect(), vec![(20, view(0)), (11, view(2)), (15, view(3))])
        .expect("valid")
}

fn main() {
    let mut args = std::env::args().skip(1);
    let part = args.next().unwrap_or_else(|| "all".into());
    let path = args.next().and_then(|p| KernelPath::parse(&p)).unwrap_or_else(KernelPath::detect);
    let only = args.next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut threads = vec![1, cores];
    threads.dedup();
    println!("path {path}, threads {threads:?}");
    let bench = Bench { path, pools: threads.into_iter().map(ThreadPool::new).collect(), only };
    let parts: [(&str, fn(&Bench)); 5] = [
        ("matmul", Bench::matmul),
        ("conv", Bench::conv),
        ("map", Bench::map),
        ("reduce", Bench::reduce),
        ("other", Bench::other),
    ];
    for (name, run) in parts {
        if part == "all" || part == name {
            run(&bench);
        }
    }
}
