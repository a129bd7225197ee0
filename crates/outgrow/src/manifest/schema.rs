//! The manifest's JSON schema, derived from the structs of its sections, and a view of it that makes alternatives
//! easy to compare with what was written.
//!
//! The schema is the single source of what a manifest may hold: a new field of a section's struct is checked,
//! suggested and documented without a change here.

use std::sync::LazyLock;

use serde_json::{Map, Value as Json};

use super::ManifestSpec;
use super::tree::{Node, Value};

/// References within references, and alternatives within alternatives.
const MAX_DEPTH: usize = 32;

/// The schema that takes everything.
static ANYTHING: Json = Json::Bool(true);

/// The JSON schema of a manifest.
pub fn json_schema() -> &'static Json {
    static SCHEMA: LazyLock<Json> = LazyLock::new(derive);
    &SCHEMA
}

fn derive() -> Json {
    let mut schema = schemars::schema_for!(ManifestSpec).to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), Json::from("Outgrow manifest"));
    }
    schema
}

/// One alternative of a schema: all its parts hold at once.
#[derive(Clone, Debug)]
pub(super) struct Leaf<'s> {
    parts: Vec<&'s Map<String, Json>>,
}

/// The type of a value as JSON schema names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
}

/// All alternatives of a schema, with references followed.
pub(super) fn leaves<'s>(root: &'s Json, schema: &'s Json) -> Vec<Leaf<'s>> {
    let mut found = expand(root, schema, Leaf { parts: Vec::new() }, 0);
    found.retain(|leaf| leaf.type_names().is_none_or(|names| names != ["null"]));
    found
}

fn expand<'s>(root: &'s Json, schema: &'s Json, mut base: Leaf<'s>, depth: usize) -> Vec<Leaf<'s>> {
    let Some(map) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return vec![base] };
    base.parts.push(map);
    let mut found = vec![base];
    if let Some(target) =
        map.get("$ref").and_then(Json::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?))
    {
        found = found.into_iter().flat_map(|leaf| expand(root, target, leaf, depth + 1)).collect();
    }
    for alternatives in ["anyOf", "oneOf"].into_iter().filter_map(|word| map.get(word)?.as_array()) {
        found = found
            .into_iter()
            .flat_map(|leaf| {
                alternatives.iter().flat_map(move |one| expand(root, one, leaf.clone(), depth + 1))
            })
            .collect();
    }
    for all in map.get("allOf").and_then(Json::as_array).into_iter().flatten() {
        found = found.into_iter().flat_map(|leaf| expand(root, all, leaf, depth + 1)).collect();
    }
    found
}

impl<'s> Leaf<'s> {
    /// The value of a keyword, from the innermost part that has it.
    pub fn get(&self, keyword: &str) -> Option<&'s Json> {
        self.parts.iter().rev().find_map(|part| part.get(keyword))
    }

    fn type_names(&self) -> Option<Vec<&'s str>> {
        match self.get("type")? {
            Json::String(name) => Some(vec![name]),
            Json::Array(names) => Some(names.iter().filter_map(Json::as_str).collect()),
            _ => None,
        }
    }

    /// The types it takes; none when it takes anything.
    pub fn kinds(&self) -> Vec<Kind> {
        if let Some(names) = self.type_names() {
            return names.into_iter().filter_map(Kind::from_name).collect();
        }
        let sample = self.get("const").or_else(|| self.get("enum")?.as_array()?.first());
        match sample {
            Some(Json::String(_)) => vec![Kind::String],
            Some(Json::Bool(_)) => vec![Kind::Boolean],
            Some(Json::Number(_)) => vec![Kind::Number],
            _ if self.parts.iter().any(|part| part.contains_key("properties")) => vec![Kind::Object],
            _ => Vec::new(),
        }
    }

    /// Whether it takes values of this type.
    pub fn takes(&self, kind: Kind) -> bool {
        let kinds = self.kinds();
        kinds.is_empty()
            || kinds.iter().any(|mine| *mine == kind || (*mine == Kind::Number && kind == Kind::Integer))
    }

    /// The only values it takes, when there is such a list.
    pub fn constants(&self) -> Option<Vec<&'s Json>> {
        match (self.get("const"), self.get("enum")) {
            (Some(one), _) => Some(vec![one]),
            (None, Some(Json::Array(many))) => Some(many.iter().collect()),
            _ => None,
        }
    }

    /// The keys it knows, in the order of the structs' fields, and their schemas.
    pub fn properties(&self) -> impl Iterator<Item = (&'s str, &'s Json)> {
        let maps: Vec<_> = self.parts.iter().filter_map(|part| part.get("properties")?.as_object()).collect();
        maps.into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
    }

    /// The schema of a key.
    pub fn property(&self, key: &str) -> Option<&'s Json> {
        self.properties().find(|(name, _)| *name == key).map(|(_, schema)| schema)
    }

    /// The keys it cannot do without.
    pub fn required(&self) -> Vec<&'s str> {
        let lists = self.parts.iter().filter_map(|part| part.get("required")?.as_array());
        lists.flatten().filter_map(Json::as_str).collect()
    }

    /// The schema of keys it does not name, `None` when it takes no others.
    pub fn additional(&self) -> Option<&'s Json> {
        let shut = Json::Bool(false);
        let words = ["additionalProperties", "unevaluatedProperties"];
        let mut given = self.parts.iter().flat_map(|part| words.iter().filter_map(|word| part.get(*word)));
        match given.find(|schema| **schema == shut) {
            Some(_) => None,
            None => self.get("additionalProperties").or(Some(&ANYTHING)),
        }
    }
}

