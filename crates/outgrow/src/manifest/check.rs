//! Compares a manifest's tree with the JSON schema and says everything that is wrong: unknown keys with the nearest
//! known one, wrong types and values, missing keys.

use std::collections::HashSet;

use outgrow_ir::Diagnostic;
use serde_json::Value as Json;

use super::SCHEMA;
use super::schema::{Kind, Leaf, describe, largest, leaves, within};
use super::suggest::nearest;
use super::tree::{Entry, Node, Origin, Value};

/// A diagnostic with what is needed to say its place.
#[derive(Debug)]
pub(super) struct Finding {
    pub origin: Origin,
    pub path: String,
    pub diagnostic: Diagnostic,
}

/// Beyond this many findings nobody reads on.
const MAX_FINDINGS: usize = 500;
/// The keys of a table that are looked at to tell which alternative was meant.
const MAX_KEYS: usize = 64;

/// Sections that have a meaning in the design, but not yet in this version.
const RESERVED: &[(&str, &str)] =
    &[("compress", "pruning, quantisation and distillation"), ("serve", "serving")];

/// Everything in `node` that does not fit `schema`.
pub(super) fn check(root: &Json, node: &Node) -> Vec<Finding> {
    let mut checker = Checker { root, found: Vec::new() };
    checker.value(root, node, &node.origin, "");
    checker.found
}

struct Checker<'s> {
    root: &'s Json,
    found: Vec<Finding>,
}

impl<'s> Checker<'s> {
    fn report(&mut self, origin: &Origin, path: &str, diagnostic: Diagnostic) {
        self.found.push(Finding { origin: origin.clone(), path: path.to_owned(), diagnostic });
    }

    /// `key_origin` is where the key of this value was written: what is missing in a table is shown there.
    fn value(&mut self, schema: &'s Json, node: &Node, key_origin: &Origin, path: &str) {
        if self.found.len() >= MAX_FINDINGS {
            return;
        }
        let all = leaves(self.root, schema);
        let kind = Kind::of(node);
        let fitting: Vec<_> = all.iter().filter(|leaf| leaf.takes(kind)).cloned().collect();
        match &node.value {
            _ if fitting.is_empty() => {
                let hint = hint_for(node, &all).or_else(|| self.key_for(node, &all));
                self.wrong(node, path, &all, hint);
            }
            Value::Table(_) => self.table(fitting, node, key_origin, path),
            Value::Array(items) => self.array(&all, &fitting, node, items, path),
            _ => {
                if !fitting.iter().any(|leaf| holds(leaf, node)) {
                    let hint = match &node.value {
                        Value::String(text) => {
                            let known =
                                fitting.iter().filter_map(Leaf::constants).flatten().filter_map(Json::as_str);
                            nearest(text, known).map(|word| format!("did you mean \"{word}\"?"))
                        }
                        _ => None,
                    };
                    self.wrong(node, path, &all, hint);
                }
            }
        }
    }

