//! Manifests to start from, for `outgrow init`: a few keys with values, each under its documentation, and the other
//! keys of training as comments. Documentation and defaults come from the schema.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::schema::{Leaf, describe, json_schema, leaves};

/// The width of the file.
const WIDTH: usize = 100;

/// A manifest to start from: for each section its keys and their values in TOML; after `# `, a value that is only an
/// example, and stands in a comment.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    data: &'static [(&'static str, &'static str)],
    model: &'static [(&'static str, &'static str)],
    train: &'static [(&'static str, &'static str)],
}

/// How a network for images is trained.
const IMAGES: &[(&str, &str)] = &[
    ("epochs", "10"),
    ("batch", "128"),
    ("optimizer", "{ name = \"momentum\", momentum = 0.9 }"),
    ("lr", "0.05"),
    ("weight_decay", "5e-4"),
    ("schedule", "\"cosine\""),
];

/// How a table is cleaned, where nothing is known of it.
const CLEAN: &str = "[\n  { fill = { columns = \"numeric\", with = \"median\" } },\n  \
     { normalize = { columns = \"numeric\", with = \"robust\", smooth_clip = 3 } },\n  \
     { one_hot = { columns = \"text\", signed_pairs = true } },\n]";
/// How a model for tables is trained: it knows by itself.
const TABLES: &[(&str, &str)] = &[("epochs", "# 256"), ("batch", "# 256"), ("lr", "# 0.04")];

/// Every template.
pub const TEMPLATES: &[Template] = &[
    Template {
        name: "glyphs",
        about: "drawings of ten characters, made up on the spot: needs no files",
        data: &[
            ("source", "\"synthetic:glyphs\""),
            ("samples", "20000"),
            ("test", "{ samples = 4000 }"),
            ("split", "{ validation = 0.05 }"),
        ],
        model: &[(
            "layers",
            "[\n  { conv = 16, kernel = 5, padding = \"same\", activation = \"relu\" },\n  { max_pool = 2 },\n  \
             { conv = 32, kernel = 5, padding = \"same\", activation = \"relu\" },\n  { max_pool = 2 },\n  \
             { flatten = true },\n  { dense = 128, activation = \"relu\" },\n  \
             { dense = 10, activation = \"softmax\" },\n]",
        )],
        train: &[("epochs", "5"), ("batch", "64"), ("optimizer", "\"adam\""), ("lr", "0.001")],
    },
    Template {
        name: "csv",
        about: "a table in a CSV file, one column of which is predicted",
        data: &[
            ("source", "\"csv\""),
            ("files", "\"table.csv\""),
            ("label", "\"class\""),
            ("task", "# \"classify\""),
            ("missing", "[\"?\", \"NA\"]"),
            ("split", "{ validation = 0.15, test = 0.2 }"),
            ("clean", CLEAN),
        ],
        model: &[("name", "\"realmlp\"")],
        train: TABLES,
    },
    Template {
        name: "parquet",
        about: "a table in a Parquet file, one column of which is predicted",
        data: &[
            ("source", "\"parquet\""),
            ("files", "\"table.parquet\""),
            ("label", "\"class\""),
            ("task", "# \"classify\""),
            ("split", "{ validation = 0.15, test = 0.2 }"),
            ("clean", CLEAN),
        ],
        model: &[("name", "\"realmlp\"")],
        train: TABLES,
    },
    Template {
        name: "folder",
        about: "images (PNG, JPEG or WebP) in a folder for each class",
        data: &[
            ("source", "\"image_folder\""),
            ("files", "\"images\""),
            ("size", "[64, 64]"),
            ("split", "{ validation = 0.1, test = 0.15 }"),
            ("normalize", "\"standard\""),
            ("augment", "{ crop = { padding = 4 }, flip = \"horizontal\" }"),
        ],
        model: &[("name", "\"resnet18\""), ("stem", "\"small\"")],
        train: IMAGES,
    },
    Template {
        name: "images",
        about: "images (PNG or JPEG) and their classes in Parquet files, as on the Hugging Face Hub",
        data: &[
            ("source", "\"parquet\""),
            ("files", "\"images/train-*.parquet\""),
            ("test", "{ files = \"images/test-*.parquet\" }"),
            ("label", "\"label\""),
            ("split", "{ validation = 0.05 }"),
            ("normalize", "\"standard\""),
        ],
        model: &[("name", "\"resnet18\""), ("stem", "\"small\"")],
        train: IMAGES,
    },
    Template {
        name: "text",
        about: "a language model over the characters of a text",
        data: &[
            ("source", "\"text\""),
            ("files", "\"input.txt\""),
            ("context", "64"),
            ("split", "{ validation = 0.1 }"),
        ],
        model: &[("name", "\"gpt\""), ("layers", "4"), ("heads", "4"), ("width", "128")],
        train: &[
            ("epochs", "1"),
            ("batch", "32"),
            ("optimizer", "\"adamw\""),
            ("lr", "0.001"),
            ("warmup_steps", "100"),
            ("schedule", "\"cosine\""),
            ("clip_norm", "1.0"),
        ],
    },
];

