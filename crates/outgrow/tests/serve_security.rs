//! Who may ask a server for what: tokens with their scopes and limits, encrypted connections, and what is said of files
//! that do not do.
#![cfg(unix)]

mod common;

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::server::{Answer, Server, output, request};
use common::{Place, skipped};
use outgrow_tensor::Tensor;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value as Json, json};

const APP: &str = "app-0123456789abcdef";
const OPS: &str = "ops-0123456789abcdef";
const SMALL: &str = "small-0123456789abcdef";
const SLOW: &str = "slow-0123456789abcdef";

/// A model of two numbers, and a file of tokens.
fn place() -> Place {
    let place = Place::with(
        "name = \"line\"\n[data]\nsource = \"rows\"\ncolumns = [\"x\", \"z\", \"y\"]\nlabel = \"y\"\n\
         rows = [[1, 0, 2], [2, 1, 4], [3, 0, 6], [4, 2, 8]]\ntest = { rows = [[5, 1, 10], [6, 2, 12]] }\n\
         [model]\nname = \"linear\"\n[train]\nepochs = 1\nbatch = 4\n",
    );
    place.json(&["train", "m.toml", "--out", "run"]);
    let token = |name: &str, token: &str, rest: &str| {
        format!("[[tokens]]\nname = \"{name}\"\ntoken = \"{token}\"\n{rest}\n")
    };
    let tokens = [
        token("app", APP, "scopes = [\"infer\"]"),
        token("ops", OPS, "scopes = [\"admin\"]"),
        token("small", SMALL, "scopes = [\"infer\", \"admin\"]\nrequest_bytes_max = 200"),
        // One in a thousand seconds.
        token("slow", SLOW, "scopes = [\"infer\"]\nrequests_per_s_max = 0.001"),
    ];
    place.write("tokens.toml", tokens.concat());
    mode(&place, "tokens.toml", 0o600);
    place
}

fn mode(place: &Place, file: &str, mode: u32) {
    set_permissions(place.path(file), Permissions::from_mode(mode)).unwrap();
}

fn by(head: &str, token: &str) -> String {
    format!("{head} HTTP/1.1\r\nAuthorization: Bearer {token}")
}

/// Two rows, as the model takes them.
fn rows() -> (String, Vec<u8>) {
    let rows = Tensor::new([2, 2], vec![1f32, 2.0, 3.0, 4.0]).unwrap();
    ("POST /v2/models/line/infer".to_owned(), request("features", &rows).to_string().into_bytes())
}

