//! From a finished run to the content of its page.

use outgrow_data::{Dataset, Split};
use outgrow_runtime::collective::{Doing, Span, Timeline};
use outgrow_train::Trainer;
use outgrow_train::metric::Ranking;
use outgrow_transform::{Field, Target, TrainingData};
use serde_json::Value as Json;

use super::answers::TestAnswer;
use super::best::Best;
use super::outcome::{RunResult, Usage};
use super::process::cpu_name;
use super::{Session, decision, known};
use crate::report::LEARNING_RATE;
use crate::report::format::counted;
use crate::report::{
    Bitmap, ClassRanking, Cleaning, ConfusionSample, ConfusionTable, CourseSpan, Curve, Machine, MemoryChart,
    OpTime, PlannedBuffer, Processor, Regression, RunReport, SplitMetrics, WorkerCourse,
};

/// Most values of the memory plan that are drawn: the largest ones.
const BUFFERS: usize = 400;
/// Augmented samples that are shown.
const AUGMENTED: usize = 32;
/// Most points of a ROC or precision-recall curve.
const CURVE_POINTS: usize = 400;
/// Most pictures of samples.
const PICTURES: usize = 200;

/// Everything that the page of a run shows.
pub fn report(
    session: &Session<'_>,
    data: &Dataset,
    trainer: &Trainer,
    result: &RunResult,
    lines: &[Json],
    usage: &Usage,
    json: &Json,
) -> RunReport {
    let outcome = trainer.outcome();
    let per_epoch = trainer.steps_per_epoch(data.samples(Split::Train)).max(1);
    let split = |(split, metrics): &(Split, outgrow_train::Metrics)| SplitMetrics {
        split: split.name().into(),
        samples: metrics.samples,
        values: result.values(metrics),
    };
    RunReport {
        name: session.manifest.name.clone(),
        subtitle: subtitle(session, data),
        manifest: session.manifest.resolved_toml(Some(known(data))),
        steps: outcome.steps,
        epochs: outcome.steps as f64 / per_epoch as f64,
        parameters: json["parameters"].as_u64().unwrap_or_default(),
        train_seconds: outcome.train_seconds,
        samples_per_s: json["samples_per_s"].as_f64().unwrap_or_default(),
        weights_sha256: json["weights_sha256"].as_str().unwrap_or_default().into(),
        metrics: result.metrics.iter().map(split).collect(),
        baseline: baseline(result),
        curves: curves(lines),
        best: best(json),
        decision_threshold: decision::told(&json["decision_threshold"]),
        augmented: augmented(session, data),
        rankings: rankings(result),
        confusion: confusion(data, result),
        regression: regression(result),
        memory: Some(memory(trainer)),
        ops: ops(trainer),
        workers: Vec::new(),
        processor: Some(Processor {
            utilisation: usage.utilisation,
            over_time: usage.over_time.clone(),
            peak_memory_bytes: usage.peak_memory_bytes,
        }),
        cleaning: Some(Cleaning::of(data)),
        environment: Machine {
            version: env!("CARGO_PKG_VERSION").into(),
            cpu: cpu_name(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads: session.cpu.pool.threads(),
            kernel_path: session.step_path().name().into(),
            os: std::env::consts::OS.into(),
        },
    }
}

fn subtitle(session: &Session<'_>, data: &Dataset) -> String {
    let schema = data.schema();
    let shape = |f: &Field| f.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×");
    let inputs: Vec<String> = schema.inputs.iter().map(|f| format!("{} {}", f.name, shape(f))).collect();
    let target = match &schema.target {
        Target::Class { names } => counted(names.len() as u64, "class"),
        Target::Regression { width } => counted(*width as u64, "number"),
        Target::Tokens { vocab } => format!("next of {vocab} tokens"),
    };
    let source = &session.manifest.spec.data.source;
    format!(
        "{} → {target}, data from {}",
        inputs.join(", "),
        serde_json::json!(source).as_str().unwrap_or("the manifest")
    )
}

/// Loss and other metrics over the steps, training and validation together.
fn curves(lines: &[Json]) -> Vec<Curve> {
    let series = |metric: &str, split: &str| -> Vec<(f64, f64)> {
        let of_split = lines.iter().filter(|line| line["split"] == split);
        of_split.filter_map(|line| Some((line["step"].as_f64()?, line[metric].as_f64()?))).collect()
    };
    let curve = |metric: &str| {
        let parts = ["train", "validation"].map(|split| (split.to_owned(), series(metric, split)));
        let parts: Vec<_> = parts.into_iter().filter(|(_, points)| points.len() > 1).collect();
        (!parts.is_empty()).then(|| Curve { metric: metric.into(), unit: "step".into(), parts })
    };
    let mut curves: Vec<Curve> =
        ["loss", "accuracy", "auc", "f1", "rmse", "r2", "perplexity"].into_iter().filter_map(curve).collect();
    let rates = series("lr", "train");
    if rates.windows(2).any(|w| w[0].1 != w[1].1) {
        curves.push(Curve {
            metric: LEARNING_RATE.into(),
            unit: "step".into(),
            parts: vec![("train".into(), rates)],
        });
    }
    curves
}

/// The first samples of the first epoch, as augmentation has changed them; nothing where there is none, or a batch cannot be
/// made.
fn augmented(session: &Session<'_>, data: &Dataset) -> Vec<Bitmap> {
    let (Some(_), Some(image)) = (&session.manifest.spec.data.augment, &data.transform().assembly.image)
    else {
        return Vec::new();
    };
    let (channels, height, width) = (image.channels, image.height, image.width);
    if channels != 1 && channels != 3 {
        return Vec::new();
    }
    let first = || {
        let batches = session.batches(data).ok()?;
        let mut stream = batches.train(0, 0, 0..batches.batch()).ok()?;
        stream.next()?.ok()
    };
    let Some(batch) = first() else { return Vec::new() };
    let Some(Ok(values)) = batch.inputs.first().map(|input| input.as_slice::<f32>()) else {
        return Vec::new();
    };
    let plane = (height * width).max(1);
    let pixel = |(i, value): (usize, &f32)| {
        let (factor, offset) = image.normalize.affine(i / plane % channels);
        // Bytes saturate.
        ((value - offset) / factor).round() as u8
    };
    let pictures = values.chunks_exact(channels * plane).take(batch.real.min(AUGMENTED));
    pictures
        .map(|sample| {
            let planes: Vec<u8> = sample.iter().enumerate().map(pixel).collect();
            Bitmap::from_planes(channels, height, width, &planes)
        })
        .collect()
}

/// The best evaluation, as the result tells it.
fn best(json: &Json) -> Option<(f64, String)> {
    Some((json["best"]["step"].as_f64()?, Best::told(&json["best"])?))
}

/// The curves of each class.
fn rankings(result: &RunResult) -> Vec<ClassRanking> {
    let each = result.class_names.iter().zip(&result.rankings);
    let one = |(class, ranking): (&String, &Option<Ranking>)| {
        let ranking = ranking.as_ref()?;
        Some(ClassRanking {
            split: "test".into(),
            class: class.clone(),
            roc: thinned(&ranking.roc),
            precision_recall: thinned(&ranking.precision_recall),
            auc: ranking.auc,
            average_precision: ranking.average_precision,
        })
    };
    each.filter_map(one).collect()
}

/// Points of a curve, both ends among them, no more than can be told apart.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(CURVE_POINTS).max(1);
    let mut thinned: Vec<_> = points.iter().copied().step_by(every).collect();
    thinned.extend(points.last().filter(|last| thinned.last() != Some(*last)));
    thinned
}

