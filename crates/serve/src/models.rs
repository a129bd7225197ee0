//! The models that are served, by name and version, and how they come and go: opened and warmed up in the background,
//! put in place of the version before once they are known to run, let go when nobody asks them any more.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_predict::{Model, ROWS_MAX};

use crate::background::Background;
use crate::batcher::Lane;
use crate::engine::{Engine, Serving};
use crate::protocol::{IndexEntry, Kind, Policy, Rejected, State};
use crate::raw::{self, Form};
use crate::samples;
use crate::served::Served;
use crate::source::{self, Source};
use crate::tally::Tally;
use crate::watch::Looks;

/// How often, and how many times, is looked whether a version that was replaced still runs.
const RETIRE_LOOK: Duration = Duration::from_millis(1);
const RETIRE_LOOKS: usize = 200;

/// Once as many rows take this long when a version is tried, more are not: batches are no larger while that is so.
const WARM_UP_MAX: Duration = Duration::from_millis(250);

/// How long batches of so many rows took.
type Costs = Vec<(usize, Duration)>;

/// Opens what is at a path.
pub type Open = dyn Fn(&Path) -> Result<Model, Diagnostics> + Send + Sync;

/// A form of a version that can be asked, with the count of what happens to its requests.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model.
    pub serving: Arc<Serving>,
    /// In which form it is asked.
    pub form: Form,
    /// What has happened.
    pub tally: Arc<Tally>,
}

impl Loaded {
    /// The name by which clients ask for it.
    pub fn label(&self) -> String {
        self.serving.served().label(self.form)
    }
}

/// A version that can be asked.
#[derive(Clone, Debug)]
struct Kept {
    serving: Arc<Serving>,
    /// What has happened to requests of each form.
    typed: Arc<Tally>,
    raw: Arc<Tally>,
}

impl Kept {
    /// A form of it, if it has it.
    fn form(&self, form: Form) -> Option<Loaded> {
        let tally = match form {
            Form::Typed => &self.typed,
            Form::Raw if raw::takes(self.serving.served().model()) => &self.raw,
            Form::Raw => return None,
        };
        Some(Loaded { serving: Arc::clone(&self.serving), form, tally: Arc::clone(tally) })
    }

    /// All forms that it has: the typed one first.
    fn forms(&self) -> impl Iterator<Item = Loaded> {
        [self.form(Form::Typed), self.form(Form::Raw)].into_iter().flatten()
    }
}

/// One version of a model, as far as it was ever heard of.
#[derive(Debug, Default)]
struct Version {
    loaded: Option<Kept>,
    loading: bool,
    /// Why it is not served, or was not read again.
    reason: String,
}

/// One model.
#[derive(Debug)]
struct Entry {
    source: Source,
    versions: BTreeMap<u64, Version>,
    /// Which versions were to be served, when that was last said.
    policy: Policy,
    /// What the versions in its folder looked like when they were last loaded.
    looks: Looks,
    /// Held by who changes which versions are served.
    control: Arc<Mutex<()>>,
}

