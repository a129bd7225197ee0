//! The manifest (`outgrow.toml`): one file that says what data, which model and how to train it.
//!
//! Reading goes through four stages, each of which reports everything it finds with line and column:
//! TOML → a tree with origins ([`tree`]) → `--set` flags ([`overrides`]) → comparison with the JSON schema derived from
//! the sections' structs ([`check`]) → each section's own validation. Nothing here touches a file but [`load`].

mod check;
mod cluster;
mod fingerprint;
pub mod kept;
mod limits;
mod overrides;
mod report;
mod schema;
mod suggest;
mod template;
mod tree;

use std::path::{Path, PathBuf};

use outgrow_data::DataSpec;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::spec::{Model, ModelSpec};
use outgrow_train::defaults::{Known, is_pretuned};
use outgrow_train::spec::{Precision, Train, TrainSpec};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use check::Finding;
pub use cluster::{Cluster, ClusterSpec, TransportName};
pub use limits::LimitsSpec;
pub use report::ReportSpec;
pub use schema::json_schema;
pub use template::{TEMPLATES, Template, commented};
use tree::{Node, Origin, Sources};

/// The largest manifest that is read.
const MAX_BYTES: u64 = 16 << 20;
/// The most manifests that stand behind one.
const EXTENDED_MAX: usize = 16;
/// How many diagnostics are given at once; one more says how many were left out.
const MAX_DIAGNOSTICS: usize = 50;
/// Where to look for what a key takes.
pub(crate) const SCHEMA: &str = "`outgrow schema` says what each key takes";

/// A manifest as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestSpec {
    /// Another manifest, beside this one, whose keys count where this one does not say otherwise: tables are put together key
    /// by key, and anything else is taken whole from one of the two. That one may extend a further one.
    #[serde(default, skip_serializing)]
    pub extends: Option<String>,
    /// The name of the model; the file's name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Everything random follows from this number: initial weights, the order of samples, dropout, generated data.
    #[serde(default)]
    pub seed: u64,
    /// Where the data comes from, how it is cleaned and split.
    pub data: DataSpec,
    /// The model.
    pub model: ModelSpec,
    /// How it is trained.
    pub train: TrainSpec,
    /// What it may take. What comes out does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Who trains it: workers that share each step. What comes out does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterSpec>,
    /// What a run writes for those who look at it. What comes out does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportSpec>,
}

/// A manifest that holds together.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The name of the model.
    pub name: String,
    /// What everything random follows from.
    pub seed: u64,
    /// The manifest as written, with defaults filled in.
    pub spec: ManifestSpec,
    /// The model.
    pub model: Model,
    /// How it is trained. Where the model has a training of its own, [`Manifest::train_on`] says how for the data.
    pub train: Train,
    /// What it belongs to, if a run keeps it.
    pub kept: Option<kept::Kept>,
    /// The precision as it is written.
    asked: Precision,
    sources: Sources,
    tree: Node,
}

/// Reads a manifest's text. Pure: it touches nothing outside.
pub fn parse(text: &str) -> Result<Manifest, Diagnostics> {
    parse_with(text, None, &[])
}

/// Reads a manifest's text, with the name of its file for the diagnostics and the `--set` flags, in order. Pure: it
/// touches nothing outside.
pub fn parse_with(text: &str, file: Option<&Path>, flags: &[String]) -> Result<Manifest, Diagnostics> {
    parse_sources(Sources {
        file: file.map(Path::to_owned),
        text: text.to_owned(),
        bases: Vec::new(),
        flags: flags.to_vec(),
    })
}

