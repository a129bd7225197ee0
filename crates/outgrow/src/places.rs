//! Where things are: data, prepared data, runs. The one place that reads environment variables.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use outgrow_env::{Place, Remote};
use outgrow_ir::Diagnostic;

use crate::cli::ManifestArgs;
use crate::latest::LATEST;
use crate::manifest::Manifest;

/// What the process's environment says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `OUTGROW_DATA`: where relative data paths are looked for.
    pub data: Option<PathBuf>,
    /// The user's cache folder.
    pub cache: Option<PathBuf>,
    /// What says how object stores are reached: variables such as `AWS_REGION`, by their names in small letters.
    pub cloud: CloudOptions,
    /// `NO_COLOR`: no colour unless asked for.
    pub no_color: bool,
    /// The command line, the program's name included.
    pub command: Vec<OsString>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let data = given("OUTGROW_DATA").map(PathBuf::from);
        let cloud = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            let known = CLOUD_VARIABLES.iter().any(|start| name.starts_with(start));
            Some((name, value.into_string().ok()?)).filter(|_| known)
        });
        let cloud = CloudOptions(cloud.collect());
        let command = std::env::args_os().collect();
        Self { data, cache: user_cache(given), cloud, no_color: given("NO_COLOR").is_some(), command }
    }

    /// The command that goes on with what this one began, as a shell takes it; none where it is not known. With `fresh`, it
    /// starts anew if this one was to.
    pub fn same_command(&self, fresh: bool) -> Option<String> {
        let again = self.command.iter().filter(|word| fresh || *word != "--fresh");
        let words: Vec<String> = again.map(|word| shell_word(&word.to_string_lossy())).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

/// A word of a command line, in quotation marks if a shell would otherwise take it apart.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Names and values of variables about object stores. There are keys and secrets among the values: only the names are
/// ever shown.
#[derive(Clone, Default)]
pub struct CloudOptions(pub Vec<(String, String)>);

impl fmt::Debug for CloudOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// How the names of variables begin that are about object stores.
const CLOUD_VARIABLES: &[&str] = &["aws_", "google_", "azure_"];

/// What URLs are read through: nothing in a build without the feature `cloud`.
pub fn remote(environment: &Environment) -> Result<Arc<dyn Remote>, Diagnostic> {
    #[cfg(feature = "cloud")]
    {
        let remote = outgrow_env::remote::ObjectRemote::new(environment.cloud.0.clone());
        let remote = remote.map_err(|e| {
            Diagnostic::new("data.cloud", e.to_string())
                .hint("the system has no resources left for network connections: end other programs")
        })?;
        Ok(Arc::new(remote))
    }
    #[cfg(not(feature = "cloud"))]
    {
        let _ = &environment.cloud;
        Ok(Arc::new(outgrow_env::NoRemote))
    }
}

/// A part of a bucket as a place for prepared data.
pub fn bucket(environment: &Environment, url: &str) -> Result<Arc<dyn Place>, Diagnostic> {
    let fail = |problem: String| Diagnostic::new("data.storage", problem);
    if !BUCKETS.iter().any(|scheme| url.starts_with(scheme)) {
        return Err(fail(format!("nothing can be kept at `{url}`"))
            .expected(format!("a folder, or a bucket: {}…", BUCKETS.join("…, "))));
    }
    #[cfg(feature = "cloud")]
    {
        let place = outgrow_env::place::BucketPlace::new(url, environment.cloud.0.clone());
        Ok(Arc::new(place.map_err(|e| {
            fail(format!("`{url}` cannot be opened: {e}"))
                .hint("look at the URL, and at the settings of the store in the environment")
        })?))
    }
    #[cfg(not(feature = "cloud"))]
    {
        let _ = environment;
        Err(fail(format!("this build of outgrow cannot keep data in `{url}`"))
            .expected("a folder, or a build with the feature `cloud`")
            .hint("build it with `cargo build --release --features cloud`"))
    }
}

/// How the names of buckets begin.
const BUCKETS: &[&str] = &["s3://", "gs://", "az://"];

/// The user's cache folder by the system's convention: XDG, Apple's or Windows'.
fn user_cache(given: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = || given("HOME").map(PathBuf::from);
    if cfg!(windows) {
        return given("LOCALAPPDATA").map(PathBuf::from);
    }
    let xdg = given("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let usual = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    xdg.or_else(|| Some(home()?.join(usual)))
}

/// The folders in which relative data paths are looked for, in this order: `--data`, `$OUTGROW_DATA`, the manifest's own,
/// and for a manifest that a run keeps those in which the run looked.
pub fn data_roots(manifest: &Manifest, args: &ManifestArgs, environment: &Environment) -> Vec<PathBuf> {
    let given = [args.data.clone(), environment.data.clone()];
    let kept = manifest.kept.iter().flat_map(|kept| kept.roots.iter().cloned());
    let mut roots: Vec<PathBuf> = Vec::new();
    for root in given.into_iter().flatten().chain([manifest.folder()]).chain(kept) {
        if !roots.contains(&root) {
            roots.push(root);
        }
    }
    roots
}

/// The folder for prepared data: `--cache`, else `outgrow/data` in the user's cache folder, else beside the manifest.
pub fn data_cache(manifest: &Manifest, args: &ManifestArgs, environment: &Environment) -> PathBuf {
    let usual = || environment.cache.as_ref().map(|cache| cache.join("outgrow").join("data"));
    args.cache.clone().or_else(usual).unwrap_or_else(|| manifest.folder().join(".outgrow-cache"))
}

/// Where what was measured of this machine is kept: in the user's cache folder, if there is one.
pub fn machine_file(environment: &Environment) -> Option<PathBuf> {
    environment.cache.as_ref().map(|cache| cache.join("outgrow").join("machine.json"))
}

/// Where a run is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlace {
    /// The folder.
    pub path: PathBuf,
    /// Whether somebody named this very folder. If not, the run gets one beside it where another run is in it.
    pub is_given: bool,
}

/// The run's folder: `--out`, else the one that keeps the manifest, else `runs/NAME` in the current folder.
pub fn run_place(manifest: &Manifest, out: Option<&Path>) -> RunPlace {
    let given = out.or(manifest.kept.as_ref().map(|kept| kept.folder.as_path()));
    let path = given.map_or_else(|| Path::new("runs").join(file_name(&manifest.name)), Path::to_owned);
    RunPlace { path, is_given: given.is_some() }
}

/// The name with everything replaced that a file's name should not have.
fn file_name(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let plain = plain.trim_start_matches('.');
    match plain {
        "" => "model".to_owned(),
        // That is the pointer to the latest run.
        _ if plain.eq_ignore_ascii_case(LATEST) => format!("{plain}-run"),
        _ => plain.to_owned(),
    }
}

/// Where files in memory are made, which processes share: in memory, where the system has such a folder.
pub fn memory_folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() }
}

