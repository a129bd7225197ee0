//! Numbers that carry their bounds: used for the fields of a manifest, so that the JSON schema, the reader and the
//! validated form all agree on what is allowed, and the bound is written once.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $allowed:expr, { $($keyword:literal: $bound:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The number, if it is within the bounds.
            pub fn new(value: f64) -> Option<Self> {
                let allowed: fn(f64) -> bool = $allowed;
                (value.is_finite() && allowed(value)).then_some(Self(value))
            }

            /// The number itself.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = String;

            fn try_from(value: f64) -> Result<Self, String> {
                Self::new(value).ok_or_else(|| format!("{value} is not {}", $expected))
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "number", $($keyword: $bound),+ })
            }
        }
    };
}

bounded!(
    /// A finite number greater than zero.
    Positive, "a number greater than 0", |v| v > 0.0, { "exclusiveMinimum": 0 }
);
bounded!(
    /// A finite number that is zero or greater.
    NonNegative, "a number of 0 or more", |v| v >= 0.0, { "minimum": 0 }
);
bounded!(
    /// A number from 0 (included) to 1 (excluded): a dropout probability, a momentum, a decay rate.
    Fraction, "a number from 0 up to, but not including, 1", |v| (0.0..1.0).contains(&v),
    { "minimum": 0, "exclusiveMaximum": 1 }
);

bounded!(
    /// A probability that is neither 0 nor 1.
    Probability, "a number above 0 and below 1", |v| v > 0.0 && v < 1.0,
    { "exclusiveMinimum": 0, "exclusiveMaximum": 1 }
);

/// The word `true`: for switches that are either present or left out, such as `{ flatten = true }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "bool", into = "bool")]
pub struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        if value { Ok(Self) } else { Err("only `true` has a meaning here; leave the key out instead") }
    }
}

impl From<True> for bool {
    fn from(_: True) -> Self {
        true
    }
}

impl JsonSchema for True {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "True".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean", "const": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        for (value, positive, non_negative, fraction, probability) in [
            (-1.0, false, false, false, false),
            (0.0, false, true, true, false),
            (0.5, true, true, true, true),
            (1.0, true, true, false, false),
            (f64::INFINITY, false, false, false, false),
            (f64::NAN, false, false, false, false),
        ] {
            assert_eq!(Positive::new(value).is_some(), positive, "positive {value}");
            assert_eq!(NonNegative::new(value).is_some(), non_negative, "non-negative {value}");
            assert_eq!(Fraction::new(value).is_some(), fraction, "fraction {value}");
            assert_eq!(Probability::new(value).is_some(), probability, "probability {value}");
        }
    }
}
