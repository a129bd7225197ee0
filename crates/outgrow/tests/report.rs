//! The page of a run: complete, well formed and self-contained. With `OUTGROW_KEEP_REPORT=FOLDER` the pages are
//! kept there, to be looked at in a browser.
#![allow(clippy::needless_range_loop)]

use outgrow::report::{
    Bitmap, Cleaning, ConfusionSample, ConfusionTable, CourseSpan, Curve, Machine, MemoryChart, OpTime,
    PlannedBuffer, Plot, Processor, Regression, RunReport, Scale, Series, SplitMetrics, Style, WorkerCourse,
    plot_page, render,
};

/// Numbers that look random and are the same each time: a linear congruential generator (Knuth's MMIX constants).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() * n as f64) as u64
    }
}

fn picture(noise: &mut Noise, class: usize, channels: usize) -> Bitmap {
    let (cx, cy) = (8.0 + class as f64, 20.0 - class as f64);
    let ring = |x: usize, y: usize| (x as f64 - cx).hypot(y as f64 - cy) - 6.0;
    let data = (0..28 * 28 * channels)
        .map(|i| {
            ((1.0 - ring(i / channels % 28, i / channels / 28).abs() / 2.0).max(0.0)
                * (200.0 + noise.next() * 55.0)) as u8
        })
        .collect();
    Bitmap { channels, height: 28, width: 28, data }
}

fn classifier(classes: &[String]) -> RunReport {
    let mut noise = Noise(7);
    let n = classes.len();
    let counts: Vec<Vec<u64>> = (0..n)
        .map(|a| {
            (0..n)
                .map(|p| {
                    if a == p {
                        950 + noise.below(40)
                    } else {
                        noise.below(60) / 9 * u64::from(noise.next() > 0.4)
                    }
                })
                .collect()
        })
        .collect();
    let mut samples = Vec::new();
    for actual in 0..n {
        for predicted in 0..n {
            for _ in 0..counts[actual][predicted].min(if actual == predicted { 1 } else { 4 }) {
                let image = picture(&mut noise, actual % 10, 1);
                samples.push(ConfusionSample {
                    actual,
                    predicted,
                    probability: Some(0.5 + noise.next() / 2.0),
                    image,
                });
            }
        }
    }
    let loss = (0..9380)
        .map(|i| (f64::from(i), 2.3 * (-f64::from(i) / 900.0).exp() + 0.04 + noise.next() * 0.08))
        .collect();
    let epochs = |from: f64, to: f64| {
        (1..=10).map(|e| (f64::from(e), to + (from - to) * (-f64::from(e) / 2.0).exp())).collect()
    };
    RunReport {
        name: "mnist-lenet".into(),
        subtitle: "lenet, 60 000 training samples, 10 classes".into(),
        manifest: "[data]\nsource = \"idx\"\n\n[model]\nname = \"lenet\"\n\n[train]\nepochs = 10\nbatch = 64\nlr = 1e-3 # <b>".into(),
        steps: 9380,
        epochs: 10.0,
        parameters: 61_706,
        train_seconds: 83.4,
        samples_per_s: 7194.0,
        weights_sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        metrics: ["train", "validation", "test"]
            .iter()
            .map(|split| SplitMetrics {
                split: (*split).into(),
                samples: 10_000,
                values: vec![("loss".into(), 0.0312), ("accuracy".into(), 0.9917), ("top5".into(), 0.9999)],
            })
            .collect(),
        curves: vec![
            Curve { metric: "loss".into(), unit: "step".into(), parts: vec![("train".into(), loss)] },
            Curve {
                metric: "loss".into(),
                unit: "epoch".into(),
                parts: vec![("train".into(), epochs(1.2, 0.03)), ("validation".into(), epochs(1.0, 0.05))],
            },
            Curve {
                metric: "accuracy".into(),
                unit: "epoch".into(),
                parts: vec![("train".into(), epochs(0.8, 0.996)), ("validation".into(), epochs(0.85, 0.989))],
            },
        ],
        confusion: Some(ConfusionTable { split: "test".into(), classes: classes.to_vec(), counts, samples }),
        regression: Vec::new(),
        baseline: None,
        memory: Some(memory(&mut noise)),
        ops: [("conv2d", 412.0, 80.0), ("conv2d.gradient <w>", 530.0, 71.0), ("dense", 99.0, 60.0), ("relu", 25.0, 0.0), ("max_pool", 60.0, 0.0)]
            .iter()
            .map(|(name, ms, speed)| OpTime {
                name: (*name).into(),
                total_ms: *ms,
                calls: 9380,
                gflops_per_s: (*speed > 0.0).then_some(*speed),
            })
            .collect(),
        workers: (0..4)
            .map(|worker| {
                let span = |waiting, from: f64, to: f64| CourseSpan {
                    waiting,
                    from_ms: from + f64::from(worker) / 10.0,
                    to_ms: to + f64::from(worker) / 10.0,
                };
                let spans = vec![span(false, 3.0, 3.1), span(true, 4.4, 4.9), span(false, 4.0, 5.0)];
                WorkerCourse { step: 18, total_ms: 5.8, spans }
            })
            .collect(),
        processor: Some(Processor {
            utilisation: 0.934,
            over_time: (0..80).map(|i| (f64::from(i), 0.9 + noise.next() * 0.1)).collect(),
            peak_memory_bytes: 214 << 20,
        }),
        cleaning: Some(Cleaning {
            unit: "rows".into(),
            rows_in: 70_000,
            rows_left: 69_990,
            dropped: vec![("duplicate".into(), 10)],
            filled: vec![("age".into(), 12)],
            splits: vec![("train".into(), 54_000), ("validation".into(), 5_990), ("test".into(), 10_000)],
        }),
        environment: Machine {
            version: "0.1.0".into(),
            cpu: "A Processor @ 2.0 GHz".into(),
            cores: 2,
            threads: 2,
            kernel_path: "avx512".into(),
            os: "linux x86_64".into(),
        },
        ..RunReport::default()
    }
}