fn said(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[test]
fn tokens_are_asked_for_and_good_for_their_scopes() {
    let place = place();
    let server = Server::start(&place, &["run", "--threads", "1", "--tokens", "tokens.toml"]);
    let mut client = server.client();
    let (infer, body) = rows();
    let load = "POST /v2/repository/models/line/load";
    // Health is open.
    for path in ["/v2/health/live", "/v2/health/ready", "/"] {
        assert_eq!(client.get(path).0, 200, "{path}");
    }
    // Nothing else is, and nothing is told of what there is.
    let asks = [
        "GET /v2",
        "GET /metrics",
        "GET /v2/models/line",
        "GET /v2/models/line/ready",
        "GET /v2/models/nothing",
        "GET /v2/models/stats",
        "GET /nowhere",
        "DELETE /v2",
        "GET /v1/models/line",
        "POST /v2/repository/index",
        "POST /v1/models/line:predict",
        load,
        "POST /v2/health/live",
        &infer,
    ];
    for ask in asks {
        let head = format!("{ask} HTTP/1.1");
        for (head, challenge) in [
            (head.clone(), "Bearer realm=\"outgrow\""),
            (format!("{head}\r\nAuthorization: Basic YTpi"), "Bearer realm=\"outgrow\""),
            (by(ask, "app-0123456789abcdeX"), "Bearer realm=\"outgrow\", error=\"invalid_token\""),
            (by(ask, &APP[..APP.len() - 1]), "Bearer realm=\"outgrow\", error=\"invalid_token\""),
        ] {
            let answer = client.ask(&head, &body);
            assert_eq!(
                (answer.status, answer.headers["www-authenticate"].as_str()),
                (401, challenge),
                "{ask}"
            );
            assert!(said(&answer).contains("Authorization: "), "{answer:?}");
        }
    }
    // A refusal waits for a body that comes soon, and not for a large one.
    let mut other = server.client();
    let answer = other.ask(&format!("{infer} HTTP/1.1"), &vec![b' '; 60_000]);
    assert_eq!((answer.status, answer.headers.get("connection")), (401, None));
    let claim = format!("{infer} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n");
    std::io::Write::write_all(other.stream(), claim.as_bytes()).unwrap();
    let answer = other.receive();
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (401, "close"));
    // What each token is good for.
    for (token, ask, status, scope) in [
        (APP, infer.as_str(), 200, None),
        (APP, "POST /v2/models/line/versions/1/infer", 200, None),
        (APP, "GET /v2/models/line", 200, None),
        (APP, "GET /metrics", 200, None),
        (APP, "GET /nowhere", 404, None),
        (APP, "DELETE /v2", 405, None),
        (APP, load, 403, Some("admin")),
        (APP, "POST /v2/repository/models/line/unload", 403, Some("admin")),
        (OPS, infer.as_str(), 403, Some("infer")),
        (OPS, "POST /v2/models/line/versions/1/infer", 403, Some("infer")),
        (OPS, "POST /v1/models/line:predict", 403, Some("infer")),
        (OPS, "POST /v1/models/line/versions/1:predict", 403, Some("infer")),
        (OPS, "POST /v2/repository/index", 200, None),
        (OPS, "GET /metrics", 200, None),
        (OPS, load, 200, None),
    ] {
        let body = if ask.contains("repository") { b"{}".as_slice() } else { &body };
        let answer = client.ask(&by(ask, token), body);
        assert_eq!(answer.status, status, "{token} {ask}: {answer:?}");
        if let Some(scope) = scope {
            let challenge = format!("error=\"insufficient_scope\", scope=\"{scope}\"");
            assert!(answer.headers["www-authenticate"].ends_with(&challenge), "{answer:?}");
            assert!(said(&answer).contains(&format!("a token with the scope `{scope}`")), "{answer:?}");
        }
    }
    let page = client.ask(&by("GET /metrics", APP), b"").body;
    let page = String::from_utf8(page).unwrap();
    for status in ["401", "403"] {
        assert!(page.contains(&format!("status=\"{status}\"")), "{page}");
    }
}

#[test]
fn a_tokens_limits_hold() {
    let place = place();
    let server = Server::start(&place, &["run", "--threads", "1", "--tokens", "tokens.toml"]);
    let mut client = server.client();
    let (infer, body) = rows();
    let small = br#"{"inputs":[{"name":"features","shape":[1,2],"datatype":"FP32","data":[1,2]}]}"#;
    assert!(small.len() <= 200);
    assert_eq!(client.ask(&by(&infer, SMALL), small).status, 200);
    // As it comes, said beforehand or not, and unpacked.
    let large = [body.clone(), vec![b' '; 200]].concat();
    let refused = |answer: &Answer| {
        assert_eq!(answer.status, 413, "{answer:?}");
        assert!(said(answer).contains("at most 200 bytes"), "{answer:?}");
    };
    refused(&server.client().ask(&by(&infer, SMALL), &large));
    let mut chunked = server.client();
    let head = format!("{}\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", by(&infer, SMALL));
    let chunks = [head.as_bytes(), b"190\r\n", &[b' '; 400], b"\r\n0\r\n\r\n"].concat();
    std::io::Write::write_all(chunked.stream(), &chunks).unwrap();
    refused(&chunked.receive());
    let blanks = [small.as_slice(), &[b' '; 400]].concat();
    let mut blank = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(blanks.as_slice(), flate2::Compression::best());
    std::io::Read::read_to_end(&mut encoder, &mut blank).unwrap();
    assert!(blank.len() <= 200);
    refused(&server.client().ask(&format!("{}\r\nContent-Encoding: gzip", by(&infer, SMALL)), &blank));
    let load = by("POST /v2/repository/models/line/load", SMALL);
    refused(&server.client().ask(&load, &[b' '; 201]));
    // Others' requests may be larger.
    assert_eq!(client.ask(&by(&infer, APP), &large).status, 200);
    // One in a thousand seconds, whatever it asks for; health does not count, and others go on.
    assert_eq!(client.ask(&by("GET /v2", SLOW), b"").status, 200);
    for ask in ["GET /v2", "GET /metrics", &infer] {
        let answer = client.ask(&by(ask, SLOW), &body);
        assert_eq!(answer.status, 429, "{answer:?}");
        let after: u64 = answer.headers["retry-after"].parse().unwrap();
        assert!((1..=1000).contains(&after), "{answer:?}");
        assert!(said(&answer).contains("at most 0.001 requests per second"), "{answer:?}");
        assert_eq!(client.ask(&by("GET /v2/health/live", SLOW), b"").status, 200);
        assert_eq!(client.ask(&by(ask, APP), &body).status, 200);
    }
}