/// A template as the text of a manifest, with the documentation of its keys.
pub fn commented(template: &Template) -> String {
    let schema = json_schema();
    let mut text = String::new();
    comment(&mut text, &format!("An Outgrow manifest: {}.", template.about));
    comment(
        &mut text,
        "`outgrow run` trains the model; `outgrow schema` says everything that a manifest may hold.",
    );
    text.push('\n');
    let root = leaves(schema, schema);
    if let Some(seed) = root.first().and_then(|leaf| leaf.property("seed")) {
        comment(&mut text, about(seed));
    }
    text.push_str("seed = 0\n");
    for (name, keys) in [("data", template.data), ("model", template.model), ("train", template.train)] {
        let Some(section) = root.first().and_then(|leaf| leaf.property(name)) else { continue };
        text.push('\n');
        comment(&mut text, about(section));
        let _ = writeln!(text, "[{name}]");
        write_section(&mut text, schema, section, name, keys);
    }
    text
}

fn write_section(text: &mut String, schema: &Json, section: &Json, name: &str, keys: &[(&str, &str)]) {
    let alternatives = leaves(schema, section);
    // The alternative that knows the keys: a named model's options, for example.
    let knows = |leaf: &&Leaf<'_>| {
        let named = keys.iter().find(|(key, _)| *key == "name").is_none_or(|(_, value)| {
            let constants = leaf.property("name").and_then(|one| leaves(schema, one).first()?.constants());
            constants
                .is_some_and(|all| all.iter().map(ToString::to_string).any(|constant| constant == *value))
        });
        let given = |required: &&str| keys.iter().any(|(key, _)| key == required);
        named && keys.iter().all(|(key, _)| leaf.property(key).is_some()) && leaf.required().iter().all(given)
    };
    let Some(leaf) = alternatives.iter().find(knows) else { return };
    for (key, value) in keys {
        let property = leaf.property(key).map_or("", about);
        let whole = leaf.get("description").and_then(Json::as_str).unwrap_or_default();
        comment(text, if property.is_empty() { whole } else { property });
        let _ = match value.strip_prefix("# ") {
            Some(example) => writeln!(text, "# {key} = {example}"),
            None => writeln!(text, "{key} = {value}"),
        };
    }
    let others: Vec<_> =
        leaf.properties().filter(|(key, _)| keys.iter().all(|(given, _)| given != key)).collect();
    if name != "train" {
        if !others.is_empty() {
            let names: Vec<_> = others.iter().map(|(key, _)| *key).collect();
            comment(text, &format!("Other keys: {}.", names.join(", ")));
        }
        let constants = |leaf: &Leaf<'_>| {
            let all = leaves(schema, leaf.property("name")?).first()?.constants()?;
            Some(all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let names: Vec<_> = alternatives.iter().filter_map(constants).flatten().collect();
        if keys.iter().all(|(key, _)| *key != "name") && !names.is_empty() {
            comment(text, &format!("Or a named architecture with its options: name = {}.", names.join(", ")));
        }
        return;
    }
    text.push_str("\n# The other keys, each with its default or an example:\n");
    for (key, property) in others {
        text.push_str("#\n");
        comment(text, about(property));
        match property.get("default").or_else(|| property.get("examples")?.get(0)).and_then(toml_value) {
            Some(value) => {
                let _ = writeln!(text, "# {key} = {value}");
            }
            None => comment(text, &format!("`{key}`: {}", describe(&leaves(schema, property)))),
        }
    }
}

fn about(schema: &Json) -> &str {
    schema.get("description").and_then(Json::as_str).unwrap_or_default()
}

/// A value as TOML writes it on one line; nothing for null.
fn toml_value(json: &Json) -> Option<String> {
    Some(match json {
        Json::Null => return None,
        Json::Object(table) => {
            let entries =
                table.iter().filter_map(|(key, value)| Some(format!("{key} = {}", toml_value(value)?)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        Json::Array(items) => {
            format!("[{}]", items.iter().filter_map(toml_value).collect::<Vec<_>>().join(", "))
        }
        plain => plain.to_string(),
    })
}

/// A comment, wrapped at word ends.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line != "#" {
        let _ = writeln!(text, "{line}");
    }
}
