//! Times that options give.

use std::time::Duration;

use outgrow_ir::Diagnostic;

/// The longest that an option may ask for.
const DAY: Duration = Duration::from_secs(86_400);

/// What an option counts time in.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// `--seconds 2.5`.
    Seconds,
    /// `--target-ms 50`.
    Milliseconds,
}

impl Unit {
    fn seconds(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Milliseconds => 1e-3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
        }
    }
}

/// The time that an option gives, which must be more than none.
///
/// # Errors
/// For what is no time, less than a nanosecond or more than a day.
pub fn time(option: &str, given: f64, unit: Unit) -> Result<Duration, Diagnostic> {
    let time = checked(given, unit).filter(|time| !time.is_zero());
    time.ok_or_else(|| no_time(option, given, &format!("{} above 0", unit.name())))
}

/// The time that an option gives, which may be none.
///
/// # Errors
/// For what is no time, or more than a day.
pub fn time_or_none(option: &str, given: f64, unit: Unit) -> Result<Duration, Diagnostic> {
    checked(given, unit).ok_or_else(|| no_time(option, given, &format!("0 {} or more", unit.name())))
}

fn checked(given: f64, unit: Unit) -> Option<Duration> {
    Duration::try_from_secs_f64(given * unit.seconds()).ok().filter(|time| *time <= DAY)
}

fn no_time(option: &str, given: f64, least: &str) -> Diagnostic {
    Diagnostic::new("option.time", format!("{given} is no time for this"))
        .item(option)
        .expected(format!("{least}, and a day at most"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_in_their_unit_and_no_longer_than_a_day() {
        assert_eq!(time("--x", 1.5, Unit::Seconds).unwrap(), Duration::from_millis(1500));
        assert_eq!(time("--x", 1.5, Unit::Milliseconds).unwrap(), Duration::from_micros(1500));
        assert_eq!(time("--x", 86_400.0, Unit::Seconds).unwrap(), DAY);
        assert_eq!(time_or_none("--x", 0.0, Unit::Seconds).unwrap(), Duration::ZERO);
        for given in [0.0, -1.0, 1e-10, 86_401.0, 1e300, f64::NAN, f64::INFINITY] {
            let refused = time("--x", given, Unit::Seconds).unwrap_err();
            assert!(refused.to_string().contains("seconds above 0, and a day at most"), "{refused}");
        }
        for given in [-1.0, 1e9, f64::NAN, f64::INFINITY] {
            let refused = time_or_none("--x", given, Unit::Milliseconds).unwrap_err();
            assert!(refused.to_string().contains("0 milliseconds or more"), "{refused}");
        }
    }
}