fn memory(noise: &mut Noise) -> MemoryChart {
    let mut buffers = Vec::new();
    let mut offset = 0;
    for i in 0..24usize {
        let bytes = 20_000 + noise.below(200_000);
        buffers.push(PlannedBuffer {
            label: format!("activation {i} <"),
            offset,
            bytes,
            first_step: i,
            last_step: 59 - i,
        });
        offset += bytes;
    }
    for i in 0..24usize {
        let bytes = 10_000 + noise.below(90_000);
        buffers.push(PlannedBuffer {
            label: format!("gradient {i}"),
            offset,
            bytes,
            first_step: 34 + i,
            last_step: 36 + i,
        });
        offset = if i % 3 == 2 { offset - 150_000 } else { offset + bytes };
    }
    MemoryChart {
        planned_bytes: 3_400_000,
        naive_bytes: 9_800_000,
        lower_bound_bytes: 3_100_000,
        steps: 60,
        buffers,
    }
}

fn regressor() -> RunReport {
    let mut noise = Noise(3);
    let pairs = (0..400).map(|_| noise.next() * 50.0).collect::<Vec<_>>();
    let pairs = pairs.into_iter().map(|y| (y, y + (noise.next() + noise.next() - 1.0) * 6.0)).collect();
    RunReport {
        name: "houses".into(),
        subtitle: "linear, 12 features".into(),
        metrics: vec![SplitMetrics {
            split: "test".into(),
            samples: 400,
            values: vec![("loss".into(), 6.1), ("rmse".into(), 2.47)],
        }],
        regression: vec![Regression { split: "test".into(), target: "price".into(), pairs }],
        baseline: Some(SplitMetrics {
            split: "baseline: always the mean, 3 (test)".into(),
            samples: 400,
            values: vec![("loss".into(), 9.0)],
        }),
        ..RunReport::default()
    }
}

/// Every tag that opens is closed in its place, and nothing comes from outside.
fn check_page(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("OUTGROW_KEEP_REPORT") {
        std::fs::write(std::path::Path::new(&folder).join(name).with_extension("html"), html).unwrap();
    }
    for outside in ["<script", "<link", "@import", "url(", "src=\"http", "href="] {
        assert!(!html.contains(outside), "{name}: {outside}");
    }
    assert_eq!(
        html.matches("http").count(),
        html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(),
        "{name}"
    );
    assert!(!html.contains("NaN") && !html.contains("inf\""), "{name}");
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let word = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(word), "{name}: closing {tag}");
        } else if !tag.ends_with('/') && !["!doctype", "meta", "img"].contains(&word) {
            open.push(word);
        }
    }
    assert!(open.is_empty(), "{name}: {open:?} stay open");
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_classifier_s_page_shows_everything() {
    let html = render(&classifier(&names(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"])));
    check_page("classifier", &html);
    for part in [
        "mnist-lenet",
        "99.17 %",
        "Loss",
        "Accuracy",
        "Confusion matrix",
        "Most frequent mistakes",
        "Precision",
        "data:image/png;base64,",
        "Time by operation",
        "conv2d.gradient &lt;w&gt;",
        "Memory plan",
        "3.24 MiB",
        "Processor and memory",
        "93.4 %",
        "214 MiB",
        "duplicate",
        "Manifest",
        "lr = 1e-3 # &lt;b&gt;",
        "avx512",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

#[test]
fn long_and_many_names_fit() {
    let long =
        names(&["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "<truck>"]);
    check_page("long", &render(&classifier(&long)));
    let many: Vec<String> = (0..65).map(|i| format!("token {i}")).collect();
    check_page("many", &render(&classifier(&many)));
}

#[test]
fn a_regression_s_page() {
    let html = render(&regressor());
    check_page("regressor", &html);
    assert!(
        html.contains("Predictions of price (test)")
            && html.contains("Errors of price (test)")
            && !html.contains("Confusion")
    );
}

#[test]
fn parts_that_do_not_agree_are_left_out() {
    check_page("empty", &render(&RunReport::default()));
    let mut odd = classifier(&names(&["a", "b"]));
    odd.confusion.as_mut().unwrap().counts.pop();
    odd.regression =
        vec![Regression { pairs: vec![(f64::NAN, 1.0), (f64::INFINITY, 2.0)], ..Regression::default() }];
    odd.memory.as_mut().unwrap().buffers[0].first_step = 99;
    odd.ops[0].total_ms = 0.0;
    check_page("odd", &render(&odd));
}

#[test]
fn plots_make_a_page_of_their_own() {
    let points = (0..60).map(|i| (1e-5 * 1.2f64.powi(i), 2.0 - 1.5 * (f64::from(i) / 12.0).sin())).collect();
    let plot = Plot {
        title: "loss against learning rate".into(),
        x_label: "learning rate".into(),
        y_label: "loss".into(),
        x_scale: Scale::Log,
        series: vec![Series { name: "loss".into(), points, style: Style::Line }],
        marks: vec![(3e-3, "suggested: 0.003".into())],
        ..Plot::default()
    };
    check_page("tune", &plot_page("tune-lr", "range test", &[plot]));
}