/// More threads than this are taken for a mistake: no machine has so many cores, and the system may not start them.
const THREADS_MAX: usize = 1024;

/// The number of threads: as asked for, else the number of cores this process may use.
pub fn threads(asked: Option<NonZeroUsize>) -> Result<usize, Diagnostic> {
    if let Some(asked) = asked.filter(|asked| asked.get() > THREADS_MAX) {
        let diagnostic = Diagnostic::new("cli.threads", format!("{asked} threads cannot be started"));
        return Err(diagnostic.item("--threads").expected(format!("at most {THREADS_MAX}")));
    }
    let cores = || std::thread::available_parallelism().ok();
    Ok(asked.or_else(cores).map_or(1, NonZeroUsize::get).min(THREADS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_plain() {
        for (name, expect) in [
            ("mnist", "mnist"),
            ("../etc/x y", "-etc-x-y"),
            ("...", "model"),
            ("ä.1", "ä.1"),
            ("Latest", "Latest-run"),
        ] {
            assert_eq!(file_name(name), expect);
        }
    }

    #[test]
    fn the_same_command_is_fit_for_a_shell() {
        let command = [
            "./outgrow",
            "run",
            "my run.toml",
            "--fresh",
            "--set",
            "train.lr=1e-3",
            "--set",
            "name=it's",
            "",
        ];
        let environment =
            Environment { command: command.map(OsString::from).to_vec(), ..Environment::default() };
        let expect = r"./outgrow run 'my run.toml' --set train.lr=1e-3 --set 'name=it'\''s' ''";
        assert_eq!(environment.same_command(false).as_deref(), Some(expect));
        assert!(environment.same_command(true).is_some_and(|command| command.contains(" --fresh ")));
        assert_eq!(Environment::default().same_command(false), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cache_follows_the_convention() {
        for (xdg, home, expect) in [
            (Some("/c"), Some("/h"), Some("/c")),
            (Some("relative"), Some("/h"), Some("/h/.cache")),
            (None, Some("/h"), Some("/h/.cache")),
            (None, None, None),
        ] {
            let given = |name: &str| if name == "HOME" { home } else { xdg }.map(OsString::from);
            assert_eq!(user_cache(given), expect.map(PathBuf::from));
        }
    }
}