fn parse_sources(sources: Sources) -> Result<Manifest, Diagnostics> {
    let flags = &sources.flags;
    let (mut tree, mut syntax) = Node::parse(&sources);
    if !syntax.is_empty() {
        // What follows a mistake in the syntax reads as something else: one stage at a time.
        syntax.truncate(MAX_DIAGNOSTICS);
        return Err(Diagnostics(syntax));
    }
    let mut bad_flags = Diagnostics::default();
    for (index, flag) in flags.iter().enumerate() {
        if let Err(diagnostic) = overrides::apply(&mut tree, index, flag) {
            let path = diagnostic.place.item.clone().unwrap_or_default();
            bad_flags.push(sources.locate(diagnostic, &Origin::Flag(index), &path));
        }
    }
    bad_flags.into_result(())?;
    let schema = json_schema();
    let mut found = check::check(schema, &tree);
    let model = section(&tree, "model", &mut found, ModelSpec::validate);
    // What the model's own training has to know of the data is seen when that is there.
    let filled = |spec: &TrainSpec| match &model {
        Some(model) => spec.filled(model, Known::NOTHING),
        None => spec.clone(),
    };
    let train = section(&tree, "train", &mut found, |spec: &TrainSpec| filled(spec).validate());
    let data = section(&tree, "data", &mut found, |_: &DataSpec| Ok(()));
    section(&tree, "report", &mut found, |_: &ReportSpec| Ok(()));
    section(&tree, "limits", &mut found, LimitsSpec::validate);
    section(&tree, "cluster", &mut found, ClusterSpec::validate);
    let (Some(model), Some(train), Some(_), true) = (model, train, data, found.is_empty()) else {
        return Err(sorted(found, &sources));
    };
    let mut spec: ManifestSpec = serde_json::from_value(tree.to_json()).map_err(|error| {
        let diagnostic = Diagnostic::new("manifest.value", error.to_string()).hint(SCHEMA);
        Diagnostics::from(sources.locate(diagnostic, &Origin::Text(0..0), ""))
    })?;
    if !is_pretuned(&model) {
        spec.train = spec.train.filled(&model, Known::NOTHING);
    }
    spec.extends = None;
    let stem = || Some(sources.file.as_ref()?.file_stem()?.to_string_lossy().into_owned());
    let name = spec.name.clone().or_else(stem).unwrap_or_else(|| "model".to_owned());
    let asked = spec.train.precision;
    Ok(Manifest { name, seed: spec.seed, spec, model, train, kept: None, asked, sources, tree })
}

/// Reads a manifest from a file, or the one that is kept in a run's folder.
pub fn load(path: &Path, flags: &[String]) -> Result<Manifest, Diagnostics> {
    let inner = kept::file_in(path);
    let path = if inner.is_file() { &inner } else { path };
    let text = read(path)?;
    let bases = bases(path, &text)?;
    let mut manifest =
        parse_sources(Sources { file: Some(path.to_owned()), text, bases, flags: flags.to_vec() })?;
    manifest.kept = kept::Kept::of(&manifest.folder());
    Ok(manifest)
}

/// The text of a manifest's file.
fn read(path: &Path) -> Result<String, Diagnostic> {
    let cannot = |problem: String| Diagnostic::new("manifest.file", problem).file(path);
    let size = std::fs::metadata(path).map_err(|error| {
        let diagnostic = cannot(format!("the manifest cannot be read: {error}"));
        match error.kind() {
            std::io::ErrorKind::NotFound => diagnostic.hint("`outgrow init` writes a manifest to start from"),
            _ => diagnostic.hint("look at the path, and at who may read it"),
        }
    })?;
    if !size.is_file() {
        let diagnostic = cannot("the manifest is not a file".to_owned());
        return Err(diagnostic.expected("a TOML file, such as `outgrow init` writes, or the folder of a run"));
    }
    if size.len() > MAX_BYTES {
        let problem = format!("the manifest has {} bytes", size.len());
        let diagnostic = cannot(problem).expected(format!("at most {MAX_BYTES} bytes"));
        return Err(diagnostic.hint("keep rows in a file of their own, such as a CSV"));
    }
    let bytes = std::fs::read(path).map_err(|error| {
        let diagnostic = cannot(format!("the manifest cannot be read: {error}"));
        diagnostic.hint("look at the path, and at who may read it")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let diagnostic = cannot("the manifest is not UTF-8 text".to_owned()).line(line);
        diagnostic.hint("save it as UTF-8")
    })
}