impl Kind {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    /// The type of a value.
    pub fn of(node: &Node) -> Self {
        match node.value {
            Value::String(_) => Self::String,
            Value::Integer(_) => Self::Integer,
            Value::Float(_) => Self::Number,
            Value::Bool(_) => Self::Boolean,
            Value::Array(_) => Self::Array,
            Value::Table(_) => Self::Object,
        }
    }
}

/// What the alternatives take, in words.
pub(super) fn describe(leaves: &[Leaf<'_>]) -> String {
    let constants: Vec<_> =
        leaves.iter().filter_map(Leaf::constants).flatten().map(Json::to_string).collect();
    let mut words = Vec::new();
    match constants.as_slice() {
        [] => {}
        [one] => words.push(one.clone()),
        many => words.push(format!("one of {}", many.join(", "))),
    }
    for leaf in leaves.iter().filter(|leaf| leaf.constants().is_none()) {
        for kind in leaf.kinds() {
            words.push(match kind {
                Kind::String => "a string".to_owned(),
                Kind::Boolean => "true or false".to_owned(),
                Kind::Integer => number(leaf, "an integer"),
                Kind::Number => number(leaf, "a number"),
                Kind::Array => array(leaf),
                Kind::Object => "a table".to_owned(),
            });
        }
    }
    let mut unique: Vec<String> = Vec::new();
    words.into_iter().for_each(|word| {
        if !unique.contains(&word) {
            unique.push(word);
        }
    });
    match unique.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => unique.concat(),
    }
}

fn number(leaf: &Leaf<'_>, what: &str) -> String {
    let [least, above] = bounds(leaf, ["minimum", "exclusiveMinimum"]);
    let [most, below] = bounds(leaf, ["maximum", "exclusiveMaximum"]);
    match (least, above, most, below) {
        (Some(least), _, Some(most), _) => format!("{what} from {least} to {most}"),
        (Some(least), _, _, Some(below)) => format!("{what} from {least} up to, but not including, {below}"),
        (_, Some(above), Some(most), _) => format!("{what} above {above}, at most {most}"),
        (_, Some(above), _, Some(below)) => format!("{what} between {above} and {below}, both left out"),
        (Some(least), ..) => format!("{what} of {least} or more"),
        (_, Some(above), ..) => format!("{what} greater than {above}"),
        (_, _, Some(most), _) => format!("{what} of at most {most}"),
        (_, _, _, Some(below)) => format!("{what} less than {below}"),
        _ => what.to_owned(),
    }
}

fn bounds(leaf: &Leaf<'_>, keywords: [&str; 2]) -> [Option<f64>; 2] {
    keywords.map(|keyword| leaf.get(keyword).and_then(Json::as_f64))
}

fn array(leaf: &Leaf<'_>) -> String {
    let length = |keyword| leaf.get(keyword).and_then(Json::as_u64);
    match (length("minItems"), length("maxItems")) {
        (Some(least), Some(most)) if least == most => format!("an array of {least}"),
        (Some(least), Some(most)) => format!("an array of {least} to {most}"),
        (Some(least), None) => format!("an array of {least} or more"),
        (None, Some(most)) => format!("an array of at most {most}"),
        (None, None) => "an array".to_owned(),
    }
}

/// Whether a number lies within a leaf's bounds.
pub(super) fn within(leaf: &Leaf<'_>, number: f64) -> bool {
    let [least, above] = bounds(leaf, ["minimum", "exclusiveMinimum"]);
    let [most, below] = bounds(leaf, ["maximum", "exclusiveMaximum"]);
    least.is_none_or(|bound| number >= bound)
        && above.is_none_or(|bound| number > bound)
        && most.is_none_or(|bound| number <= bound)
        && below.is_none_or(|bound| number < bound)
        && largest(leaf).is_none_or(|most| number <= most as f64)
}

/// The largest integer of a leaf's format, where it is less than TOML's own.
pub(super) fn largest(leaf: &Leaf<'_>) -> Option<i64> {
    match leaf.get("format").and_then(Json::as_str)? {
        "uint8" => Some(u8::MAX.into()),
        "uint16" => Some(u16::MAX.into()),
        "uint32" => Some(u32::MAX.into()),
        "int32" => Some(i32::MAX.into()),
        _ => None,
    }
}