    /// For a text where there is to be a table of one kind: the first of its keys that takes a text.
    fn key_for(&self, node: &Node, all: &[Leaf<'s>]) -> Option<String> {
        let (Value::String(_), [table]) = (&node.value, all) else { return None };
        let takes = |schema| {
            let found = leaves(self.root, schema);
            found.iter().any(|leaf| leaf.takes(Kind::String) && holds(leaf, node))
        };
        let (key, _) = table.properties().find(|(_, schema)| takes(schema))?;
        Some(format!("name the key: {{ {key} = {} }}", show(node)))
    }

    fn wrong(&mut self, node: &Node, path: &str, expected: &[Leaf<'_>], hint: Option<String>) {
        let name = path.rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or("the manifest");
        let problem = Diagnostic::new("manifest.value", format!("`{name}` cannot be {}", show(node)));
        let words = describe(expected);
        let too_large = match node.value {
            Value::Integer(number) => expected.iter().find_map(largest).filter(|most| number > *most),
            _ => None,
        };
        let mut diagnostic = match too_large {
            Some(most) => problem.expected(format!("at most {most}")),
            None if !words.is_empty() => problem.expected(words),
            None => problem.hint(SCHEMA),
        };
        diagnostic.hint = hint.or(diagnostic.hint);
        self.report(&node.origin, path, diagnostic);
    }

    fn array(&mut self, all: &[Leaf<'s>], fitting: &[Leaf<'s>], node: &Node, items: &[Node], path: &str) {
        let of_length: Vec<_> = fitting.iter().filter(|leaf| length_fits(leaf, items.len())).collect();
        // Of several kinds of arrays, the one whose items take the first item.
        let takes_first = |leaf: &&&Leaf<'s>| match (items.first(), leaf.get("items")) {
            (Some(item), Some(schema)) => {
                leaves(self.root, schema).iter().any(|one| one.takes(Kind::of(item)))
            }
            _ => true,
        };
        let Some(leaf) = of_length.iter().find(takes_first).or(of_length.first()).copied() else {
            let problem = Diagnostic::new(
                "manifest.value",
                format!("`{}` has {} items", path.rsplit('.').next().unwrap_or(path), items.len()),
            );
            self.report(&node.origin, path, problem.expected(describe(all)));
            return;
        };
        let prefix = leaf.get("prefixItems").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        for (i, item) in items.iter().enumerate() {
            if let Some(schema) = prefix.get(i).or(leaf.get("items")) {
                self.value(schema, item, &item.origin, &format!("{path}[{i}]"));
            }
        }
    }

    fn table(&mut self, candidates: Vec<Leaf<'s>>, node: &Node, key_origin: &Origin, path: &str) {
        let Some(candidates) = self.by_name(candidates, node, key_origin, path) else { return };
        let every_key: Vec<_> =
            candidates.iter().flat_map(|leaf| leaf.properties().map(|(key, _)| key)).collect();
        let written = keys(node);
        let scores = candidates.iter().map(|leaf| score(leaf, node, &written));
        let Some((leaf, best)) =
            candidates.iter().zip(scores).max_by_key(|(leaf, s)| (*s, -(leaf.required().len() as i64)))
        else {
            return;
        };
        if candidates.len() > 1 && best == (false, 0) {
            let keys: Vec<_> =
                candidates.iter().filter_map(|leaf| leaf.required().first().copied()).collect();
            let list = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let problem = match node.entries().first() {
                Some(entry) => format!("unknown key `{}`", entry.key),
                None => "an empty table says nothing".to_owned(),
            };
            let origin = node.entries().first().map_or(&node.origin, |entry| &entry.origin);
            let diagnostic =
                Diagnostic::new("manifest.unknown-key", problem).expected(format!("one of the keys {list}"));
            self.report(origin, path, diagnostic);
            return;
        }
        let mut meant = Vec::new();
        for entry in node.entries() {
            if self.found.len() >= MAX_FINDINGS {
                return;
            }
            let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            match leaf.property(&entry.key).or(leaf.additional()) {
                Some(schema) => self.value(schema, &entry.node, &entry.origin, &path),
                None => meant.extend(self.unknown(leaf, &every_key, &written, entry, &path)),
            }
        }
        for key in leaf.required() {
            if !written.contains(key) && !meant.contains(&key) {
                self.missing(leaf, key, key_origin, path);
            }
        }
    }

    /// Where alternatives are told apart by the value of one key (as `name`): those that have the value written.
    fn by_name(
        &mut self,
        candidates: Vec<Leaf<'s>>,
        node: &Node,
        key_origin: &Origin,
        path: &str,
    ) -> Option<Vec<Leaf<'s>>> {
        let constants =
            |leaf: &Leaf<'s>, key: &str| leaves(self.root, leaf.property(key)?).first()?.constants();
        let tag = candidates.iter().flat_map(Leaf::properties).map(|(key, _)| key).find(|key| {
            candidates
                .iter()
                .filter(|leaf| leaf.required().contains(key) && constants(leaf, key).is_some())
                .count()
                > 1
        });
        let Some(tag) = tag else { return Some(candidates) };
        let values: Vec<_> = candidates.iter().filter_map(|leaf| constants(leaf, tag)).flatten().collect();
        let list = values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
        let at = if path.is_empty() { tag.to_owned() } else { format!("{path}.{tag}") };
        let remaining: Vec<_> = match node.entry(tag) {
            Some(entry) => {
                let value = entry.node.to_json();
                let named = |leaf: &&Leaf<'s>| constants(leaf, tag).is_some_and(|all| all.contains(&&value));
                let remaining: Vec<_> = candidates.iter().filter(named).cloned().collect();
                if remaining.is_empty() {
                    let problem = format!("`{tag}` cannot be {}", show(&entry.node));
                    let mut diagnostic =
                        Diagnostic::new("manifest.value", problem).expected(format!("one of {list}"));
                    if let Value::String(text) = &entry.node.value {
                        diagnostic.hint = nearest(text, values.iter().filter_map(|value| value.as_str()))
                            .map(|word| format!("did you mean \"{word}\"?"));
                    }
                    self.report(&entry.node.origin, &at, diagnostic);
                    return None;
                }
                remaining
            }
            None => {
                // A misspelt tag is reported as an unknown key of whichever alternative comes nearest.
                let misspelt = node.entries().iter().find(|entry| nearest(&entry.key, [tag]).is_some());
                let remaining: Vec<_> =
                    candidates.iter().filter(|leaf| !leaf.required().contains(&tag)).cloned().collect();
                let chosen = remaining.iter().any(|leaf| score(leaf, node, &keys(node)).1 > 0);
                match misspelt {
                    Some(entry)
                        if !chosen && candidates.iter().all(|leaf| leaf.property(&entry.key).is_none()) =>
                    {
                        let diagnostic =
                            Diagnostic::new("manifest.unknown-key", format!("unknown key `{}`", entry.key))
                                .hint(format!("did you mean `{tag}`?"));
                        self.report(&entry.origin, &at, diagnostic);
                        return None;
                    }
                    _ if chosen => remaining,
                    _ => {
                        let others: Vec<_> =
                            remaining.iter().filter_map(|leaf| leaf.required().first().copied()).collect();
                        let or = others.iter().map(|key| format!("`{key}` or ")).collect::<String>();
                        let diagnostic =
                            Diagnostic::new("manifest.missing-key", format!("{or}`{tag}` is missing"))
                                .expected(format!("`{tag}` is one of {list}"));
                        self.report(key_origin, path, diagnostic);
                        return None;
                    }
                }
            }
        };
        Some(remaining)
    }