/// The manifests that one extends, the nearest first.
///
/// # Errors
/// When one cannot be read, or they go round in a circle.
fn bases(path: &Path, text: &str) -> Result<Vec<(PathBuf, String)>, Diagnostic> {
    let extended = |text: &str| toml::from_str::<Extension>(text).ok()?.extends;
    let mut bases: Vec<(PathBuf, String)> = Vec::new();
    let mut next = extended(text);
    while let Some(name) = next {
        let from = bases.last().map_or(path, |(path, _)| path);
        let base = from.parent().unwrap_or(Path::new("")).join(&name);
        let of = |diagnostic: Diagnostic| diagnostic.item(format!("extends of {}", from.display()));
        if bases.len() == EXTENDED_MAX {
            let problem = format!("manifests extend each other more than {EXTENDED_MAX} times");
            return Err(of(Diagnostic::new("manifest.extends", problem)
                .file(&base)
                .hint("one may extend itself")));
        }
        let text = read(&base).map_err(of)?;
        next = extended(&text);
        bases.push((base, text));
    }
    Ok(bases)
}

/// What is read of a manifest to know which others belong to it. What is wrong with its text is told of when all is read.
#[derive(Deserialize)]
struct Extension {
    extends: Option<String>,
}

impl Manifest {
    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.sources.text
    }

    /// The file it was read from.
    pub fn file(&self) -> Option<&Path> {
        self.sources.file.as_deref()
    }

    /// The folder of its file: where relative paths are looked for last.
    pub fn folder(&self) -> PathBuf {
        let parent = self.file().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
        if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent }
    }

    /// The folder that the manifest was written in, also where a run has kept it: the last of those in which that looked.
    pub fn home(&self) -> PathBuf {
        self.kept.as_ref().and_then(|kept| kept.roots.last().cloned()).unwrap_or_else(|| self.folder())
    }

    /// Gives diagnostics about items of the manifest (`train.batch`) their file, line and column.
    pub fn locate(&self, diagnostics: Diagnostics) -> Diagnostics {
        let locate = |diagnostic: Diagnostic| match diagnostic.place.item.clone() {
            Some(item) if diagnostic.place.file.is_none() && self.mentions(&item) => {
                self.sources.locate(diagnostic, &self.tree.origin_of(&item), &item)
            }
            _ => diagnostic,
        };
        Diagnostics(diagnostics.0.into_iter().map(locate).collect())
    }

    fn mentions(&self, item: &str) -> bool {
        let section = item.split(['.', '[']).next().unwrap_or(item);
        ["name", "seed", "data", "model", "train", "limits", "cluster", "report"].contains(&section)
    }

    /// The precision as it is written, which may leave it to whoever computes.
    pub fn asked_precision(&self) -> Precision {
        self.asked
    }

    /// Has it ask for another precision.
    pub fn ask_precision(&mut self, asked: Precision) {
        self.asked = asked;
        self.choose_precision(|asked| asked);
    }

    /// Takes the precision that `choose` makes of the one that is written: from then on the manifest says that, also as it
    /// resolves.
    pub fn choose_precision(&mut self, choose: impl FnOnce(Precision) -> Precision) {
        let chosen = choose(self.asked);
        (self.spec.train.precision, self.train.precision) = (chosen, chosen);
    }

    /// The most memory that training may take, in bytes, if the manifest says.
    pub fn memory_bytes_max(&self) -> Option<u64> {
        self.spec.limits.as_ref().and_then(LimitsSpec::memory_bytes_max)
    }

    /// How such data is trained on, where the model may have a say in it.
    pub fn train_on(&self, known: Known) -> Train {
        if !is_pretuned(&self.model) {
            return self.train.clone();
        }
        // What is wrong with it was found when the manifest was read.
        self.spec.train.filled(&self.model, known).validate().unwrap_or_else(|_| self.train.clone())
    }

    /// The manifest with its defaults filled in, as JSON; with those that the model has for such data, if that is known.
    pub fn resolved(&self, known: Option<Known>) -> Json {
        match known.filter(|_| is_pretuned(&self.model)) {
            Some(known) => {
                let train = self.spec.train.filled(&self.model, known);
                fingerprint::resolved(&ManifestSpec { train, ..self.spec.clone() }, &self.name)
            }
            None => fingerprint::resolved(&self.spec, &self.name),
        }
    }

    /// The same as TOML; reads back as the same manifest.
    pub fn resolved_toml(&self, known: Option<Known>) -> String {
        toml::to_string(&self.resolved(known)).unwrap_or_default()
    }

    /// SHA-256 in hexadecimal of everything that the result depends on. What only says how or how often (checkpoints)
    /// does not count. With what is known of the data, it is that of the resolved manifest too, which a run keeps.
    pub fn fingerprint(&self, known: Option<Known>) -> String {
        fingerprint::fingerprint(&self.resolved(known))
    }

    /// The same, however long training is.
    pub fn fingerprint_without_length(&self, known: Option<Known>) -> String {
        fingerprint::without_length(&self.resolved(known))
    }

    /// Those that a run of this manifest may have, with and without its length: `precision = "auto"` stands for what was
    /// chosen where the run was begun, which may have been another machine.
    pub fn fingerprints(&self, known: Option<Known>) -> Vec<String> {
        let choices: &[_] = match self.asked {
            Precision::Auto => &[Precision::F32, Precision::Bf16x3],
            asked => &[asked],
        };
        let of = |choice: &Precision| {
            let mut chosen = self.resolved(known);
            chosen["train"]["precision"] = Json::from(choice.name());
            [fingerprint::fingerprint(&chosen), fingerprint::without_length(&chosen)]
        };
        choices.iter().flat_map(of).collect()
    }
}

