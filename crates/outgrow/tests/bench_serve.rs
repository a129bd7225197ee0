//! `outgrow bench serve` against real servers: what it counts is what the server has counted, and what is wrong is said
//! before anything is measured.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;

use common::Place;
use common::server::Server;
use outgrow_store::npy::write_npy;
use outgrow_tensor::Tensor;
use serde_json::Value as Json;

/// A server of a model of two numbers, whose rows may be any number; the last folder is a second model.
fn served(models: &[&str], flags: &[&str]) -> (Place, Server) {
    let place = Place::with(
        "name = \"line\"\n[data]\nsource = \"rows\"\ncolumns = [\"x\", \"z\", \"y\"]\nlabel = \"y\"\n\
         rows = [[1, 0, 2], [2, 1, 4], [3, 0, 6], [4, 2, 8]]\ntest = { rows = [[5, 1, 10], [6, 2, 12]] }\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 4\n",
    );
    place.json(&["train", "m.toml", "--out", "run"]);
    let server = Server::start(&place, &[models, flags].concat());
    (place, server)
}

/// What the server says of how often it was asked: requests, those that failed, rows.
fn counts(server: &Server) -> [u64; 3] {
    let (_, said) = server.client().get("/v2/models/line/stats");
    let said = &said["model_stats"][0];
    let of = |kind: &str| said["inference_stats"][kind]["count"].as_u64().unwrap();
    [of("success") + of("fail"), of("fail"), said["inference_count"].as_u64().unwrap()]
}

fn number(json: &Json, key: &str) -> u64 {
    json[key].as_u64().unwrap_or_else(|| panic!("{key}: {json}"))
}

