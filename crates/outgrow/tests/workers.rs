//! No bit of a result depends on how many workers share a run, how they are connected and how many threads each has.

mod common;

use common::Place;
use serde_json::Value as Json;

const GLYPHS: &str = "seed = 5\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 200\ntest = { samples = 60 }\nsplit = { validation = 0.2 }\n";

/// How workers are connected.
const TRANSPORTS: [&[&str]; 4] = [
    &["--transport", "threads"],
    &["--transport", "shm"],
    &["--transport", "tcp"],
    &["--transport", "tcp", "--no-tls"],
];

/// Four points on a line, as many micro-shards.
const LINE: &str = "[data]\nsource = \"rows\"\ncolumns = [\"a\", \"b\", \"y\"]\nlabel = \"y\"\n\
    rows = [[1, 2, 1], [2, 3, 2], [3, 4, 3], [4, 5, 4]]\n[model]\nname = \"linear\"\n\
    [train]\nepochs = 40\nbatch = 4\nmicro_shards = 4\noptimizer = \"sgd\"\nlr = 0.04\n";

/// Trains, and gives all that does not tell how: weights, metrics, what was logged.
fn measure(place: &Place, out: &str, flags: &[&str]) -> Json {
    let args = ["run", "m.toml", "--quiet", "--out", out, "--fresh"];
    let mut result = place.json(&[&args[..], flags].concat());
    for key in [
        "run",
        "threads",
        "train_seconds",
        "samples_per_s",
        "cpu_utilisation",
        "peak_memory_bytes",
        "workers",
        "transport",
        "all_reduce_seconds",
        "overlap",
        "links",
    ] {
        result.as_object_mut().unwrap().remove(key);
    }
    let log = place.read(&format!("{out}/metrics.jsonl"));
    assert!(!log.is_empty());
    result["log"] = Json::from(log);
    result
}

/// The same bits for these numbers of workers and threads as for one of each.
fn check(manifest: &str, groups: &[(usize, usize)]) {
    let place = Place::with(manifest);
    let alone = measure(&place, "alone", &["--threads", "1"]);
    assert!(
        alone["test"]["loss"].as_f64().is_none_or(f64::is_finite) && alone["steps"].as_u64().unwrap() > 2
    );
    for (workers, threads) in groups {
        let (workers, threads) = (workers.to_string(), threads.to_string());
        for transport in TRANSPORTS {
            let flags = [&["--workers", &workers, "--threads", &threads], transport].concat();
            let together = measure(&place, "together", &flags);
            assert_eq!(together, alone, "{workers} workers of {threads} threads: {transport:?}");
        }
    }
}

#[test]
fn a_regression_by_four_workers() {
    check(LINE, &[(4, 1), (2, 2), (3, 1)]);
}

/// Portions of an evaluation that differ in length, metrics of each of two numbers, and of two classes.
#[test]
fn tables_whose_evaluation_is_shared() {
    let row = |i: usize| {
        let (a, b) = ((i * 7 % 23) as f64 / 3.0, (i * 5 % 17) as f64);
        format!("[{a}, {b}, {}, {}, {}]", a - b, 0.1 * a + 0.3, if a > b { "\"more\"" } else { "\"less\"" })
    };
    let rows: Vec<String> = (0..200).map(row).collect();
    let table = |label: &str| {
        format!(
            "[data]\nsource = \"rows\"\ncolumns = [\"a\", \"b\", \"c\", \"d\", \"e\"]\nfeatures = [\"a\", \"b\"]\n\
            label = {label}\nsplit = {{ validation = 0.3, test = 0.4 }}\nrows = [{}]\n\
            [model]\nname = \"mlp\"\nhidden = [9]\n\
            [train]\nepochs = 3\nbatch = 8\nmicro_shards = 8\nlog_every_steps = 1\n",
            rows.join(", ")
        )
    };
    check(&table("[\"c\", \"d\"]"), &[(2, 1), (3, 1), (8, 1)]);
    check(&table("\"e\""), &[(3, 1)]);
    // A model with a training of its own, which each worker finds from the data.
    let pretuned = |label: &str| {
        table(label).replace("name = \"mlp\"\nhidden = [9]", "name = \"realmlp\"").replace("batch = 8\n", "")
    };
    check(&pretuned("[\"c\", \"d\"]"), &[(2, 1), (3, 2)]);
    check(&pretuned("\"e\""), &[(8, 1)]);
}

#[test]
fn an_mlp_with_dropout_and_clipping() {
    let rest = "[model]\nname = \"mlp\"\nhidden = [200, 70]\ndropout = 0.3\n\
        [train]\nepochs = 2\nbatch = 32\nmicro_shards = 8\noptimizer = \"adam\"\nclip_norm = 0.5\nlog_every_steps = 1\n";
    check(&format!("{GLYPHS}{rest}"), &[(2, 1), (3, 1), (5, 1), (8, 1)]);
}