/// All models.
pub struct Models {
    engine: Engine,
    open: Box<Open>,
    /// How models are served that are not served in their own way.
    lane: Lane,
    lanes: BTreeMap<String, Lane>,
    repositories: Vec<PathBuf>,
    /// By name. The lock is held for no longer than it takes to look or to change a few words.
    entries: RwLock<BTreeMap<String, Entry>>,
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Models {
    /// Without any, that run on this engine and are served like this.
    pub fn new(engine: Engine, lane: Lane, open: Box<Open>) -> Self {
        let (lanes, repositories, entries) = Default::default();
        Self { engine, open, lane, lanes, repositories, entries }
    }

    /// Serves the models of these names in their own ways.
    pub fn with_lanes(self, lanes: BTreeMap<String, Lane>) -> Self {
        Self { lanes, ..self }
    }

    /// Whether there is a model of this name, served or not.
    pub fn has(&self, name: &str) -> bool {
        self.read().contains_key(name)
    }

    /// The models of repositories.
    pub(crate) fn in_repositories(&self) -> Vec<(String, Source)> {
        let entries = self.read();
        let models = entries.iter().filter(|(_, entry)| matches!(entry.source, Source::Folder(..)));
        models.map(|(name, entry)| (name.clone(), entry.source.clone())).collect()
    }

    /// Whether a model's folder is not as it was when it was last loaded, in what matters for what is to be served.
    pub(crate) fn is_outdated(&self, name: &str, looks: &Looks) -> bool {
        self.read().get(name).is_some_and(|entry| {
            let served: Vec<u64> = entry.served_numbers().collect();
            // What is older than those that are served matters while these are too few.
            let oldest = match &entry.policy {
                Policy::Latest(count) if served.len() >= *count => served.iter().min().copied(),
                _ => None,
            };
            let oldest = oldest.unwrap_or(0);
            !entry.looks.range(oldest..).eq(looks.range(oldest..))
        })
    }

    /// What runs them.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a model, none of whose versions is served yet.
    ///
    /// # Errors
    /// When the name cannot be one, or is another model's.
    pub fn add(&self, name: &str, source: Source) -> Result<(), Diagnostic> {
        if !source::is_name(name) {
            return Err(Diagnostic::new("serve.name", format!("`{name}` cannot be a model's name"))
                .item(name)
                .expected("letters, digits, `-`, `_` and `.`; not `stats`, and no `.raw` at its end")
                .hint("give it another one, as NAME=PATH"));
        }
        let mut entries = self.write();
        if entries.contains_key(name) {
            return Err(Diagnostic::new("serve.name", format!("two models have the name `{name}`"))
                .item(name)
                .hint("give one of them another name, as NAME=PATH"));
        }
        let (versions, policy, looks, control) = Default::default();
        entries.insert(name.to_owned(), Entry { source, versions, policy, looks, control });
        Ok(())
    }

    /// Opens the model at a path and serves it, by its own name if it is given no other, which is said.
    ///
    /// # Errors
    /// When there is none, it does not run, or its name cannot be one.
    pub fn serve_path(&self, name: Option<&str>, path: &Path) -> Result<String, Diagnostics> {
        let model = (self.open)(path)?;
        let name = name.unwrap_or_else(|| model.name()).to_owned();
        self.add(&name, Source::Path(path.to_owned()))?;
        self.make(&name, source::VERSION, path, || Ok(model))?;
        Ok(name)
    }

    /// Adds all models of a repository, also those that it gets later, and says which there are.
    ///
    /// # Errors
    /// When one has the name of another.
    pub fn add_repository(&mut self, folder: &Path) -> Result<Vec<String>, Diagnostic> {
        let mut names = Vec::new();
        for (name, source) in source::models(folder) {
            self.add(&name, source)?;
            names.push(name);
        }
        self.repositories.push(folder.to_owned());
        Ok(names)
    }

    /// The models whose versions are served, in the order of their names, each with its raw form behind it.
    pub fn names(&self) -> Vec<String> {
        let entries = self.read();
        let newest = entries.values().filter_map(Entry::newest);
        newest.flat_map(|kept| kept.forms().collect::<Vec<_>>()).map(|loaded| loaded.label()).collect()
    }

    /// The version of a model that answers: the newest where the client does not say which.
    ///
    /// # Errors
    /// When there is no such model or version, or it is not served.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Loaded, Rejected> {
        let entries = self.read();
        let absent = || {
            let names = entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            missing(format!("there is no model `{name}`"), "model", names)
        };
        let (base, form) = split(name);
        let entry = entries.get(base).ok_or_else(absent)?;
        let kept = match version {
            None => entry.newest().ok_or_else(|| entry.unavailable(base, None))?,
            Some(version) => {
                let known = entry.versions.iter().find(|(number, _)| number.to_string() == version);
                let (number, known) = known.ok_or_else(|| {
                    let problem = format!("the model `{name}` has no version `{version}`");
                    missing(problem, "version", entry.served().join(", "))
                })?;
                known.loaded.as_ref().ok_or_else(|| entry.unavailable(base, Some(*number)))?
            }
        };
        kept.form(form).ok_or_else(absent)
    }

    /// The versions of a model that are served.
    pub fn served(&self, name: &str) -> Vec<String> {
        self.read().get(split(name).0).map(Entry::served).unwrap_or_default()
    }

    /// All forms of all versions that are served.
    pub fn loaded(&self) -> Vec<Loaded> {
        let entries = self.read();
        let versions = entries.values().flat_map(|entry| entry.versions.values());
        versions.filter_map(|version| version.loaded.as_ref()).flat_map(Kept::forms).collect()
    }

