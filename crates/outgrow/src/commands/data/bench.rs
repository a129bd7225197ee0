//! `outgrow data bench`: how fast the data comes, without a model that eats it.

use outgrow_data::Split;
use outgrow_transform::TrainingData;
use serde_json::json;

use crate::cli::DataBenchArgs;
use crate::context::{Context, Failure};
use crate::places::threads;
use crate::report::format::counted;
use crate::session::DatasetBatches;
use crate::session::open::open_data;

/// Prepares the data, unless it is prepared, and loads batches as training would.
pub fn run(args: &DataBenchArgs, context: &Context) -> Result<(), Failure> {
    let clock = &context.world.clock;
    let seconds = |from: u64| (clock.now_ns() - from) as f64 * 1e-9;
    let manifest = context.manifest(&args.action.manifest)?;
    let threads = threads(args.action.threads)?;
    let start = clock.now_ns();
    let opened = open_data(&manifest, &args.action.manifest, threads, context, None)?;
    let prepare_seconds = seconds(start);
    let batches = DatasetBatches::new(opened.dataset.clone(), &manifest, threads)?;
    batches.check().map_err(|found| manifest.locate(found.into()))?;
    let samples = opened.dataset.samples(Split::Train);
    let rows = opened.dataset.report().rows_in();
    let mut stream = batches.train(0, 0, 0..batches.batch())?;
    let (mut loaded, mut epochs_ns) = (0u64, Vec::new());
    let start = clock.now_ns();
    for epoch in 1..=u64::from(args.epochs.get()) {
        let begun = clock.now_ns();
        while loaded < epoch * samples {
            let Some(batch) = stream.next() else { break };
            let batch = batch?;
            loaded += batch.real as u64;
            if batch.epoch >= epoch {
                break;
            }
            stream.recycle(batch);
        }
        epochs_ns.push(clock.now_ns() - begun);
    }
    let load_seconds = seconds(start);
    let rate = |n: u64, seconds: f64| n as f64 / seconds.max(1e-9);
    let prepared = (!opened.prepared.reused).then(|| rate(rows, prepare_seconds));
    let json = json!({
        "samples": loaded,
        "epochs": args.epochs,
        "threads": threads,
        "load_seconds": load_seconds,
        "load_samples_per_s": rate(loaded, load_seconds),
        "epoch_seconds": epochs_ns.iter().map(|ns| *ns as f64 * 1e-9).collect::<Vec<_>>(),
        "prepared_rows": rows,
        "prepare_seconds": prepared.map(|_| prepare_seconds),
        "prepare_rows_per_s": prepared,
    });
    let mut text = match prepared {
        Some(rate) => {
            format!("prepared {} in {prepare_seconds:.2} s: {rate:.0} a second\n", counted(rows, "row"))
        }
        None => "prepared before: --cache with an empty folder measures that as well\n".to_owned(),
    };
    text.push_str(&format!(
        "loaded {} in {load_seconds:.2} s on {}: {:.0} a second\n",
        counted(loaded, "sample"),
        counted(threads as u64, "thread"),
        rate(loaded, load_seconds)
    ));
    Ok(context.answer(&json, &text)?)
}
