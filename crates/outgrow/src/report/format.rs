//! Numbers and text as a page shows them.

/// Text that HTML takes literally.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Bytes with a binary unit, as `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 || unit == "TiB" {
            return if unit == "B" { format!("{count} B") } else { format!("{} {unit}", three(value)) };
        }
        value /= 1024.0;
    }
    format!("{count} B")
}

/// A count with thin spaces between the thousands, as `60 000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with what it counts, as `1 step` and `60 000 steps`.
pub fn counted(number: u64, one: &str) -> String {
    outgrow_ir::counted(count(number), one)
}

/// A count with at most four digits and a letter, as `44.4 k`.
pub fn short_count(number: f64) -> String {
    let (value, unit) = match number.abs() {
        n if n >= 1e9 => (number / 1e9, " G"),
        n if n >= 1e6 => (number / 1e6, " M"),
        n if n >= 1e4 => (number / 1e3, " k"),
        _ => (number, ""),
    };
    format!("{}{unit}", three(value))
}

/// Seconds, as `43 µs`, `43 ms`, `12.3 s`, `5 min 12 s` or `2 h 05 min`.
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    let whole = seconds.round() as u64;
    match seconds {
        0.0 => "0 s".to_owned(),
        s if s < 1e-3 => format!("{} µs", three(s * 1e6)),
        s if s < 1.0 => format!("{} ms", three(s * 1e3)),
        s if s < 100.0 => format!("{} s", three(s)),
        s if s < 3600.0 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A fraction as a percentage with one digit after the point, or two above 99.
pub fn percent(fraction: f64) -> String {
    let digits = if (0.99..1.0).contains(&fraction) { 2 } else { 1 };
    format!("{:.digits$} %", fraction * 100.0)
}

/// A measured number with four significant digits.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    match value.abs() {
        0.0 => "0".to_owned(),
        a if !(1e-3..1e6).contains(&a) => format!("{value:.3e}"),
        a => {
            let digits = (3 - a.log10().floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
    }
}

/// A metric's value as people read it.
pub fn metric(name: &str, value: f64) -> String {
    match name {
        "accuracy" | "top5" | "precision" | "recall" => percent(value),
        _ => number(value),
    }
}

/// A metric's name as people read it.
pub fn metric_name(name: &str) -> &str {
    match name {
        "top5" => "top-5 accuracy",
        "auc" => "AUC",
        "rmse" => "RMSE",
        "mae" => "MAE",
        "r2" => "R²",
        "f1" => "F1",
        "f1_weighted" => "weighted F1",
        "log_loss" => "log loss",
        name => name,
    }
}

/// Three significant digits without an exponent.
fn three(value: f64) -> String {
    let digits = match value.abs() {
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The first letter large.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (text, expect) in [
            (bytes(999), "999 B"),
            (bytes(1536), "1.5 KiB"),
            (bytes(123 << 20), "123 MiB"),
            (count(60000), "60\u{202f}000"),
            (count(7), "7"),
            (short_count(44426.0), "44.4 k"),
            (seconds(4.31e-5), "43.1 µs"),
            (seconds(0.0431), "43.1 ms"),
            (seconds(12.34), "12.3 s"),
            (seconds(312.0), "5 min 12 s"),
            (seconds(7500.0), "2 h 05 min"),
            (percent(0.9937), "99.37 %"),
            (percent(0.5), "50.0 %"),
            (number(0.012345), "0.01235"),
            (number(1.5e-7), "1.500e-7"),
            (number(f64::NAN), "NaN"),
            (escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"),
        ] {
            assert_eq!(text, expect);
        }
    }
}
