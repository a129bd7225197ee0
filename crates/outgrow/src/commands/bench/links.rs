//! `outgrow bench links`: what messages between workers cost.

use std::fmt::Write as _;

use outgrow_env::Transport;
use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::Communicator;
use outgrow_runtime::collective::calibrate::{Calibration, Effort, SIZES, Sample, calibrate};
use serde_json::{Value as Json, json};

use super::workers;
use crate::cli::BenchLinksArgs;
use crate::commands::table::aligned;
use crate::context::{Context, Failure};
use crate::manifest::TransportName;
use crate::report::format::count;

/// Measures the link between each two workers; in a process that another one has started, takes part in that.
pub fn run(args: &BenchLinksArgs, context: &Context) -> Result<(), Failure> {
    if args.place.memory.is_some() || args.place.key.is_some() {
        return match workers::join(&args.place).and_then(measure) {
            Ok(_) => Ok(()),
            // The first worker says what is wrong.
            Err(_) => Err(Failure::Told),
        };
    }
    let tls = args.transport == TransportName::Tcp && !args.no_tls;
    if args.no_tls && args.transport != TransportName::Tcp {
        let found = Diagnostic::new("cli.transport", "`--no-tls` is for workers over TCP").item("--no-tls");
        return Err(found.hint("add `--transport tcp`, or leave it out").into());
    }
    let (found, transport) = workers::together(args, measure)?;
    let json = json!({
        "workers": args.workers,
        "transport": transport,
        "tls": tls,
        "pairs": found.iter().map(in_json).collect::<Vec<_>>(),
    });
    let name = if tls { format!("{transport} with TLS") } else { transport.to_owned() };
    let text: String = found.iter().map(|one| in_words(one, &name)).collect();
    Ok(context.answer(&json, &text)?)
}

fn measure(links: Box<dyn Transport>) -> Result<Vec<Calibration>, Diagnostic> {
    let mut group = Communicator::new(links);
    let found = calibrate(&mut group, &SIZES, Effort::FULL);
    group.leave(found.as_ref().err().map(|lost| lost.problem.as_str()));
    found
}

/// Seconds for a message of a size, by the costs that were found.
fn fitted(found: &Calibration, bytes: usize) -> f64 {
    found.link.latency_s + bytes as f64 * found.link.byte_s
}

/// Bytes per second of a stream of messages.
fn stream_rate(sample: &Sample) -> f64 {
    (sample.bytes * sample.messages) as f64 / sample.stream_s
}

fn in_json(found: &Calibration) -> Json {
    let sample = |sample: &Sample| {
        json!({
            "bytes": sample.bytes,
            "one_way_seconds": sample.one_way_s,
            "fitted_seconds": fitted(found, sample.bytes),
            "added_seconds": sample.added_s,
            "stream_bytes_per_s": stream_rate(sample),
        })
    };
    json!({
        "workers": found.workers,
        "latency_seconds": found.link.latency_s,
        "seconds_per_byte": found.link.byte_s,
        "gap_seconds": found.link.gap_s,
        "add_seconds_per_byte": found.add_byte_s,
        "samples": found.samples.iter().map(sample).collect::<Vec<_>>(),
    })
}

fn in_words(found: &Calibration, transport: &str) -> String {
    let [one, other] = found.workers;
    let mut text = format!("workers {one} and {other}, {transport}\n");
    let titles = ["bytes", "us one way", "us by the fit", "us if added", "MB/s in a stream"];
    let mut table = vec![titles.map(str::to_owned).to_vec()];
    for sample in &found.samples {
        let us = |seconds: f64| format!("{:.2}", seconds * 1e6);
        table.push(vec![
            count(sample.bytes as u64),
            us(sample.one_way_s),
            us(fitted(found, sample.bytes)),
            us(sample.added_s),
            format!("{:.1}", stream_rate(sample) / 1e6),
        ]);
    }
    text.push_str(&aligned(&table));
    let _ = writeln!(
        text,
        "a message: {:.2} us, and {:.4} ns for each byte (gamma, if added: {:.4} ns); the next one after {:.2} us\n",
        found.link.latency_s * 1e6,
        found.link.byte_s * 1e9,
        found.add_byte_s * 1e9,
        found.link.gap_s * 1e6,
    );
    text
}