#[test]
fn what_is_counted_is_what_the_server_counts() {
    let (place, server) = served(&["run"], &["--threads", "1"]);
    let url = format!("http://{}", server.address());
    let array = Tensor::new([3, 2], vec![1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    place.write("x.npy", write_npy(&array));
    let always = ["--warm-up", "0", "--seconds", "0.4"];
    for (flags, rows, open, connections) in [
        (&["--connections", "3"][..], 1, false, 3),
        (&["--batch", "5", "--json-body", "--target-ms", "10000"], 5, false, 1),
        (&["--input", "x.npy"], 3, false, 1),
        (&["--input", "features=x.npy", "--batch", "7"], 7, false, 1),
        (&["--rate", "300", "--target-ms", "10000", "--model", "line"], 1, true, 64),
        // More than can be: what finds no connection is said too.
        (&["--rate", "1000000", "--connections", "2"], 1, true, 2),
        (&["--timeout-ms", "20000"], 1, false, 1),
    ] {
        let before = counts(&server);
        let found = place.json(&[&["bench", "serve", &url], flags, &always].concat());
        let after = counts(&server);
        assert_eq!((&found["model"], number(&found, "rows")), (&Json::from("line"), rows), "{flags:?}");
        assert_eq!(found["loop"], if open { "open" } else { "closed" });
        assert_eq!((number(&found, "connections"), &found["url"]), (connections, &Json::from(url.as_str())));
        // One more was sent to see whether it is answered.
        let answered = number(&found, "answered");
        assert_eq!((after[0] - before[0], after[1] - before[1]), (answered + 1, 0), "{flags:?}: {found}");
        assert_eq!(after[2] - before[2], (answered + 1) * rows, "{flags:?}: {found}");
        assert_eq!((number(&found, "refused"), &found["errors"]), (0, &serde_json::json!({})));
        assert_eq!(number(&found, "arrived"), answered + number(&found, "unsent"));
        assert_eq!(number(&found, "unsent") > 0, flags.contains(&"1000000"), "{found}");
        let latency =
            ["p50", "p90", "p99", "p99.9", "max"].map(|key| found["latency_ms"][key].as_f64().unwrap());
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{found}");
        let per_s = found["requests_per_s"].as_f64().unwrap();
        assert!(
            (per_s * found["seconds"].as_f64().unwrap() - answered as f64).abs() < 1e-6 * answered as f64
        );
        if flags.contains(&"10000") {
            assert_eq!(number(&found, "within_target"), answered);
            assert_eq!(found["goodput_per_s"], found["requests_per_s"]);
        }
    }
    // Any path, by what a file holds.
    place.write("x.json", "{\"instances\": [[1, 2]]}");
    let path = "/v1/models/line:predict";
    let before = counts(&server);
    let found =
        place.json(&[&["bench", "serve", &url, "--path", path, "--body", "x.json"], &always[..]].concat());
    let answered = number(&found, "answered");
    assert_eq!((&found["model"], &found["body"]), (&Json::from(path), &Json::from("file")), "{found}");
    assert_eq!(counts(&server)[0] - before[0], answered + 1, "{found}");
    for (path, file, code) in [
        ("v2", "x.json", "bench.path"),
        ("/a b", "x.json", "bench.path"),
        ("/v2", "there-is-none", "bench.body"),
        ("/v2", "x.json", "bench.request"),
    ] {
        let refused = place.run(&["bench", "serve", &url, "--path", path, "--body", file]);
        assert!(refused.stderr.contains(code), "{path} {file}: {}", refused.stderr);
    }
    let text = place.run(&[&["bench", "serve", &url, "--target-ms", "10000"], &always[..]].concat());
    for part in ["line at http://", "requests/s", "p99.9", "answered", "100.0 % within 10000 ms"] {
        assert!(text.stdout.contains(part), "{part}: {}", text.stdout);
    }
    assert_eq!(text.stderr, "", "nothing is said where there is no terminal");
}

#[test]
fn the_rate_that_a_server_bears_is_looked_for() {
    let (place, server) = served(&["run"], &["--threads", "1"]);
    let url = format!("http://{}", server.address());
    let flags = ["--find-rate", "--warm-up", "0", "--seconds", "0.2"];
    let bears = |rate: &str, target: &str| {
        place.json(&[&["bench", "serve", &url, "--rate", rate, "--target-ms", target], &flags[..]].concat())
    };
    // In a nanosecond nothing is answered, and every rate is tried twice: down to 20 requests in 0.2 s.
    let found = bears("300", "0.000001");
    assert_eq!(found["found_rate"], Json::Null);
    let trials = found["trials"].as_array().unwrap();
    let rates: Vec<f64> = trials.iter().map(|trial| trial["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [300.0, 300.0, 150.0, 150.0, 100.0, 100.0]);
    assert!(trials.iter().all(|trial| trial["borne"] == false && trial["within"] == 0.0), "{found}");
    // What was found was borne, and is what is told of.
    let found = bears("150", "10000");
    let rate = found["found_rate"].as_f64().unwrap();
    assert!(rate >= 150.0 && found["rate"] == rate && found["loop"] == "open", "{found}");
    let borne = |trial: &Json| trial["rate"] == rate && trial["borne"] == true;
    assert!(found["trials"].as_array().unwrap().iter().any(borne), "{found}");
}

#[test]
fn refusals_are_counted_apart_and_a_server_that_goes_away_is_told_of() {
    // This one answers as often as it is asked to: the first request, which tries it out, well, and the others not.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let answers = [
            (200, "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1]}]}"),
            (200, "{}"),
            (503, "{}"),
            (429, "{}"),
            (500, "{}"),
            (200, "{}"),
        ];
        let mut answers = answers.into_iter();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                bytes.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
                if body.len() < length.parse().unwrap() {
                    continue;
                }
                bytes.clear();
                let Some((status, body)) = answers.next() else { return };
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    let place = Place::new();
    let url = address.to_string();
    let flags = ["--model", "m", "--warm-up", "0", "--seconds", "0.5", "--json-body", "--target-ms", "9999"];
    let found = place.json(&[&["bench", "serve", &url], &flags[..]].concat());
    server.join().unwrap();
    assert_eq!((number(&found, "answered"), number(&found, "refused")), (1, 2), "{found}");
    assert_eq!(found["refusals"], serde_json::json!({ "429": 1, "503": 1 }), "{found}");
    assert_eq!((&found["errors"]["500"], number(&found, "within_target")), (&Json::from(1), 1), "{found}");
    let lost = ["broken", "unreachable"].map(|key| found["errors"][key].as_u64().unwrap_or(0));
    assert!(lost[1] > 0, "{found}");
    assert_eq!(number(&found, "arrived"), 4 + lost[0] + lost[1], "{found}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let (place, server) = served(&["run", "other=run"], &["--threads", "1"]);
    let url = server.address().to_string();
    place.write("x.npy", write_npy(&Tensor::new([1, 3], vec![1f32, 2.0, 3.0]).unwrap()));
    place.write("empty.npy", write_npy(&Tensor::new([0, 2], Vec::<f32>::new()).unwrap()));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (url, flags, code, says) in [
        (url.as_str(), &[][..], "bench.model", "one of line, other"),
        (&url, &["--model", "nothing"], "bench.model", "line, line.raw, other, other.raw"),
        (&url, &["--model", "line.raw"], "bench.input", "takes BYTES"),
        (&url, &["--model", "line", "--input", "x.npy"], "bench.request", "f32[1, 3]"),
        (&url, &["--model", "line", "--input", "q=x.npy"], "infer.name", "features"),
        (&url, &["--model", "line", "--input", "none.npy"], "predict.file", "none.npy"),
        (&url, &["--model", "line", "--input", "empty.npy", "--batch", "2"], "bench.input", "no rows"),
        (&url, &["--model", "line", "--batch", "99999999999"], "bench.batch", "bytes at most"),
        (&url, &["--rate", "0"], "bench.rate", "above 0"),
        (&url, &["--rate", "nan"], "bench.rate", "above 0"),
        (&url, &["--seconds", "0"], "option.time", "seconds above 0"),
        (&url, &["--warm-up", "inf"], "option.time", "0 seconds or more"),
        (&url, &["--target-ms", "1e300"], "option.time", "a day"),
        (&url, &["--model", "line", "--rate", "0.001", "--seconds", "0.1"], "bench.none", "no request"),
        (&closed, &[], "bench.unreachable", "outgrow serve"),
        ("ftp://localhost", &[], "bench.url", "http://"),
    ] as [(&str, &[&str], &str, &str); 16]
    {
        let found = place.refused(&[&["bench", "serve", url], flags].concat()).remove(0);
        assert_eq!(found["code"], code, "{flags:?}: {found}");
        assert!(found.to_string().contains(says), "{flags:?}: {found}");
    }
    assert_eq!(place.run(&["bench", "serve", &url, "--find-rate"]).code, 2, "there is no target");
}