/// One section read and validated, when the schema found nothing wrong with it.
fn section<Spec: DeserializeOwned, T>(
    tree: &Node,
    name: &str,
    found: &mut Vec<Finding>,
    validate: impl Fn(&Spec) -> Result<T, Diagnostics>,
) -> Option<T> {
    let inside = |path: &str| {
        path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let entry = tree.entry(name)?;
    if found.iter().any(|finding| inside(&finding.path)) {
        return None;
    }
    let spec: Spec = match serde_json::from_value(entry.node.to_json()) {
        Ok(spec) => spec,
        Err(error) => {
            let diagnostic = Diagnostic::new("manifest.value", error.to_string()).hint(SCHEMA);
            found.push(Finding { origin: entry.origin.clone(), path: name.to_owned(), diagnostic });
            return None;
        }
    };
    match validate(&spec) {
        Ok(value) => Some(value),
        Err(diagnostics) => {
            found.extend(diagnostics.0.into_iter().map(|diagnostic| {
                let path = diagnostic.place.item.clone().unwrap_or_else(|| name.to_owned());
                Finding { origin: tree.origin_of(&path), path, diagnostic }
            }));
            None
        }
    }
}

/// Findings in the order of the text, flags last, with their places.
fn sorted(mut found: Vec<Finding>, sources: &Sources) -> Diagnostics {
    found.sort_by_key(|finding| match &finding.origin {
        Origin::Text(span) => (0, span.start),
        Origin::Base(index, span) => (1 + index, span.start),
        Origin::Flag(index) => (usize::MAX, *index),
    });
    let left_out = found.len().saturating_sub(MAX_DIAGNOSTICS);
    let shown = found.into_iter().take(MAX_DIAGNOSTICS);
    let mut diagnostics: Vec<_> =
        shown.map(|finding| sources.locate(finding.diagnostic, &finding.origin, &finding.path)).collect();
    if left_out > 0 {
        diagnostics.push(
            Diagnostic::new("manifest.more", format!("{left_out} more mistakes are not shown"))
                .hint("mend those that are shown first"),
        );
    }
    Diagnostics(diagnostics)
}