/// A certificate of an authority for these names, written as `cert.pem` and `key.pem`; the authority's as `ca.pem`.
fn certify(place: &Place, names: &[&str]) -> Arc<ClientConfig> {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let mut server = CertificateParams::new(names).unwrap();
    // By the name that it has without one, which is the authority's, it would seem to have signed itself.
    server.distinguished_name.push(DnType::CommonName, "server");
    let certificate = server.signed_by(&key, &authority).unwrap();
    let pem = |kind: &str, der: &[u8]| {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
    };
    place.write("ca.pem", pem("CERTIFICATE", authority.der()));
    place.write("cert.pem", pem("CERTIFICATE", certificate.der()));
    place.write("key.pem", pem("PRIVATE KEY", &key.serialize_der()));
    mode(place, "key.pem", 0o600);
    trusting(authority.der())
}

fn trusting(authority: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

const TLS: [&str; 4] = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];

#[test]
fn encrypted_servers_answer_alike_and_end_without_loss() {
    let place = place();
    let config = certify(&place, &["models.example", "127.0.0.1"]);
    let plain = Server::start(&place, &["run", "--threads", "1"]);
    let mut server = Server::start(&place, &[&["run", "--threads", "1"], &TLS[..]].concat());
    let (infer, body) = rows();
    let head = format!("{infer} HTTP/1.1");
    let expect = plain.client().ask(&head, &body);
    for name in ["models.example", "127.0.0.1"] {
        let mut client = server.encrypted(&config, name);
        for _ in 0..3 {
            let answer = client.ask(&head, &body);
            assert_eq!((answer.status, answer.body), (200, expect.body.clone()));
        }
        let large = vec![b' '; 8 << 20];
        assert_eq!(client.ask("POST /nowhere HTTP/1.1", &large).status, 404);
    }
    // Another name, another authority, and no encryption at all: nothing is answered, and the server goes on.
    let other = certify(&Place::new(), &["models.example"]);
    for (config, name) in [(&config, "other.example"), (&other, "models.example")] {
        let mut client = server.encrypted(config, name);
        let error = std::io::Write::write_all(client.stream(), b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
    }
    let mut bare = server.client();
    std::io::Write::write_all(bare.stream(), b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let _ = std::io::Read::read_to_end(bare.stream(), &mut got);
    assert!(!got.starts_with(b"HTTP"), "{got:?}");
    // One that says nothing keeps nobody from being answered, nor the server from its end.
    let silent = server.client();
    assert_eq!(server.encrypted(&config, "127.0.0.1").get("/v2/health/live").0, 200);
    drop(silent);
    let mut last = server.encrypted(&config, "127.0.0.1");
    assert_eq!(last.get("/v2/health/ready").0, 200);
    server.terminate();
    last.send(&head, &body);
    let answer = last.receive();
    assert!([200, 503].contains(&answer.status), "{answer:?}");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn a_load_goes_over_encrypted_connections_by_a_token() {
    let place = place();
    certify(&place, &["127.0.0.1"]);
    let flags = [&["run", "--threads", "1", "--tokens", "tokens.toml"], &TLS[..]].concat();
    let server = Server::start(&place, &flags);
    let url = format!("https://{}", server.address());
    place.write("token", format!("{APP}\n"));
    place.write("ops", OPS);
    let always = ["bench", "serve", &url, "--warm-up", "0", "--seconds", "0.3", "--connections", "2"];
    for token in [["--token", APP], ["--token-file", "token"]] {
        let found = place.json(&[&always[..], &["--ca", "ca.pem"], &token].concat());
        assert_eq!((&found["url"], &found["errors"]), (&json!(url), &json!({})), "{found}");
        assert!(found["answered"].as_u64().unwrap() > 0, "{found}");
    }
    let (bare, other) = (format!("http://{}", server.address()), certify_other());
    let other = other.path("ca.pem").to_string_lossy().into_owned();
    place.write("none.pem", "nothing");
    for (flags, code, expect) in [
        (&["--ca", "ca.pem"][..], "bench.token", "401"),
        (&["--ca", "ca.pem", "--token", "x"], "bench.token", "401"),
        (&["--ca", "ca.pem", "--token-file", "ops"], "bench.request", "403"),
        (&["--ca", "ca.pem", "--token", "a b"], "bench.token", "no token"),
        (&["--ca", "ca.pem", "--token-file", "nothing"], "bench.token", "cannot be read"),
        (&["--token", APP], "bench.tls", "by whom"),
        (&["--token", APP, "--ca", "nothing"], "bench.tls", "cannot be read"),
        (&["--token", APP, "--ca", "none.pem"], "bench.tls", "no certificate"),
        (&["--token", APP, "--ca", &other], "bench.unreachable", "certificate"),
    ] {
        let errors = place.refused(&[&always[..], flags].concat());
        assert_eq!(errors[0]["code"], code, "{flags:?}: {errors:?}");
        assert!(errors[0]["problem"].as_str().unwrap().contains(expect), "{expect}: {errors:?}");
    }
    let errors = place.refused(&["bench", "serve", &bare, "--token", APP]);
    assert_eq!(errors[0]["code"], "bench.lost", "{errors:?}");
    let errors = place.refused(&["bench", "serve", &bare, "--token", APP, "--ca", "ca.pem"]);
    assert_eq!(errors[0]["code"], "bench.tls", "{errors:?}");
}

/// Another authority.
fn certify_other() -> Place {
    let place = Place::new();
    certify(&place, &["127.0.0.1"]);
    place
}

#[test]
fn files_that_do_not_do_are_told_of_before_anything_listens() {
    let place = place();
    certify(&place, &["127.0.0.1"]);
    place.write("other.pem", place.read("key.pem"));
    mode(&place, "other.pem", 0o644);
    place.write("cut.pem", &place.read("key.pem")[..60]);
    mode(&place, "cut.pem", 0o600);
    let (certificate, key) = (place.read("cert.pem"), place.read("key.pem"));
    certify(&place, &["127.0.0.1"]);
    place.write("new-key.pem", place.read("key.pem"));
    mode(&place, "new-key.pem", 0o600);
    place.write("cert.pem", certificate);
    place.write("key.pem", key);
    place.write("open.toml", place.read("tokens.toml"));
    mode(&place, "open.toml", 0o644);
    let digest = "3465f6e6975baa864ca957f0914ecda9bf7eb601ac31ac20a5dc3d329279a843";
    place.write(
        "digests.json",
        json!({ "tokens": [{ "name": "a", "sha256": digest, "scopes": ["infer"] }] }).to_string(),
    );
    mode(&place, "digests.json", 0o644);
    place.write(
        "bad.toml",
        "[[tokens]]\nname = \"a\"\ntoken = \"secret-secret-secret\nscopes = [\"infer\"]\n",
    );
    mode(&place, "bad.toml", 0o600);
    let tls =
        |certificate: &'static str, key: &'static str| vec!["--tls-cert", certificate, "--tls-key", key];
    for (flags, code, expect) in [
        (tls("nothing", "key.pem"), "serve.tls", "cannot be read"),
        (tls("cert.pem", "nothing"), "serve.tls", "cannot be read"),
        (tls("key.pem", "key.pem"), "serve.tls", "no certificate"),
        (tls("cert.pem", "cert.pem"), "serve.tls", "everybody on this machine"),
        (
            tls("cert.pem", "other.pem"),
            "serve.tls",
            "everybody on this machine may read or change it (mode 644)",
        ),
        (tls("cert.pem", "cut.pem"), "serve.tls", "the key cannot be read"),
        (tls("cert.pem", "new-key.pem"), "serve.tls", "cannot be used"),
        (vec!["--tokens", "nothing"], "serve.tokens", "cannot be read"),
        (
            vec!["--tokens", "open.toml"],
            "serve.tokens",
            "everybody on this machine may read or change it (mode 644)",
        ),
        (vec!["--tokens", "bad.toml"], "serve.tokens", ""),
        (vec!["--tokens", "m.toml"], "serve.tokens", ""),
    ] {
        let done = place.run(&[&["serve", "run", "--http", "127.0.0.1:0", "--json"], &flags[..]].concat());
        let errors = done.errors();
        assert_eq!(errors[0]["code"], code, "{flags:?}: {errors:?}");
        assert!(errors[0]["problem"].as_str().unwrap().contains(expect), "{expect}: {errors:?}");
        let named = errors[0]["file"].as_str();
        assert!(named.is_some_and(|file| flags.iter().any(|flag| file.ends_with(flag))), "{errors:?}");
        assert!(!done.stderr.contains("secret-secret"), "{}", done.stderr);
    }
    // Digests are nobody's secret.
    let server = Server::start(&place, &["run", "--threads", "1", "--tokens", "digests.json"]);
    let answer = server.client().ask(&by("GET /v2", "fedcba9876543210"), b"");
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn what_everybody_may_do_is_said_where_others_reach_it() {
    let place = place();
    certify(&place, &["127.0.0.1"]);
    let tokens = ["--tokens", "tokens.toml"];
    for (address, flags, expect) in [
        ("127.0.0.1:0", vec![], None),
        ("0.0.0.0:0", vec![], Some("may ask every model, load and unload them, and read on the way")),
        ("0.0.0.0:0", TLS.to_vec(), Some("may ask every model, load and unload them: `--tokens FILE`")),
        ("0.0.0.0:0", tokens.to_vec(), Some("may read tokens and answers: `--tls-cert FILE")),
        ("0.0.0.0:0", [&tokens[..], &TLS].concat(), None),
    ] {
        let args = [&["serve", "run", "--http", address, "--json", "--threads", "1"], &flags[..]].concat();
        let mut command = place.command(&args);
        let mut child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let told: Json = serde_json::from_str(&line).unwrap();
        assert!(told["http"].is_string(), "{told}");
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(stderr.contains("warning: "), expect.is_some(), "{address} {flags:?}: {stderr}");
        assert!(stderr.contains(expect.unwrap_or_default()), "{address} {flags:?}: {stderr}");
    }
}

#[test]
fn curl_asks_an_encrypted_server_by_a_token() {
    let place = place();
    certify(&place, &["127.0.0.1"]);
    let flags = [&["run", "--threads", "1", "--tokens", "tokens.toml"], &TLS[..]].concat();
    let server = Server::start(&place, &flags);
    let (_, body) = rows();
    place.write("body.json", &body);
    let url = format!("https://{}/v2/models/line/infer", server.address());
    let mut curl = std::process::Command::new("curl");
    curl.current_dir(place.path("")).args(["-sS", "--cacert", "ca.pem", "--oauth2-bearer", APP]);
    let Ok(done) = curl.args(["--json", "@body.json", &url]).output() else {
        return skipped("there is no curl");
    };
    let answer: Json = serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:?}"));
    assert_eq!(output(&answer).len(), 2, "{answer}");
}
