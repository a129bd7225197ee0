//! `--set key=value`: changes any key of a manifest before it is checked, so that the same diagnostics apply.

use outgrow_ir::{Diagnostic, Problem};

use super::tree::{Entry, Node, Origin, Value};

/// The most steps of a path.
const MAX_STEPS: usize = 32;

/// One step of a path such as `model.layers[2].dense`.
enum Step {
    Key(String),
    Index(usize),
}

/// Applies the flag with this index to the tree.
pub(super) fn apply(root: &mut Node, flag: usize, text: &str) -> Result<(), Diagnostic> {
    let (path, value) = text.split_once('=').ok_or_else(|| {
        bad("a `--set` flag has no `=`").expected("--set key=value, such as --set train.epochs=1")
    })?;
    let path = path.trim();
    let steps = parse_path(path)?;
    let value = match value.trim() {
        "" => None,
        value => Some(Node::parse_flag_value(value, flag)?),
    };
    set(root, &steps, value, flag, path)
}

fn set(
    root: &mut Node,
    steps: &[Step],
    value: Option<Node>,
    flag: usize,
    path: &str,
) -> Result<(), Diagnostic> {
    let mut node = root;
    for (i, step) in steps.iter().enumerate() {
        let last = i + 1 == steps.len();
        match (step, &mut node.value) {
            (Step::Key(key), Value::Table(entries)) => {
                let at = entries.iter().position(|entry| entry.key == *key);
                if last && value.is_none() {
                    at.map(|at| entries.remove(at));
                    return Ok(());
                }
                let at = at.unwrap_or_else(|| {
                    let empty = Node { value: Value::Table(Vec::new()), origin: Origin::Flag(flag) };
                    entries.push(Entry { key: key.clone(), origin: Origin::Flag(flag), node: empty });
                    entries.len() - 1
                });
                node = &mut entries[at].node;
            }
            (Step::Index(index), Value::Array(items)) => {
                let length = items.len();
                if last && value.is_none() && *index < length {
                    items.remove(*index);
                    return Ok(());
                }
                node = items.get_mut(*index).ok_or_else(|| {
                    bad(format!("there is no item {index} in an array of {length}"))
                        .item(path)
                        .expected(format!("an index below {length}"))
                })?;
            }
            (Step::Key(key), _) => {
                return Err(bad(format!("what stands before `{key}` is no table"))
                    .item(path)
                    .hint("set the whole value instead, as in --set 'train.schedule={ name = \"cosine\", min_lr = 1e-5 }'"));
            }
            (Step::Index(index), _) => {
                return Err(bad(format!("what stands before `[{index}]` is no array"))
                    .item(path)
                    .hint("set the whole value instead, as in --set 'model.layers=[{ dense = 10 }]'"));
            }
        }
    }
    if let Some(value) = value {
        *node = value;
    }
    Ok(())
}

fn parse_path(path: &str) -> Result<Vec<Step>, Diagnostic> {
    let wrong = || {
        bad(format!("`{path}` is no path of a key"))
            .expected("keys with dots between them and indices in brackets, as in model.layers[0].dense")
    };
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, indices) = part.split_once('[').map_or((part, None), |(key, rest)| (key, Some(rest)));
        if key.is_empty() || !key.chars().all(|c| c.is_alphanumeric() || "_-\"".contains(c)) {
            return Err(wrong());
        }
        match key.parse() {
            Ok(index) if !steps.is_empty() => steps.push(Step::Index(index)),
            _ => steps.push(Step::Key(key.trim_matches('"').to_owned())),
        }
        for index in indices.map_or_else(Vec::new, |rest| rest.split('[').collect()) {
            let index = index.strip_suffix(']').and_then(|index| index.parse().ok()).ok_or_else(wrong)?;
            steps.push(Step::Index(index));
        }
    }
    if steps.len() > MAX_STEPS { Err(wrong()) } else { Ok(steps) }
}

fn bad(problem: impl Into<String>) -> Problem {
    Diagnostic::new("manifest.set", problem)
}
