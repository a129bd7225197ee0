//! Which field of a request is not what it should be. Only requests that were refused are read this way, which takes
//! no more memory than they have.

use std::borrow::Cow;
use std::collections::BTreeMap;

use outgrow_ir::{Diagnostic, Problem};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An object's members as they stand there.
type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A member's name, whether it has to be there, what it has to be, and whether it is that.
type Field = (&'static str, bool, &'static str, fn(&str) -> bool);

fn is<'a, T: Deserialize<'a>>(json: &'a str) -> bool {
    serde_json::from_str::<Option<T>>(json).is_ok()
}

fn is_there<'a, T: Deserialize<'a>>(json: &'a str) -> bool {
    serde_json::from_str::<T>(json).is_ok()
}

const REQUEST: [Field; 4] = [
    ("id", false, "text", |json| is::<Cow<'_, str>>(json)),
    ("parameters", false, "an object", |json| is::<Members<'_>>(json)),
    ("inputs", true, "an array of tensors", |json| is_there::<Vec<&RawValue>>(json)),
    ("outputs", false, "an array of outputs", |json| is::<Vec<&RawValue>>(json)),
];
const INPUT: [Field; 4] = [
    ("name", true, "text", |json| is_there::<Cow<'_, str>>(json)),
    ("shape", true, "an array of whole numbers", |json| is_there::<Vec<i64>>(json)),
    ("datatype", true, "text, as `FP32`", |json| is_there::<Cow<'_, str>>(json)),
    ("parameters", false, "an object", |json| is::<Members<'_>>(json)),
];
const OUTPUT: [Field; 2] = [
    ("name", true, "text", |json| is_there::<Cow<'_, str>>(json)),
    ("parameters", false, "an object", |json| is::<Members<'_>>(json)),
];

/// What is wrong with a request that could not be read.
pub(super) fn request(json: &[u8], error: &serde_json::Error) -> Diagnostic {
    let found = std::str::from_utf8(json).ok().and_then(find);
    found.unwrap_or_else(|| {
        // The position is said in words: the body is no file.
        let problem =
            Diagnostic::new("serve.json", format!("the body is not as it should be: {error}")).item("body");
        let token =
            std::str::from_utf8(json).ok().filter(|_| error.is_syntax()).and_then(|json| at(json, error));
        match token {
            Some(word) if word.starts_with("NaN") || word.starts_with("Inf") || word.starts_with("-I") => {
                problem.expected("finite numbers: JSON has no others").hint("send the tensor as binary data")
            }
            _ => problem.expected("one JSON object with `inputs`"),
        }
    })
}

/// What stands where the error is.
fn at<'a>(json: &'a str, error: &serde_json::Error) -> Option<&'a str> {
    let line = json.split('\n').nth(error.line().checked_sub(1)?)?;
    let start = error.column().saturating_sub(2);
    let rest = line.get(start..)?.trim_start_matches([',', '[', ' ', ':']);
    Some(rest)
}

/// The first field that is not what it should be.
fn find(json: &str) -> Option<Diagnostic> {
    let members: Members<'_> = serde_json::from_str(json).ok()?;
    let parts = |name: &str| -> Vec<&RawValue> {
        let parts = members.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok());
        parts.unwrap_or_default()
    };
    let each = |name: &str, fields: &[Field]| {
        let part = |(i, raw): (usize, &RawValue)| {
            let place = format!("{name}[{i}]");
            match serde_json::from_str::<Members<'_>>(raw.get()) {
                Ok(members) => check(&members, fields, &format!("{place}.")),
                Err(_) => Some(wrong(&place, "is no object").expected("an object with `name`")),
            }
        };
        parts(name).into_iter().enumerate().find_map(part)
    };
    check(&members, &REQUEST, "").or_else(|| each("inputs", &INPUT)).or_else(|| each("outputs", &OUTPUT))
}

fn wrong(field: &str, problem: &str) -> Problem {
    Diagnostic::new("serve.request", format!("`{field}` {problem}")).item(field)
}

fn check(members: &Members<'_>, fields: &[Field], prefix: &str) -> Option<Diagnostic> {
    fields.iter().find_map(|(name, needed, expected, fits)| {
        let field = format!("{prefix}{name}");
        match members.get(*name) {
            None if *needed => Some(wrong(&field, "is missing").expected(*expected)),
            Some(raw) if !fits(raw.get()) => {
                Some(wrong(&field, "is not what it should be").expected(*expected))
            }
            _ => None,
        }
    })
}