fn confusion(data: &Dataset, result: &RunResult) -> Option<ConfusionTable> {
    let counts = result.confusion.as_ref()?;
    let Target::Class { names } = data.schema().target else { return None };
    let row = |actual| (0..names.len()).map(|predicted| counts.count(actual, predicted)).collect();
    // Wrong answers first: they tell more.
    let mut answers: Vec<&TestAnswer> = result.answers.iter().collect();
    answers.sort_by_key(|a| a.actual == a.predicted);
    let picture = |answer: &&TestAnswer| {
        let image = picture(data, answer.sample)?;
        let TestAnswer { actual, predicted, probability, .. } = **answer;
        Some(ConfusionSample { actual, predicted, probability: Some(probability), image })
    };
    Some(ConfusionTable {
        split: "test".into(),
        counts: (0..names.len()).map(row).collect(),
        samples: answers.iter().take(PICTURES).filter_map(picture).collect(),
        classes: names,
    })
}

/// The picture of a test sample, if samples are pictures: its values stretched to 0 to 255.
fn picture(data: &Dataset, sample: u64) -> Option<Bitmap> {
    let field = data.schema().inputs.first().cloned().filter(|f| f.name == "image")?;
    let &[channels, height, width] = field.shape.as_slice() else { return None };
    let batch = data.sample(Split::Test, sample).ok()?;
    let values = batch.inputs.first()?.as_slice::<f32>().ok()?;
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let scale = if high > low { 255.0 / (high - low) } else { 0.0 };
    let planes: Vec<u8> = values.iter().map(|v| ((v - low) * scale) as u8).collect();
    (channels == 1 || channels == 3).then(|| Bitmap::from_planes(channels, height, width, &planes))
}

