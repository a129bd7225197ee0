//! `outgrow bench serve`: a load for a server of the Open Inference Protocol, and what came of it.

mod connection;
mod load;
mod request;
mod search;
mod told;
mod trust;
mod url;

use std::time::{Duration, Instant};

use outgrow_ir::Diagnostic;
use serde_json::json;

use crate::cli::{BenchServeArgs, Unit, time, time_or_none};
use crate::context::{Context, Failure};
use crate::session::cpu_seconds;
use connection::{Connection, Target};
use load::Load;
use request::Request;
use search::Search;
use told::{Measured, Trial, tidy, trials_text};
use url::Url;

/// How long an answer is waited for, beyond the time that the server is given.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections where requests arrive by themselves: enough that few find none free.
const OPEN_CONNECTIONS: usize = 64;
/// The highest rate that is tried.
const RATE_MAX: f64 = 1e6;
/// Seconds that are measured, and of each rate that is tried.
const SECONDS: f64 = 10.0;
const TRIAL_SECONDS: f64 = 5.0;
/// The part of what a server can do at most with which a search begins.
const FIRST_PART: f64 = 0.7;
/// A rate is judged by so many requests at least.
const JUDGED_BY: f64 = 20.0;

/// Puts a server under a load and says how it bore it.
pub fn run(args: &BenchServeArgs, context: &Context) -> Result<(), Failure> {
    let mut url = Url::parse(&args.url)?;
    let load = load_of(args)?;
    url.token = trust::token(args)?;
    let target = trust::target(&url, args.ca.as_deref())?;
    let mut connection = Connection::new(target.clone(), load.patience);
    let request = match args.path.as_deref().zip(args.body.as_deref()) {
        Some((path, body)) => Request::of_file(path, body, &url)?,
        None => Request::make(args, &url, &mut connection, &context.world.storage)?,
    };
    let answer_bytes = request.try_out(&url, &mut connection)?;
    drop(connection);
    let bench = Bench { context, url, target, request, answer_bytes };
    if args.find_rate {
        return bench.find_rate(&load);
    }
    let measured = bench.measure(load)?;
    Ok(context.answer(&measured.json(), &measured.text())?)
}

/// What is the same in all measurements of a command.
struct Bench<'a> {
    context: &'a Context,
    url: Url,
    target: Target,
    request: Request,
    answer_bytes: usize,
}

impl Bench<'_> {
    fn measure(&self, load: Load) -> Result<Measured<'_>, Failure> {
        let (before, start) = (cpu_seconds(), Instant::now());
        let outcome = load::run(&load, &self.target, &self.request.bytes, &self.context.progress())?;
        let seconds = start.elapsed().as_secs_f64();
        let own_cores = before.zip(cpu_seconds()).map(|(before, after)| (after - before) / seconds);
        if outcome.arrived() == 0 {
            let problem = Diagnostic::new("bench.none", "no request arrived in the time that is measured");
            return Err(problem.item("--seconds").hint("measure for longer, or at a higher rate").into());
        }
        Ok(Measured {
            url: &self.url,
            request: &self.request,
            answer_bytes: self.answer_bytes,
            load,
            outcome,
            own_cores,
        })
    }

    /// Looks for the highest rate of which 99 of 100 requests are answered within the target.
    fn find_rate(&self, load: &Load) -> Result<(), Failure> {
        let first = match load.rate {
            Some(rate) => rate,
            None => {
                let all = self.measure(Load { rate: None, ..*load })?;
                all.outcome.ok() as f64 / all.outcome.elapsed.max(load.measured).as_secs_f64() * FIRST_PART
            }
        };
        let least = JUDGED_BY / load.measured.as_secs_f64();
        let mut search = Search::new(first, [least, RATE_MAX]);
        let mut trials: Vec<Trial> = Vec::new();
        let mut best: Option<Measured<'_>> = None;
        while let Some(rate) = search.next() {
            // Other arrivals each time, so that no rate is good for one order of them alone.
            let seed = load.seed.wrapping_add(trials.len() as u64);
            let measured = self.measure(Load { rate: Some(rate), seed, ..*load })?;
            let trial = measured.trial(rate);
            search.tell(trial.borne);
            trials.push(trial);
            if trial.borne {
                best = Some(measured);
            }
        }
        let target_ms = load.target.unwrap_or_default().as_secs_f64() * 1e3;
        let mut json = best.as_ref().map_or_else(|| json!({}), Measured::json);
        json["found_rate"] = json!(search.found());
        json["target_ms"] = json!(target_ms);
        json["trials"] = trials.iter().map(Trial::json).collect();
        let found = match search.found() {
            Some(rate) => format!("{} requests/s are answered within {target_ms} ms, 99 of 100", tidy(rate)),
            None => format!("not even {} requests/s are answered within {target_ms} ms", tidy(least)),
        };
        let text = best.as_ref().map_or_else(String::new, Measured::text);
        Ok(self.context.answer(&json, &format!("{}\n{text}\n{found}\n", trials_text(&trials)))?)
    }
}

fn load_of(args: &BenchServeArgs) -> Result<Load, Diagnostic> {
    let seconds = args.seconds.unwrap_or(if args.find_rate { TRIAL_SECONDS } else { SECONDS });
    let is_open = args.rate.is_some() || args.find_rate;
    let told = args.timeout_ms.map_or(0, |ms| ms.get());
    if let Some(rate) = args.rate
        && !(rate > 0.0 && rate <= RATE_MAX)
    {
        let problem = Diagnostic::new("bench.rate", format!("{rate} is no rate")).item("--rate");
        return Err(problem.expected(format!("requests per second, above 0 and up to {RATE_MAX}")));
    }
    Ok(Load {
        connections: args.connections.map_or(if is_open { OPEN_CONNECTIONS } else { 1 }, |n| n.get()),
        rate: args.rate,
        warm_up: time_or_none("--warm-up", args.warm_up, Unit::Seconds)?,
        measured: time("--seconds", seconds, Unit::Seconds)?,
        patience: PATIENCE + Duration::from_millis(told),
        target: args.target_ms.map(|ms| time("--target-ms", ms, Unit::Milliseconds)).transpose()?,
        seed: args.seed,
    })
}