    /// Reports an unknown key and returns the known one that was probably meant.
    fn unknown(
        &mut self,
        leaf: &Leaf<'s>,
        every_key: &[&'s str],
        written: &HashSet<&str>,
        entry: &Entry,
        path: &str,
    ) -> Option<&'s str> {
        if let Some((_, purpose)) = RESERVED.iter().find(|(name, _)| *name == path) {
            let diagnostic = Diagnostic::new("manifest.reserved", format!("`[{path}]` is not available yet"))
                .expected("the sections [data], [model], [train], [limits], [cluster] and [report]")
                .hint(format!("remove the section; it is kept for {purpose}, which this version cannot do"));
            self.report(&entry.origin, path, diagnostic);
            return None;
        }
        let free = |key: &&str| !written.contains(*key);
        let own: Vec<_> = leaf.properties().map(|(key, _)| key).collect();
        let near = nearest(&entry.key, own.iter().copied().filter(free))
            .or_else(|| nearest(&entry.key, every_key.iter().copied().filter(free)));
        let problem = Diagnostic::new("manifest.unknown-key", format!("unknown key `{}`", entry.key));
        // A flag is there to change what is written already.
        let is_flag = matches!(entry.origin, Origin::Flag(_));
        let changed = || nearest(&entry.key, own.iter().copied().filter(|_| is_flag));
        let diagnostic = match (near.or_else(changed), self.home(&entry.key, path)) {
            (Some(key), _) => problem.hint(format!("did you mean `{key}`?")),
            (None, Some(home)) => problem.hint(home),
            (None, None) => problem.expected(format!("one of the keys {}", own.join(", "))),
        };
        self.report(&entry.origin, path, diagnostic);
        near
    }

    /// Where a key belongs that is known elsewhere than at `path`.
    fn home(&self, key: &str, path: &str) -> Option<String> {
        let own = path.split('.').next();
        let of = |schema: &'s Json| leaves(self.root, schema);
        let sections = of(self.root).into_iter().flat_map(|leaf| leaf.properties().collect::<Vec<_>>());
        for (section, schema) in
            sections.filter(|(name, _)| RESERVED.iter().all(|(reserved, _)| name != reserved))
        {
            if section == key {
                return Some(format!("`{key}` belongs at the top, before the first section"));
            }
            if own != Some(section) && of(schema).iter().any(|leaf| leaf.property(key).is_some()) {
                return Some(format!("`{key}` belongs in `[{section}]`"));
            }
        }
        None
    }

