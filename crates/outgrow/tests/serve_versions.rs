//! Versions of models that come and go while a server answers: whoever asks is answered by one of them, whole; what is
//! damaged never answers; and what is gone leaves nothing behind.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::Place;
use common::server::{Server, bits, output, request};
use outgrow_data::source::glyphs::{SIZE, glyph};
use outgrow_tensor::Tensor;
use serde_json::{Value as Json, json};

/// Two models of glyphs that say different things, and some images.
fn two() -> (Place, Tensor) {
    let place = Place::new();
    for seed in [1, 2] {
        place.write(
            "m.toml",
            format!(
                "name = \"glyphs\"\nseed = {seed}\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 200\n\
                 test = {{ samples = 20 }}\n[model]\nlayers = [{{ conv = 4, kernel = 3 }}, {{ flatten = true }}, \
                 {{ dense = 10 }}]\n[train]\nepochs = 1\nbatch = 20\nlr = 0.01\n"
            ),
        );
        place.json(&["train", "m.toml", "--out", &format!("run{seed}")]);
    }
    let pixels: Vec<f32> = (0..3).flat_map(|i| glyph(5, i).0).map(|p| f32::from(p) / 255.0).collect();
    (place, Tensor::new([3, 1, SIZE, SIZE], pixels).unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The index, by version: state and reason.
fn index(server: &Server) -> BTreeMap<u64, (String, String)> {
    let answer = server.client().ask("POST /v2/repository/index HTTP/1.1", b"{}").json();
    let entries = answer.as_array().unwrap_or_else(|| panic!("{answer}"));
    let text = |entry: &Json, key: &str| entry[key].as_str().unwrap().to_owned();
    let entry =
        |entry| (text(entry, "version").parse().unwrap(), (text(entry, "state"), text(entry, "reason")));
    entries.iter().filter(|entry| entry["name"] == "glyphs").map(entry).collect()
}

fn post(server: &Server, path: &str, body: &str) -> (u16, Json) {
    let answer = server.client().ask(&format!("POST /v2/repository/models/{path} HTTP/1.1"), body.as_bytes());
    (answer.status, answer.json())
}

fn proc(server: &Server, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{}/{file}", server.id())).unwrap()
}

fn resident_kib(server: &Server) -> u64 {
    let status = proc(server, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn handles(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

/// Makes a version bad, each time in another way, and says what the reason has to say.
fn damage(place: &Place, folder: &Path, way: usize) -> &'static str {
    let weights = folder.join("weights.safetensors");
    match way % 5 {
        0 => {
            let mut bytes = std::fs::read(&weights).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 4;
            std::fs::write(&weights, bytes).unwrap();
            "its checksum differs"
        }
        1 => {
            let bytes = std::fs::read(&weights).unwrap();
            std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
            "bytes"
        }
        2 => {
            // As it is while it is being copied: the list of parts comes last.
            std::fs::remove_file(folder.join("package.json")).unwrap();
            "perhaps it is not finished"
        }
        3 => {
            place.write("outside/secret", b"not for the repository");
            std::fs::remove_file(&weights).unwrap();
            std::os::unix::fs::symlink(place.path("outside/secret"), &weights).unwrap();
            "leaves the repository"
        }
        _ => {
            for entry in std::fs::read_dir(folder).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
            std::fs::write(folder.join("model.onnx"), b"no model at all").unwrap();
            "is no ONNX model"
        }
    }
}

/// 200 versions after each other while clients ask without pause: no request fails, each answer is that of the version
/// that it names, every tenth version is damaged and never answers, and in the end memory, files and handles are back.
#[test]
fn versions_are_swapped_under_load_and_nobody_notices() {
    let (place, images) = two();
    let repository = place.path("models");
    let version = |number: usize| repository.join("glyphs").join(number.to_string());
    copy(&place.path("run1/model"), &version(1));
    let server = Server::start(&place, &["models", "--threads", "1"]);
    let ask = request("image", &images);
    let mut expect: Vec<Vec<u32>> = Vec::new();
    for number in [1, 2] {
        if number == 2 {
            copy(&place.path("run2/model"), &version(2));
            assert_eq!(post(&server, "glyphs/load", "").0, 200);
        }
        let (status, answer) = server.client().infer("glyphs", &ask);
        assert_eq!((status, &answer["model_version"]), (200, &json!(number.to_string())));
        expect.push(bits(&output(&answer)));
    }
    assert_ne!(expect[0], expect[1]);
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut bad = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (server, ask, expect, done, asked) = (&server, &ask, &expect, &done, &asked);
            scope.spawn(move || {
                let mut client = server.client();
                while !done.load(Ordering::Relaxed) {
                    let (status, answer) = client.infer("glyphs", ask);
                    assert_eq!(status, 200, "{answer}");
                    let version: usize = answer["model_version"].as_str().unwrap().parse().unwrap();
                    assert_eq!(bits(&output(&answer)), expect[(version - 1) % 2], "version {version}");
                    assert!(!version.is_multiple_of(10), "version {version} is damaged");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // A failed check must not leave the others asking for ever.
        let swap = || {
            let mut before = (0, 0);
            for number in 3..=202 {
                copy(&place.path(&format!("run{}/model", (number - 1) % 2 + 1)), &version(number));
                if number % 10 == 0 {
                    let reason = damage(&place, &version(number), number / 10);
                    let (status, answer) = post(&server, "glyphs/load", "");
                    assert_eq!(status, 400, "{answer}");
                    assert!(answer["error"].as_str().unwrap().contains(reason), "{reason}: {answer}");
                    let index = index(&server);
                    let (state, why) = &index[&(number as u64)];
                    assert_eq!(state, "UNAVAILABLE");
                    assert!(why.contains(reason), "{reason}: {why}");
                    assert_eq!(index[&(number as u64 - 1)].0, "READY");
                    bad.push(number);
                } else {
                    let (status, answer) = post(&server, "glyphs/load", "");
                    assert_eq!(status, 200, "{number}: {answer}");
                }
                let older = number - 2;
                std::fs::remove_dir_all(version(older)).unwrap();
                if number == 50 {
                    before = (resident_kib(&server), handles(&server));
                }
            }
            before
        };
        let swapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(swap));
        done.store(true, Ordering::Relaxed);
        let (memory, files) = swapped.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(resident_kib(&server) < memory + (32 << 10), "{memory} KiB after 50 versions");
        assert!(handles(&server) <= files + 4, "{files} handles after 50 versions");
    });
    assert_eq!(bad.len(), 20);
    assert!(asked.load(Ordering::Relaxed) > 200);
    let (status, stats) = server.client().get("/v2/models/glyphs/stats");
    assert_eq!((status, stats["model_stats"].as_array().map(Vec::len)), (200, Some(1)), "{stats}");
    // Of all the versions, the weights of one are held.
    let maps = proc(&server, "maps");
    let held: Vec<&str> = maps.lines().filter(|line| line.contains("weights.safetensors")).collect();
    assert!(
        !held.is_empty() && held.iter().all(|line| line.ends_with("/glyphs/202/weights.safetensors")),
        "{held:?}"
    );
    assert_eq!(post(&server, "glyphs/unload", "").0, 200);
    assert!(!proc(&server, "maps").contains("weights.safetensors"));
}

#[test]
fn a_repository_serves_the_newest_good_version_or_those_that_are_named() {
    let (place, images) = two();
    let folder = place.path("models/glyphs");
    copy(&place.path("run1/model"), &folder.join("1"));
    copy(&place.path("run2/model"), &folder.join("2"));
    copy(&place.path("run1/model"), &folder.join("3"));
    damage(&place, &folder.join("3"), 0);
    // A run's folder, an ONNX file, and what is no version at all.
    copy(&place.path("run1/model"), &place.path("models/other/7/model"));
    place.json(&["export", "run2", "x.onnx"]);
    std::fs::create_dir_all(place.path("models/foreign/1")).unwrap();
    std::fs::copy(place.path("x.onnx"), place.path("models/foreign/1/model.onnx")).unwrap();
    for odd in ["glyphs/007", "glyphs/0", "glyphs/latest", "glyphs/-4", "bad name/1", ".hidden/1", "empty"] {
        std::fs::create_dir_all(place.path("models").join(odd)).unwrap();
    }
    let server = Server::start(&place, &["models", "--threads", "1"]);
    let mut client = server.client();
    let ask = request("image", &images);
    let (status, answer) = client.infer("glyphs", &ask);
    assert_eq!((status, &answer["model_version"]), (200, &json!("2")), "{answer}");
    let second = bits(&output(&answer));
    let (_, metadata) = client.get("/v2/models/glyphs");
    assert_eq!(metadata["versions"], json!(["2"]));
    let states: Vec<_> = index(&server).into_iter().map(|(number, (state, _))| (number, state)).collect();
    let expect = [(1, "UNAVAILABLE"), (2, "READY"), (3, "UNAVAILABLE")];
    assert_eq!(states, expect.map(|(number, state)| (number, state.to_owned())));
    assert!(index(&server)[&3].1.contains("its checksum differs"));
    assert_eq!(client.infer("other", &ask).1["model_version"], "7");
    // The same network of another framework's format: the same numbers, but for their last digits.
    let (status, foreign) = client.infer("foreign", &ask);
    assert_eq!(status, 200, "{foreign}");
    for (a, b) in output(&foreign).iter().zip(output(&answer)) {
        assert!((a - b).abs() < 1e-4, "{foreign}\n{answer}");
    }
    // Its rows answer by themselves, so that requests run together, filled up: with the bits of each alone.
    assert_eq!(client.get("/v2/models/foreign/config").1["max_batch_size"], 64);
    let pixels =
        (0..5 * SIZE * SIZE).map(|i| images.get_f64(i % images.elements()) as f32).collect::<Vec<_>>();
    let five = Tensor::new([5, 1, SIZE, SIZE], pixels).unwrap();
    let (status, five) = client.infer("foreign", &request("image", &five));
    let of_three = bits(&output(&foreign));
    assert_eq!((status, bits(&output(&five))), (200, of_three.iter().copied().cycle().take(50).collect()));
    // Versions that the path names, once they are loaded.
    assert_eq!(client.infer("glyphs/versions/1", &ask).0, 404);
    let policy = |policy: Json| {
        json!({ "parameters": { "config": json!({ "version_policy": policy }).to_string() } }).to_string()
    };
    assert_eq!(post(&server, "glyphs/load", &policy(json!({ "specific": { "versions": [1, 2] } }))).0, 200);
    let (status, first) = client.infer("glyphs/versions/1", &ask);
    assert_eq!((status, &first["model_version"]), (200, &json!("1")));
    assert_ne!(bits(&output(&first)), second);
    assert_eq!(client.infer("glyphs/versions/2", &ask).1["outputs"], answer["outputs"]);
    assert_eq!(client.get("/v2/models/glyphs").1["versions"], json!(["1", "2"]));
    let (status, refused) = post(&server, "glyphs/load", &policy(json!({ "specific": { "versions": [9] } })));
    assert_eq!(status, 400, "{refused}");
    assert_eq!(client.infer("glyphs", &ask).1["model_version"], "2", "what was served goes on");
    assert_eq!(post(&server, "glyphs/load", &policy(json!({ "specific": { "versions": [1] } }))).0, 200);
    assert_eq!(client.infer("glyphs", &ask).1["model_version"], "1", "an older one, since it is named");
    // A model that came after the start; nothing outside the repository is one.
    copy(&place.path("run1/model"), &place.path("models/later/1"));
    copy(&place.path("run1/model"), &place.path("aside/1"));
    assert_eq!(post(&server, "later/load", "").0, 200);
    assert_eq!(client.infer("later", &ask).1["outputs"], first["outputs"]);
    for name in ["..%2faside", "..", "aside", "bad%20name", ".hidden"] {
        assert!([404, 400].contains(&post(&server, &format!("{name}/load"), "").0), "{name}");
    }
    std::os::unix::fs::symlink(place.path("aside"), place.path("models/linked")).unwrap();
    let (status, answer) = post(&server, "linked/load", "");
    assert_eq!(
        (status, answer["error"].as_str().unwrap().contains("leaves the repository")),
        (400, true),
        "{answer}"
    );
}

#[test]
fn a_version_that_does_not_give_its_recorded_answers_is_not_served() {
    let (place, images) = two();
    let folder = place.path("models/glyphs");
    copy(&place.path("run1/model"), &folder.join("1"));
    let server = Server::start(&place, &["models", "--threads", "1"]);
    let ask = request("image", &images);
    let answer = server.client().infer("glyphs", &ask).1;
    let sample = json!({ "inputs": ask["inputs"], "outputs": answer["outputs"] }).to_string() + "\n";
    // The model that the sample was recorded with, and another.
    for (number, run, status) in [(2, "run1", 200), (3, "run2", 400)] {
        copy(&place.path(run).join("model"), &folder.join(number.to_string()));
        std::fs::write(folder.join(format!("{number}/samples.jsonl")), &sample).unwrap();
        let (found, answer) = post(&server, "glyphs/load", "");
        assert_eq!(found, status, "{answer}");
    }
    let (state, reason) = &index(&server)[&3];
    assert_eq!(state, "UNAVAILABLE");
    assert!(
        reason.contains("samples.jsonl:1: output `") && reason.contains("not the recorded one"),
        "{reason}"
    );
    assert_eq!(server.client().infer("glyphs", &ask).1["model_version"], "2");
    // Samples that are none.
    copy(&place.path("run1/model"), &folder.join("4"));
    std::fs::write(folder.join("4/samples.jsonl"), b"{\"inputs\":[]}\n").unwrap();
    assert_eq!(post(&server, "glyphs/load", "").0, 400);
}

/// A folder that is watched: versions are served once they are whole, models that come later too, and what has gone is not.
#[test]
fn a_repository_that_is_watched_needs_nobody_to_ask() {
    let (place, images) = two();
    let version = |name: &str, number: u32| place.path("models").join(name).join(number.to_string());
    copy(&place.path("run1/model"), &version("glyphs", 1));
    let arguments =
        ["models", "--threads", "1", "--watch", "0.05", "--weight", "glyphs=2", "--priority", "glyphs=0"];
    let server = Server::start(&place, &arguments);
    let ask = request("image", &images);
    let mut client = server.client();
    // Waits for what has to come: a folder is looked into when the machine has time.
    let mut until = |name: &str, expected: &Json| {
        for _ in 0..2400 {
            let (status, answer) = client.infer(name, &ask);
            let version = if status == 200 { answer["model_version"].clone() } else { json!(status) };
            if version == *expected {
                return output_bits(status, &answer);
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("`{name}` did not come to {expected}: {:?}", index(&server));
    };
    let first = until("glyphs", &json!("1"));
    // A version that is damaged never answers; once it is whole it does.
    copy(&place.path("run2/model"), &version("glyphs", 2));
    let second = until("glyphs", &json!("2"));
    assert_ne!(first, second);
    copy(&place.path("run1/model"), &place.path("damaged"));
    damage(&place, &place.path("damaged"), 0);
    copy(&place.path("damaged"), &version("glyphs", 3));
    let told = (0..2400).any(|_| {
        assert_eq!(until("glyphs", &json!("2")), second);
        std::thread::sleep(std::time::Duration::from_millis(25));
        index(&server).get(&3).is_some_and(|(_, why)| why.contains("its checksum differs"))
    });
    assert!(told, "{:?}", index(&server));
    std::fs::remove_dir_all(version("glyphs", 3)).unwrap();
    copy(&place.path("run1/model"), &version("glyphs", 3));
    assert_eq!(until("glyphs", &json!("3")), first);
    // What has gone makes room for what was there before, and a model of which nothing is left is not served.
    std::fs::remove_dir_all(version("glyphs", 3)).unwrap();
    assert_eq!(until("glyphs", &json!("2")), second);
    // The same folder that comes again is served again.
    copy(&place.path("run1/model"), &version("later", 1));
    for _ in 0..2 {
        assert_eq!(until("later", &json!("1")), first);
        std::fs::rename(version("later", 1), place.path("aside")).unwrap();
        until("later", &json!(503));
        std::fs::rename(place.path("aside"), version("later", 1)).unwrap();
    }
    assert_eq!(until("later", &json!("1")), first);
    // Who unloads a model means it.
    assert_eq!(post(&server, "glyphs/unload", "").0, 200);
    copy(&place.path("run2/model"), &version("later", 2));
    assert_eq!(until("later", &json!("2")), second);
    until("glyphs", &json!(503));
}

fn output_bits(status: u16, answer: &Json) -> Vec<u32> {
    if status == 200 { bits(&output(answer)) } else { Vec::new() }
}