    /// What there is, served or not. Looks into the repositories.
    pub fn index(&self) -> Vec<IndexEntry> {
        self.discover();
        let sources: Vec<_> =
            self.read().iter().map(|(name, entry)| (name.clone(), entry.source.clone())).collect();
        let mut index = Vec::new();
        for (name, source) in sources {
            let found = source.versions();
            let entries = self.read();
            let Some(entry) = entries.get(&name) else { continue };
            let mut numbers: Vec<u64> = found.keys().chain(entry.versions.keys()).copied().collect();
            numbers.sort_unstable();
            numbers.dedup();
            for number in numbers {
                let unknown = Version::default();
                let known = entry.versions.get(&number).unwrap_or(&unknown);
                let state = match known {
                    Version { loaded: Some(_), .. } => State::Ready,
                    Version { loading: true, .. } => State::Loading,
                    _ => State::Unavailable,
                };
                let reason = match (&found.get(&number), known.reason.as_str()) {
                    (_, reason) if !reason.is_empty() => reason.to_owned(),
                    (Some(Err(problem)), _) => line(problem),
                    _ if state == State::Unavailable => "not loaded".to_owned(),
                    _ => String::new(),
                };
                let version = number.to_string();
                let raw = known.loaded.as_ref().and_then(|kept| kept.form(Form::Raw));
                index.push(IndexEntry { name: name.clone(), version: version.clone(), state, reason });
                let reason = String::new();
                index.extend(raw.map(|raw| IndexEntry { name: raw.label(), version, state, reason }));
            }
        }
        index
    }

    /// Knows models that a repository has got since.
    pub(crate) fn discover(&self) {
        for repository in &self.repositories {
            for (name, source) in source::models(repository) {
                // Whoever has the name keeps it.
                let known = self.read().contains_key(&name);
                let _ = (!known).then(|| self.add(&name, source));
            }
        }
    }

    /// Serves the versions of a model that the policy names, as they are now: opens them, lets them run, and puts them
    /// in the place of those before, which answer until then. Versions that are bad are left out; the newest that is
    /// good is served, and what was served before goes on if there is none. Takes as long as that takes.
    ///
    /// # Errors
    /// When there is no such model, or a version that was to be served is bad; each of them is named.
    pub fn load(&self, name: &str, policy: &Policy) -> Result<(), Rejected> {
        self.load_by(name, Some(policy))
    }

    /// As [`Models::load`], by the policy that was given last where there is none.
    fn load_by(&self, name: &str, policy: Option<&Policy>) -> Result<(), Rejected> {
        if !self.read().contains_key(name) {
            self.discover();
        }
        let (source, control) = self.entry(name)?;
        let _held = control.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be looked at is looked at again.
        let looks = source.looks().unwrap_or_default();
        let found = source.versions();
        let policy = match self.write().get_mut(name) {
            Some(entry) => {
                let policy = policy.unwrap_or(&entry.policy).clone();
                (entry.policy, entry.looks) = (policy.clone(), looks);
                policy
            }
            None => policy.cloned().unwrap_or_default(),
        };
        let mut problems = Diagnostics::default();
        let mut good = Vec::new();
        let (wanted, enough): (Vec<u64>, usize) = match &policy {
            Policy::Latest(count) => (found.keys().rev().copied().collect(), *count),
            Policy::All => (found.keys().rev().copied().collect(), usize::MAX),
            Policy::Specific(versions) => (versions.clone(), usize::MAX),
        };
        for (i, number) in wanted.iter().enumerate() {
            if good.len() >= enough {
                break;
            }
            let there = self.find(name, Some(&number.to_string())).is_ok();
            // What is named, and the newest, is read again; an older one is only a substitute.
            let again = i == 0 || !matches!(policy, Policy::Latest(_));
            let path = match found.get(number) {
                Some(Ok(path)) => Ok(path),
                Some(Err(problem)) => Err(Diagnostics::from(problem.clone())),
                None => {
                    let problem = Diagnostic::new("serve.version", format!("there is no version {number}"));
                    let there: Vec<_> = found.keys().map(u64::to_string).collect();
                    Err(problem.item(name).expected(there.join(", ")).into())
                }
            };
            if there && !again {
                good.push(*number);
                continue;
            }
            match path.and_then(|path| self.make(name, *number, path, || (self.open)(path))) {
                Ok(()) => good.push(*number),
                Err(found) => {
                    self.refuse(name, *number, &found);
                    problems.0.extend(found.0.into_iter().map(|problem| in_version(problem, name, *number)));
                    // A version that has become bad goes on as it was.
                    good.extend(there.then_some(*number));
                }
            }
        }
        if wanted.is_empty() {
            let problem = format!("the model `{name}` has no versions");
            problems.push(
                Diagnostic::new("serve.version", problem)
                    .item(name)
                    .expected("a folder NAME/VERSION/ with a model"),
            );
        }
        if !good.is_empty() {
            self.let_go(name, |number| !good.contains(&number), "another version is served");
        }
        self.forget(name, &found.keys().copied().collect::<Vec<_>>());
        problems.into_result(()).map_err(|problems| Rejected::new(Kind::Invalid, problems))
    }

