//! How many there are of something, in words.

use std::fmt::Display;

/// A number with what it counts, as `1 step` and `2 steps`.
pub fn counted(number: impl Display, one: &str) -> String {
    let number = number.to_string();
    let what = if number == "1" { one.to_owned() } else { plural(one) };
    format!("{number} {what}")
}

/// The plural of a regular noun.
fn plural(one: &str) -> String {
    let ends = |ends: &[&str]| ends.iter().any(|end| one.ends_with(end));
    match one.strip_suffix('y') {
        Some(stem) if !ends(&["ay", "ey", "oy"]) => format!("{stem}ies"),
        _ if ends(&["s", "x", "tch"]) => format!("{one}es"),
        _ => format!("{one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        for (number, one, expect) in [
            (0, "step", "0 steps"),
            (1, "step", "1 step"),
            (2, "class", "2 classes"),
            (1, "class", "1 class"),
            (3, "copy", "3 copies"),
            (3, "epoch", "3 epochs"),
            (2, "micro-shard", "2 micro-shards"),
            (2, "batch", "2 batches"),
            (2, "day", "2 days"),
        ] {
            assert_eq!(counted(number, one), expect);
        }
        assert_eq!(counted(1.0, "step"), "1 step");
    }
}
