//! The log of metrics: of any bytes, what is kept are objects up to the step asked for, and reading them again gives
//! the same and finds no damage. The first byte is the step.

use outgrow_store::json_lines::parse;

pub fn check(data: &[u8]) {
    let Some((step, log)) = data.split_first() else { return };
    let step = u64::from(*step);
    let parsed = parse(log, step);
    assert!(parsed.lines.iter().all(|line| line.is_object()));
    assert!(parsed.lines.iter().all(|line| line["step"].as_u64().is_none_or(|s| s <= step)));
    let written: String = parsed.lines.iter().map(|line| format!("{line}\n")).collect();
    let back = parse(written.as_bytes(), step);
    assert_eq!(back.lines, parsed.lines);
    assert!(back.damaged.0.is_empty(), "{}", back.damaged);
}