    /// As [`Models::load`], of the versions that were last said to be served.
    pub(crate) fn load_again(&self, name: &str) -> Result<(), Rejected> {
        self.load_by(name, None)
    }

    /// Serves a model no more of which nothing is left. What comes again is new.
    pub(crate) fn gone(&self, name: &str) -> Result<(), Rejected> {
        self.unload(name)?;
        if let Some(entry) = self.write().get_mut(name) {
            entry.looks = Looks::new();
        }
        Ok(())
    }

    /// Serves a model no more. Requests that are in are answered.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn unload(&self, name: &str) -> Result<(), Rejected> {
        let (_, control) = self.entry(name)?;
        let _held = control.lock().unwrap_or_else(PoisonError::into_inner);
        self.let_go(name, |_| true, "unloaded");
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<(Source, Arc<Mutex<()>>), Rejected> {
        let entries = self.read();
        let entry = entries.get(name).map(|entry| (entry.source.clone(), Arc::clone(&entry.control)));
        entry.ok_or_else(|| {
            let names = entries.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            missing(format!("there is no model `{name}`"), "model", names)
        })
    }

    /// Opens a version, lets it run, and puts it in its place.
    fn make(
        &self,
        name: &str,
        number: u64,
        path: &Path,
        open: impl FnOnce() -> Result<Model, Diagnostics> + Send,
    ) -> Result<(), Diagnostics> {
        self.change(name, number, |version| version.loading = true);
        let made = self.made(name, number, path, open);
        if made.is_ok() {
            tracing::info!(target: "outgrow::model", model = name, version = number, "version is served");
        }
        let made = made.map(|(served, lane, costs)| self.engine.serve(served, lane, &costs));
        // What was there before is let go of outside the lock.
        let before = self.change(name, number, |version| {
            version.loading = false;
            version.reason.clear();
            let serving = made.as_ref().ok().cloned()?;
            let (typed, raw) = match &version.loaded {
                Some(before) => (Arc::clone(&before.typed), Arc::clone(&before.raw)),
                None => Default::default(),
            };
            version.loaded.replace(Kept { serving, typed, raw })
        });
        retire(before.flatten());
        made.map(drop)
    }

    /// Opens a version and lets it run, in the background where others are served meanwhile.
    fn made(
        &self,
        name: &str,
        number: u64,
        path: &Path,
        open: impl FnOnce() -> Result<Model, Diagnostics> + Send,
    ) -> Result<(Served, Lane, Costs), Diagnostics> {
        let clock = &**self.engine.clock();
        let background = Background::begin(clock, !self.loaded().is_empty());
        let broken = || -> Diagnostics {
            Diagnostic::fault("serve.panic", "the model broke off when it was tried").file(path).into()
        };
        let open = || -> Result<_, Diagnostics> {
            Ok(Served::new(name, number, open()?).map_err(|problem| problem.file(path))?)
        };
        let served = background.run(open).ok_or_else(broken)??;
        background.run(|| samples::check(&served, path)).ok_or_else(broken)??;
        let (lane, mut costs) = (self.lanes.get(name).copied().unwrap_or(self.lane), Vec::new());
        let rows_max = if served.model().answers_by_rows() { lane.rows_max.min(ROWS_MAX) } else { 1 };
        for rows in (0..).map(|i| 1 << i) {
            let Some(cost) = background.run(|| served.warm_up(rows, clock)).ok_or_else(broken)?? else {
                break;
            };
            costs.push((rows, cost));
            if rows >= rows_max || cost > WARM_UP_MAX {
                break;
            }
        }
        Ok((served, lane, costs))
    }