/// One plot for each number that is predicted.
fn regression(result: &RunResult) -> Vec<Regression> {
    let each = result.targets.iter().zip(&result.pairs);
    each.map(|(target, pairs)| Regression {
        split: "test".into(),
        target: target.clone(),
        pairs: pairs.clone(),
    })
    .collect()
}

/// What the model has to beat where it is judged.
fn baseline(result: &RunResult) -> Option<SplitMetrics> {
    let (split, _) = result.judged()?;
    let baseline = result.baseline.as_ref()?;
    let metrics = baseline.of(split)?;
    Some(SplitMetrics {
        split: format!("baseline: {} ({split})", baseline.answer),
        samples: metrics.samples,
        values: result.values(metrics),
    })
}

fn memory(trainer: &Trainer) -> MemoryChart {
    let compiled = &trainer.program().compiled;
    let plan = &compiled.memory;
    let mut largest: Vec<usize> = (0..plan.buffers.len()).collect();
    largest.sort_by_key(|i| std::cmp::Reverse(plan.buffers[*i].bytes));
    let buffer = |i: usize| PlannedBuffer {
        label: plan.buffers[i].name.clone(),
        offset: plan.offsets[i] as u64,
        bytes: plan.buffers[i].bytes as u64,
        first_step: plan.buffers[i].first,
        last_step: plan.buffers[i].last,
    };
    MemoryChart {
        planned_bytes: plan.planned_bytes as u64,
        naive_bytes: plan.naive_bytes as u64,
        lower_bound_bytes: plan.live_bytes as u64,
        steps: compiled.steps.len(),
        buffers: largest.into_iter().take(BUFFERS).map(buffer).collect(),
    }
}

/// A step of a worker, as it is drawn.
pub fn course(timeline: &Timeline) -> WorkerCourse {
    let span = |span: &Span| CourseSpan {
        waiting: span.doing == Doing::Waiting,
        from_ms: span.from as f64 * 1e-6,
        to_ms: span.to as f64 * 1e-6,
    };
    WorkerCourse {
        step: timeline.step,
        total_ms: timeline.nanoseconds as f64 * 1e-6,
        spans: timeline.spans.iter().map(span).collect(),
    }
}

/// Time by kernel and ops, over the steps that were profiled.
fn ops(trainer: &Trainer) -> Vec<OpTime> {
    let (steps, runs) = trainer.profile();
    let mut times: Vec<(OpTime, u64)> = Vec::new();
    for (step, ns) in steps {
        let name = format!("{}: {}", step.kernel, step.ops);
        let at = times.iter().position(|(t, _)| t.name == name).unwrap_or_else(|| {
            times.push((OpTime { name, ..OpTime::default() }, 0));
            times.len() - 1
        });
        let (time, flops) = &mut times[at];
        time.total_ms += ns as f64 * 1e-6;
        time.calls += runs;
        *flops += step.cost.flops * runs;
    }
    let speed = |(mut time, flops): (OpTime, u64)| {
        time.gflops_per_s = (flops > 0 && time.total_ms > 0.0).then(|| flops as f64 / (time.total_ms * 1e6));
        time
    };
    let mut times: Vec<OpTime> = times.into_iter().map(speed).collect();
    times.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms));
    times
}
