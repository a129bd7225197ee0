//! What `outgrow serve --log` tells: one line for each request, with what came of it; nothing where nobody asks for it.

mod common;

use std::fs::File;

use common::Place;
use common::server::Server;
use serde_json::{Value as Json, json};

/// Asks a server one thing of each kind, ends it, and gives what it has written to stderr.
fn told(place: &Place, flags: &[&str]) -> (String, Vec<Option<String>>) {
    let path = place.path("log");
    let args = [&["run", "--threads", "1"], flags].concat();
    let mut server = Server::telling(place, &args, File::create(&path).unwrap().into());
    let mut client = server.client();
    let body =
        br#"{"inputs": [{"name": "features", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#;
    let answers = [
        client.ask("POST /v2/models/line/infer HTTP/1.1\r\nX-Request-Id: mine-7", body),
        client.ask("POST /v2/models/line/infer HTTP/1.1", b"{"),
        client.ask("POST /v2/models/nobody/infer HTTP/1.1\r\nX-Request-Id: \t", body),
        client.ask("POST /v2/repository/models/line/unload HTTP/1.1", b""),
        client.ask("POST /v2/models/line/infer HTTP/1.1", body),
    ];
    let statuses = answers.iter().map(|answer| answer.status).collect::<Vec<_>>();
    assert_eq!(statuses, [200, 400, 404, 200, 503]);
    drop(client);
    server.terminate();
    assert_eq!(server.wait(), Some(0));
    let ids = answers.iter().map(|answer| answer.headers.get("x-request-id").cloned()).collect();
    (std::fs::read_to_string(path).unwrap(), ids)
}

#[test]
fn a_log_has_a_line_for_each_request() {
    let place = Place::with(
        "name = \"line\"\n[data]\nsource = \"rows\"\ncolumns = [\"x\", \"z\", \"y\"]\nlabel = \"y\"\n\
         rows = [[1, 0, 2], [2, 1, 4], [3, 0, 6], [4, 2, 8]]\ntest = { rows = [[5, 1, 10], [6, 2, 12]] }\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 4\n",
    );
    place.json(&["train", "m.toml", "--out", "run"]);

    let (log, ids) = told(&place, &[]);
    assert_eq!((log.as_str(), ids), ("", vec![None; 5]), "nothing is told where nobody asks");

    let (log, ids) = told(&place, &["--log", "json"]);
    let lines: Vec<Json> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |target: &str| lines.iter().filter(|line| line["target"] == target).collect::<Vec<_>>();
    let requests = of("outgrow::request");
    assert_eq!(requests.len(), 5, "{log}");
    for (line, id) in requests.iter().zip(&ids) {
        assert_eq!(line["id"].as_str(), id.as_deref(), "{line}");
        assert!(line["time_ms"].as_f64().unwrap() >= 0.0 && line["timestamp"].is_string(), "{line}");
    }
    let [good, bad, nobody, unload, gone] = requests[..] else { panic!("{log}") };
    assert_eq!(
        (&good["id"], &good["level"], &good["status"]),
        (&json!("mine-7"), &json!("INFO"), &json!(200))
    );
    assert_eq!((&good["model"], &good["version"], &good["rows"]), (&json!("line"), &json!(1), &json!(2)));
    assert_eq!((&good["method"], &good["path"]), (&json!("POST"), &json!("/v2/models/line/infer")));
    assert!(good["infer_ms"].is_number() && good["queue_ms"].is_number() && good.get("error").is_none());
    assert_eq!((&bad["status"], &bad["model"]), (&json!(400), &json!("line")));
    assert!(bad["error"].as_str().unwrap().contains("JSON"), "{bad}");
    assert_eq!((&nobody["status"], nobody.get("model")), (&json!(404), None));
    assert_eq!(
        (&unload["status"], &gone["status"], &gone["level"]),
        (&json!(200), &json!(503), &json!("WARN"))
    );
    let models: Vec<_> = of("outgrow::model").iter().map(|line| line["message"].clone()).collect();
    assert_eq!(models, ["version is served", "version is let go"]);
    assert_eq!(of("outgrow::server").len(), 2, "{log}");

    let (log, _) = told(&place, &["--log", "text", "--log-level", "warn"]);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("WARN") && lines[0].contains("status=503"), "{log}");
}