    fn missing(&mut self, leaf: &Leaf<'s>, key: &str, origin: &Origin, path: &str) {
        let schema = leaf.property(key);
        let problem = if path.is_empty() {
            format!("section `[{key}]` is missing")
        } else {
            format!("`{key}` is missing")
        };
        let problem = Diagnostic::new("manifest.missing-key", problem);
        let alternatives = schema.map_or_else(Vec::new, |schema| leaves(self.root, schema));
        let what = describe(&alternatives);
        let about = schema.and_then(|s| s.get("description")).and_then(Json::as_str).map(first_sentence);
        let diagnostic = match (what.is_empty() || path.is_empty(), about) {
            (false, Some(about)) => problem.expected(format!("`{key}`: {what}. {about}")),
            (false, None) => problem.expected(format!("`{key}`: {what}")),
            (true, Some(about)) => problem.expected(about),
            (true, None) => problem.hint(SCHEMA),
        };
        self.report(origin, path, diagnostic);
    }
}

/// The keys of a table.
fn keys(node: &Node) -> HashSet<&str> {
    node.entries().iter().map(|entry| entry.key.as_str()).collect()
}

/// How well a table fits an alternative: whether every required key is there (or nearly), and how many keys it knows.
fn score(leaf: &Leaf<'_>, node: &Node, written: &HashSet<&str>) -> (bool, usize) {
    let required = leaf.required();
    let known = |entry: &Entry| leaf.property(&entry.key).is_some();
    let near = |entry: &Entry| {
        !known(entry)
            && nearest(&entry.key, required.iter().copied().filter(|key| !written.contains(key))).is_some()
    };
    let entries = &node.entries()[..node.entries().len().min(MAX_KEYS)];
    let present = |key: &str| {
        written.contains(key)
            || entries.iter().any(|e| leaf.property(&e.key).is_none() && nearest(&e.key, [key]).is_some())
    };
    let points = entries.iter().map(|e| if known(e) { 2 } else { usize::from(near(e)) }).sum();
    (required.iter().all(|key| present(key)), points)
}

fn holds(leaf: &Leaf<'_>, node: &Node) -> bool {
    if let Some(constants) = leaf.constants() {
        return constants.contains(&&node.to_json());
    }
    match node.value {
        Value::Integer(number) => within(leaf, number as f64),
        Value::Float(number) => within(leaf, number),
        _ => true,
    }
}

fn length_fits(leaf: &Leaf<'_>, length: usize) -> bool {
    let bound = |keyword| leaf.get(keyword).and_then(Json::as_u64);
    bound("minItems").is_none_or(|least| length as u64 >= least)
        && bound("maxItems").is_none_or(|most| length as u64 <= most)
}

fn hint_for(node: &Node, expected: &[Leaf<'_>]) -> Option<String> {
    let takes = |kind| expected.iter().any(|leaf| leaf.takes(kind));
    match &node.value {
        Value::String(text) if text.parse::<f64>().is_ok() && takes(Kind::Number) => {
            Some(format!("remove the quotes: {text}"))
        }
        Value::String(text) if text.parse::<i64>().is_ok() && takes(Kind::Integer) => {
            Some(format!("remove the quotes: {text}"))
        }
        Value::String(text) if ["true", "false"].contains(&text.as_str()) && takes(Kind::Boolean) => {
            Some(format!("remove the quotes: {text}"))
        }
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 && takes(Kind::Integer) => {
            Some(format!("write {number:.0}"))
        }
        Value::Integer(_) | Value::Float(_) | Value::Bool(_)
            if expected.iter().any(|leaf| leaf.kinds() == [Kind::String] && leaf.constants().is_none()) =>
        {
            Some(format!("put it in quotes: \"{}\"", node.to_json()))
        }
        Value::Integer(_) | Value::Float(_) | Value::String(_) | Value::Table(_) if takes(Kind::Array) => {
            Some("put it in brackets: [ ... ]".to_owned())
        }
        _ => None,
    }
}

fn show(node: &Node) -> String {
    match &node.value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::String(text) if text.chars().count() > 40 => "this string".to_owned(),
        _ => node.to_json().to_string(),
    }
}

fn first_sentence(text: &str) -> &str {
    let text = text.lines().next().unwrap_or(text);
    text.find(". ").map_or(text, |end| &text[..=end])
}