    fn change<T>(&self, name: &str, number: u64, change: impl FnOnce(&mut Version) -> T) -> Option<T> {
        let mut entries = self.write();
        entries.get_mut(name).map(|entry| change(entry.versions.entry(number).or_default()))
    }

    fn refuse(&self, name: &str, number: u64, problems: &Diagnostics) {
        let reason = problems.0.iter().map(line).collect::<Vec<_>>().join("; and ");
        tracing::warn!(target: "outgrow::model", model = name, version = number, error = reason, "version is refused");
        self.change(name, number, |version| version.reason = reason);
    }

    /// Lets go of versions.
    fn let_go(&self, name: &str, which: impl Fn(u64) -> bool, reason: &str) {
        let mut gone = Vec::new();
        if let Some(entry) = self.write().get_mut(name) {
            for (number, version) in entry.versions.iter_mut().filter(|(number, _)| which(**number)) {
                let before = version.loaded.take();
                if before.is_some() {
                    reason.clone_into(&mut version.reason);
                    tracing::info!(target: "outgrow::model", model = name, version = number, reason, "version is let go");
                }
                gone.push(before);
            }
        }
        // The last who holds a model gives its place back, which is not to happen under the lock.
        gone.into_iter().for_each(retire);
    }

    /// Forgets versions that are neither there nor served.
    fn forget(&self, name: &str, there: &[u64]) {
        if let Some(entry) = self.write().get_mut(name) {
            entry.versions.retain(|number, version| version.loaded.is_some() || there.contains(number));
        }
    }
}

impl Entry {
    fn newest(&self) -> Option<&Kept> {
        self.versions.values().rev().find_map(|version| version.loaded.as_ref())
    }

    fn served_numbers(&self) -> impl Iterator<Item = u64> {
        self.versions.iter().filter(|(_, version)| version.loaded.is_some()).map(|(number, _)| *number)
    }

    fn served(&self) -> Vec<String> {
        self.served_numbers().map(|number| number.to_string()).collect()
    }

    fn unavailable(&self, name: &str, number: Option<u64>) -> Rejected {
        let reasons = self.versions.iter().filter(|(at, _)| number.is_none_or(|number| number == **at));
        let reasons: Vec<String> = reasons
            .map(|(at, version)| match version.loading {
                true => format!("version {at} is being loaded"),
                false => format!("version {at}: {}", version.reason),
            })
            .collect();
        let problem = match reasons.is_empty() {
            true => format!("the model `{name}` is not loaded"),
            false => format!("the model `{name}` is not served ({})", reasons.join("; ")),
        };
        let problem = Diagnostic::new("serve.not-ready", problem).item("model");
        let problem = problem.hint("load it, by POST to /v2/repository/models/NAME/load");
        Rejected::new(Kind::Unavailable(Duration::from_secs(1)), problem)
    }
}

/// Lets go of a version once those who run it have done so: else one of them would give its memory back, while others
/// wait for its answer. Who takes very long does that all the same.
fn retire(version: Option<Kept>) {
    let Some(version) = version else { return };
    for _ in 0..RETIRE_LOOKS {
        if Arc::strong_count(&version.serving) == 1 {
            break;
        }
        std::thread::sleep(RETIRE_LOOK);
    }
}

/// The name of a model, and which form of it a name asks for.
fn split(name: &str) -> (&str, Form) {
    name.strip_suffix(raw::SUFFIX).map_or((name, Form::Typed), |base| (base, Form::Raw))
}

fn missing(problem: String, item: &str, expected: String) -> Rejected {
    Rejected::new(Kind::NotFound, Diagnostic::new("serve.not-found", problem).item(item).expected(expected))
}

/// Says which version something is wrong with, where it does not say what.
fn in_version(mut problem: Diagnostic, name: &str, number: u64) -> Diagnostic {
    let of = format!("version {number} of `{name}`");
    let item = problem.place.item.take();
    problem.item(item.map_or_else(|| of.clone(), |item| format!("{of}: {item}")))
}

/// A problem in one line.
fn line(problem: &Diagnostic) -> String {
    problem.to_string().replace("\n  ", "; ").replace('\n', " ")
}