#[test]
fn an_optimiser_that_looks_at_whole_tensors() {
    let rest = "[model]\nname = \"mlp\"\nhidden = [100]\n\
        [train]\nepochs = 2\nbatch = 32\nmicro_shards = 4\noptimizer = \"lamb\"\nclip_value = 0.01\nlog_every_steps = 1\n";
    check(&format!("{GLYPHS}{rest}"), &[(2, 2), (4, 1)]);
}

/// So many parameters that they are exchanged in several buckets, the first while gradients are still computed.
#[test]
fn buckets_that_are_exchanged_beside_the_gradients() {
    let rest = "[model]\nname = \"mlp\"\nhidden = [600, 600, 500]\n\
        [train]\nsteps = 4\nbatch = 32\nmicro_shards = 8\noptimizer = \"adam\"\nclip_norm = 0.5\nlog_every_steps = 1\n";
    check(&format!("{GLYPHS}{rest}"), &[(2, 1), (3, 2), (5, 1), (8, 1)]);
    // Cut between groups of parameters too.
    let groups = "param_groups = [{ params = [\"*.bias\", \"3.*\"], lr_factor = 0.1, weight_decay = 0.5 }]\n";
    check(&format!("{GLYPHS}{rest}{groups}"), &[(2, 1), (5, 1)]);
    // With an optimiser that is not cut, all workers get all sums.
    check(&format!("{GLYPHS}{rest}").replace("adam", "lamb"), &[(3, 1), (4, 2)]);
}

#[test]
fn named_architectures() {
    let lenet = "[model]\nname = \"lenet\"\n[train]\nsteps = 6\nbatch = 32\nmicro_shards = 8\nlog_every_steps = 1\n\
        optimizer = { name = \"momentum\", momentum = 0.9 }\nlr = 0.02\n";
    check(&format!("{GLYPHS}{lenet}"), &[(2, 1), (5, 2), (8, 1)]);
    let resnet = "[model]\nname = \"resnet18\"\n[train]\nsteps = 3\nbatch = 8\nmicro_shards = 4\nlog_every_steps = 1\n\
        optimizer = { name = \"momentum\", momentum = 0.9 }\nlr = 0.02\nweight_decay = 5e-4\n";
    let few = GLYPHS.replace("200", "40").replace("60 }", "8 }");
    check(&format!("{few}{resnet}"), &[(3, 1)]);
}

#[test]
fn a_convolutional_network() {
    let rest = "[model]\nlayers = [\n\
        { conv = 6, kernel = 5, padding = \"same\", activation = \"relu\" }, { max_pool = 2 },\n\
        { flatten = true }, { dense = 80, activation = \"relu\" }, { dense = 10 },\n]\n\
        [train]\nsteps = 5\nbatch = 32\nmicro_shards = 4\noptimizer = { name = \"ftrl\" }\nlr = 0.1\nlog_every_steps = 1\n";
    check(&format!("{GLYPHS}{rest}"), &[(3, 1), (4, 2)]);
}

#[test]
fn a_residual_network_with_batch_norm_and_augmented_samples() {
    let data = GLYPHS.replace("[data]\n", "[data]\naugment = { flip = \"both\", mixup = 0.3 }\n");
    let rest = "[model]\nlayers = [\n\
        { conv = 8, kernel = 3, stride = 2, padding = 1, bias = false }, { batch_norm = true }, { activation = \"relu\" },\n\
        { residual = [ { conv = 8, kernel = 3, padding = 1, bias = false }, { batch_norm = true } ] },\n\
        { activation = \"relu\" }, { global_avg_pool = true }, { dense = 10 },\n]\n\
        [train]\nsteps = 9\nbatch = 32\nmicro_shards = 4\nlog_every_steps = 1\nsampling = \"balanced\"\n\
        optimizer = { name = \"momentum\", momentum = 0.9 }\nlr = 0.05\nweight_decay = 5e-4\n\
        early_stopping = { metric = \"loss\", patience = 1 }\neval_every_steps = 2\n";
    check(&format!("{data}{rest}"), &[(2, 1), (3, 2)]);
}

#[test]
fn a_language_model() {
    let manifest = "[data]\nsource = \"text\"\nfiles = \"poem.txt\"\ncontext = 16\nsplit = { validation = 0.1, test = 0.1 }\n\
        [model]\nname = \"gpt\"\nlayers = 2\nheads = 2\nwidth = 32\ndropout = 0.1\n\
        [train]\nsteps = 6\nbatch = 16\nmicro_shards = 8\noptimizer = \"adamw\"\nclip_norm = 1.0\nlog_every_steps = 1\n";
    let place = Place::with(manifest);
    let words = ["all ", "the world's ", "a stage,\n", "and men ", "and women ", "merely ", "players."];
    let poem: String = (0..2_000usize).map(|i| words[(i * i + i / 3) % words.len()]).collect();
    place.write("poem.txt", poem);
    let alone = measure(&place, "alone", &["--threads", "2"]);
    for workers in ["2", "5"] {
        assert_eq!(
            measure(&place, "together", &["--workers", workers, "--threads", "1"]),
            alone,
            "{workers}"
        );
    }
}

