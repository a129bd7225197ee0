//! The log of metrics: durable lines, cut back to the step that a run resumes from.

use outgrow_env::{SimStorage, StorageBackend};
use outgrow_store::JsonLines;
use outgrow_store::json_lines::parse;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const PATH: &str = "/metrics.jsonl";

fn line(step: u64) -> Value {
    json!({"step": step, "loss": 1.0 / (step as f64 + 3.0), "note": "two\nlines"})
}

fn steps(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|l| l["step"].as_u64().unwrap()).collect()
}

/// A log with steps 1 to 5.
fn log(seed: u64) -> Arc<SimStorage> {
    let storage = Arc::new(SimStorage::new(seed));
    let (mut log, parsed) = JsonLines::resume(storage.clone(), PATH, 0).unwrap();
    assert!(parsed.lines.is_empty());
    for step in 1..=5 {
        log.push(&line(step)).unwrap();
    }
    assert_eq!(storage.entry(Path::new(PATH)).unwrap(), None, "lines wait for the flush");
    log.flush().unwrap();
    storage
}

#[test]
fn resuming_drops_later_lines_and_goes_on() {
    let storage = log(1);
    let (mut again, parsed) = JsonLines::resume(storage.clone(), PATH, 3).unwrap();
    assert_eq!(parsed.lines, [line(1), line(2), line(3)]);
    again.push(&line(4)).unwrap();
    again.flush().unwrap();
    again.flush().unwrap();
    let (_, parsed) = JsonLines::resume(storage.clone(), PATH, u64::MAX).unwrap();
    assert_eq!(steps(&parsed.lines), [1, 2, 3, 4]);
}

#[test]
fn a_torn_end_is_dropped_silently_and_damage_told() {
    let text =
        "{\"step\":1}\nrubbish\n{\"event\":\"resumed\"}\n{\"step\":2}\n{\"step\":9}\n{\"step\":2}\n{\"ste";
    let parsed = parse(text.as_bytes(), 5);
    assert_eq!(parsed.lines, [json!({"step": 1}), json!({"event": "resumed"}), json!({"step": 2})]);
    assert_eq!((parsed.damaged.0.len(), parsed.damaged.0[0].place.line), (1, Some(2)));
    for end in ["{\"step\":2", "\0\0\0\0", "\0\0\n", "5\n", "{\"step\":2}"] {
        let parsed = parse(format!("{{\"step\":1}}\n{end}").as_bytes(), 5);
        assert_eq!((parsed.lines, parsed.damaged.0.len()), (vec![json!({"step": 1})], 0), "{end:?}");
    }
}

#[test]
fn a_crash_loses_only_what_was_not_flushed() {
    for seed in 0..40 {
        let storage = log(seed);
        let (mut log, _) = JsonLines::resume(storage.clone(), PATH, 5).unwrap();
        log.push(&line(6)).unwrap();
        storage.disk().crash_at_operation(Some(1 + seed % 3));
        let flushed = log.flush().is_ok();
        storage.disk().restart();
        let (mut log, parsed) = JsonLines::resume(storage.clone(), PATH, 6).unwrap();
        let after = steps(&parsed.lines);
        assert!(after == [1, 2, 3, 4, 5, 6] || (after == [1, 2, 3, 4, 5] && !flushed), "{after:?}");
        log.push(&line(7)).unwrap();
        log.flush().unwrap();
        let (_, parsed) = JsonLines::resume(storage, PATH, 7).unwrap();
        assert_eq!((parsed.lines.last(), parsed.damaged.0.len()), (Some(&line(7)), 0));
    }
}

/// Lines that a thread writes can be seen before anybody waits for them, in their order, and each of them once.
#[test]
fn lines_are_written_beside() {
    let storage = log(1);
    let (mut log, _) = JsonLines::resume(storage.clone(), PATH, 5).unwrap();
    log.flush_beside().unwrap();
    let there = || steps(&parse(&storage.read(Path::new(PATH)).unwrap(), u64::MAX).lines);
    for step in 6..60 {
        log.push(&line(step)).unwrap();
        log.flush_beside().unwrap();
        if step % 9 == 0 {
            while there().len() < 6 {
                std::thread::yield_now();
            }
        }
    }
    log.flush().unwrap();
    assert_eq!(there(), (1..60).collect::<Vec<_>>());
    // Lines that cannot be written go on waiting, before those that came meanwhile.
    log.push(&line(60)).unwrap();
    storage.disk().set_capacity(Some(storage.disk().used() + 10));
    log.flush_beside().unwrap();
    log.push(&line(61)).unwrap();
    log.flush().unwrap_err();
    storage.disk().set_capacity(None);
    log.flush().unwrap();
    assert_eq!(there(), (1..62).collect::<Vec<_>>());
    // Whoever goes waits for what is being written.
    log.push(&line(62)).unwrap();
    log.flush_beside().unwrap();
    drop(log);
    assert_eq!(there().last(), Some(&62));
}

#[test]
fn a_full_disk_keeps_the_lines_waiting() {
    let storage = log(1);
    let (mut log, _) = JsonLines::resume(storage.clone(), PATH, 5).unwrap();
    log.push(&line(6)).unwrap();
    storage.disk().set_capacity(Some(storage.disk().used() + 10));
    log.flush().unwrap_err();
    storage.disk().set_capacity(None);
    log.flush().unwrap();
    assert_eq!(steps(&parse(&storage.read(Path::new(PATH)).unwrap(), 9).lines), [1, 2, 3, 4, 5, 6]);
}
