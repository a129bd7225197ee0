//! What the tests of the whole binary share: a folder of its own for each test, ways to run the binary in it, and what
//! came of it.
// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code, clippy::print_stderr)]

pub mod onnx;
pub mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use outgrow_env::LocalStorage;
use outgrow_store::safetensors;
use serde_json::Value as Json;
use tempfile::TempDir;

/// The `[data]` of a small run with all three splits, which needs no file.
pub const GLYPHS: &str = r#"
[data]
source = "synthetic:glyphs"
samples = 200
test = { samples = 40 }
split = { validation = 0.2 }
"#;

/// A folder with manifests and data, in which the binary is run.
pub struct Place {
    folder: TempDir,
}

/// What a run of the binary left.
#[derive(Clone, Debug)]
pub struct Done {
    /// The exit code.
    pub code: i32,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

/// What a run came to: all that may not depend on what it went through.
#[derive(Clone, Debug, PartialEq)]
pub struct Essence {
    /// The result without what is a matter of time and place.
    pub result: Json,
    /// What was logged.
    pub metrics: String,
}

/// What the run in this folder came to.
pub fn essence(place: &Place, out: &str) -> Essence {
    let mut result: Json = serde_json::from_str(&place.read(&format!("{out}/result.json"))).unwrap();
    for key in ["run", "train_seconds", "samples_per_s", "cpu_utilisation", "peak_memory_bytes", "threads"] {
        assert!(result.as_object_mut().unwrap().remove(key).is_some(), "{key}: {result}");
    }
    Essence { result, metrics: place.read(&format!("{out}/metrics.jsonl")) }
}

/// Checks that two runs came to the same, and shows the first line that differs.
pub fn check_same(actual: &Essence, expect: &Essence, what: &str) {
    assert_eq!(actual.result, expect.result, "{what}");
    for (i, (a, b)) in actual.metrics.lines().zip(expect.metrics.lines()).enumerate() {
        assert_eq!(a, b, "{what}: line {} of metrics.jsonl", i + 1);
    }
    assert!(actual.metrics == expect.metrics, "{what}: metrics.jsonl has other lines at its end");
}

impl Place {
    /// An empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A folder with one manifest, `m.toml`.
    pub fn with(manifest: &str) -> Self {
        let place = Self::new();
        place.write("m.toml", manifest);
        place
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Reads a file of text.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The binary, to be run in this folder, with prepared data in its own cache.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outgrow"));
        command.args(args).current_dir(self.folder.path()).env_remove("OUTGROW_DATA");
        command.env("XDG_CACHE_HOME", self.path("cache")).stdin(Stdio::null());
        command
    }

    /// Runs the binary to its end. Whatever it is given, it never panics and never dies by a signal.
    pub fn run(&self, args: &[&str]) -> Done {
        finish(&mut self.command(args), &format!("{args:?}"))
    }

    /// Runs a command that must succeed, with `--json`, and gives its one object.
    pub fn json(&self, args: &[&str]) -> Json {
        self.run(&[args, &["--json"]].concat()).object()
    }

    /// Runs a command that must be refused, with `--json`, and gives its errors.
    pub fn refused(&self, args: &[&str]) -> Vec<Json> {
        self.run(&[args, &["--json"]].concat()).errors()
    }

    /// Starts the binary, its output thrown away.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }
}

/// Runs a command to its end.
pub fn finish(command: &mut Command, what: &str) -> Done {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let code = output.status.code().unwrap_or_else(|| panic!("{what}: {}\n{stderr}", output.status));
    assert!(!stderr.contains("panicked") && [0, 1, 2].contains(&code), "{what}: exit {code}\n{stderr}");
    Done { code, stdout, stderr }
}

impl Done {
    /// The one object of a command that succeeded.
    pub fn object(&self) -> Json {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.line()
    }

    /// The errors of a command that failed: at least one, each with a code and a problem, and each shown to people
    /// too.
    pub fn errors(&self) -> Vec<Json> {
        assert_eq!(self.code, 1, "{}{}", self.stdout, self.stderr);
        let errors = self.line()["errors"].as_array().cloned().unwrap_or_default();
        assert!(!errors.is_empty(), "{}", self.stdout);
        for error in &errors {
            let (code, problem) = (error["code"].as_str().unwrap(), error["problem"].as_str().unwrap());
            assert!(self.stderr.contains(&format!("[{code}]")), "{code} is not shown: {}", self.stderr);
            assert!(self.stderr.contains(problem.lines().next().unwrap()), "{problem}: {}", self.stderr);
        }
        errors
    }

    fn line(&self) -> Json {
        let line = self.stdout.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {self:?}"));
        assert!(!line.contains('\n'), "more than one line: {line}");
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

/// All files below a folder with their content, by their paths in it. Locks and files that were being written when
/// their writer died are left out.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name != ".lock" && !name.starts_with(".tmp-") {
                let content = std::fs::read(&path).unwrap();
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), content);
            }
        }
    }
    found
}

/// Checks that everything that was there is there still, byte for byte.
pub fn check_kept(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    for (path, content) in before {
        let now = after.get(path).unwrap_or_else(|| panic!("{what}: {} is gone", path.display()));
        assert!(now == content, "{what}: {} has changed", path.display());
    }
}

/// The records of a run's checkpoints, oldest first.
pub fn checkpoints(run: &Path) -> Vec<PathBuf> {
    checkpoint_files(run, ".json")
}

/// The parts of a run's checkpoints, oldest first.
pub fn checkpoint_parts(run: &Path) -> Vec<PathBuf> {
    checkpoint_files(run, ".safetensors")
}

fn checkpoint_files(run: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let of_kind = |name: &str| name.starts_with("step-") && name.ends_with(suffix);
    paths.retain(|path| path.file_name().is_some_and(|name| of_kind(&name.to_string_lossy())));
    paths.sort();
    paths
}

/// All weights of a finished run, in the order of their names.
pub fn weights(run: &Path) -> Vec<f64> {
    let path = run.join("model/weights.safetensors");
    let file = safetensors::read(&LocalStorage::new(), &path).unwrap_or_else(|e| panic!("{e}"));
    file.tensors.values().flat_map(|t| (0..t.elements()).map(|i| t.get_f64(i)).collect::<Vec<_>>()).collect()
}

/// Changes one bit of a file, at a part of its length between 0 and 1.
pub fn flip_bit(path: &Path, at: f64) {
    let mut bytes = std::fs::read(path).unwrap();
    let byte = (bytes.len() as f64 * at) as usize;
    bytes[byte] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// The folder of real data sets, if it holds this one; else says that the test skips.
pub fn real_data(set: &str) -> Option<PathBuf> {
    let root = std::env::var_os("OUTGROW_DATA").map(PathBuf::from);
    let found = root.filter(|root| root.join(set).is_dir());
    if found.is_none() {
        skipped(&format!("OUTGROW_DATA names no folder with `{set}`"));
    }
    found
}

/// Says plainly that a test could not do its work here.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// Random numbers for tests that a seed reproduces (splitmix64, Steele et al. 2014).
pub struct Dice(pub u64);

impl Dice {
    /// Uniform over all numbers.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform from 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