#[test]
fn a_run_is_gone_on_with_by_any_number_of_workers() {
    let rest = "[model]\nname = \"mlp\"\nhidden = [50]\n\
        [train]\nsteps = STEPS\nbatch = 32\nmicro_shards = 4\noptimizer = \"adam\"\nschedule = \"constant\"\nlog_every_steps = 1\n";
    let whole = Place::with(&format!("{GLYPHS}{rest}").replace("STEPS", "12"));
    let expect = whole.json(&["train", "m.toml", "--quiet", "--out", "r"]);
    // Killed at some moment, and begun again with other workers each time.
    let place = Place::with(&format!("{GLYPHS}{rest}checkpoint_every_steps = 1\n").replace("STEPS", "12"));
    for (workers, transport) in [("3", "shm"), ("1", "threads"), ("4", "threads"), ("2", "shm")] {
        let args = ["train", "m.toml", "--quiet", "--out", "r", "--workers", workers, "--threads", "1"];
        let mut child = place.start(&[&args[..], &["--transport", transport]].concat());
        std::thread::sleep(std::time::Duration::from_millis(150));
        // It may have ended.
        let _ = child.kill();
        child.wait().unwrap();
    }
    let end = place.json(&["train", "m.toml", "--quiet", "--out", "r", "--workers", "3"]);
    assert_eq!(end["weights_sha256"], expect["weights_sha256"]);
    assert_eq!(end["steps"], 12);
}

#[test]
fn more_workers_than_micro_shards_are_refused_with_what_would_do() {
    let place = Place::with(LINE);
    let found = place.refused(&["train", "m.toml", "--quiet", "--workers", "5"]);
    assert_eq!(found[0]["code"], "train.micro-shards");
    assert_eq!(found[0]["help"], "--set train.micro_shards=8");
    assert!(!place.path("runs").exists(), "nothing was begun");
}

#[test]
fn what_fails_on_one_worker_is_told_once() {
    let manifest = LINE.replace("lr = 0.04", "lr = 1e30");
    let place = Place::with(&manifest);
    for transport in TRANSPORTS {
        let flags = ["train", "m.toml", "--quiet", "--workers", "4"];
        let found = place.refused(&[&flags, transport].concat());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["code"], "train.non-finite", "{found:?}");
    }
}

/// The manifest may say who trains; it is the same run all the same.
#[test]
fn a_cluster_in_the_manifest() {
    let place = Place::with(LINE);
    let alone = measure(&place, "r", &[]);
    place.write("m.toml", format!("{LINE}[cluster]\nworkers = 3\ntransport = \"shm\"\n"));
    let again = place.json(&["run", "m.toml", "--quiet", "--out", "r"]);
    assert_eq!(again["workers"], Json::Null, "the run has ended: {again}");
    let result = place.json(&["train", "m.toml", "--quiet", "--out", "other"]);
    assert_eq!((&result["workers"], &result["transport"]), (&Json::from(3), &Json::from("shared memory")));
    assert_eq!(result["weights_sha256"], alone["weights_sha256"]);
    let flags = ["train", "m.toml", "--quiet", "--out", "third", "--workers", "2", "--transport", "threads"];
    let result = place.json(&flags);
    assert_eq!((&result["workers"], &result["transport"]), (&Json::from(2), &Json::from("threads")));
    place.write("m.toml", format!("{LINE}[cluster]\nworkers = 3\nlocal = 4\nlisten = \"127.0.0.1:0\"\n"));
    let found = place.refused(&["train", "m.toml", "--quiet"]);
    assert_eq!(
        (&found[0]["code"], &found[0]["line"]),
        (&Json::from("cli.local"), &Json::from(16)),
        "{found:?}"
    );
}

#[test]
fn what_the_transport_has_no_use_for_is_refused() {
    let place = Place::with(LINE);
    for (flags, code) in [
        (&["--workers", "2", "--no-tls"][..], "cli.transport"),
        (&["--workers", "2", "--key", "k", "--transport", "shm"], "cli.transport"),
        (&["--workers", "2", "--listen", "127.0.0.1:0", "--transport", "threads"], "cli.transport"),
        (&["--workers", "2", "--listen", "127.0.0.1:0", "--local", "3"], "cli.local"),
        (&["--listen", "127.0.0.1:0"], "cli.workers"),
    ] {
        let found = place.refused(&[&["train", "m.toml", "--quiet"], flags].concat());
        assert_eq!(found[0]["code"], code, "{flags:?}");
    }
    assert!(!place.path("runs").exists(), "nothing was begun");
}
