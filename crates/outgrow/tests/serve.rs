//! `outgrow serve` as clients meet it: a real process, real connections, the numbers of `infer` and `predict` to the last
//! bit in whatever batch they were made, a helpful word for everything that is wrong, and an end without loss.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use common::server::{Client, Server, bits, output, request, values};
use common::{Place, finish, real_data};
use outgrow_data::source::glyphs::{SIZE, glyph};
use outgrow_env::{LocalStorage, StorageBackend};
use outgrow_predict::{Model, ModelOptions, argmax};
use outgrow_runtime::{CpuBackend, Products, ThreadPool};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::Value;
use serde_json::{Value as Json, json};

/// Some rows of a tensor.
fn some(tensor: &Tensor, first: usize, count: usize) -> Tensor {
    let dims = tensor.shape().dims();
    let row = tensor.elements() / dims[0];
    let data = values(tensor)[first * row..(first + count) * row].to_vec();
    Tensor::new([&[count], &dims[1..]].concat(), data).unwrap()
}

fn opened(place: &Place, run: &str) -> Model {
    let storage: Arc<dyn StorageBackend> = Arc::new(LocalStorage::new());
    let backend = Arc::new(CpuBackend::new(Arc::new(ThreadPool::new(2))));
    Model::open(
        &storage,
        &place.path(run),
        ModelOptions { backend, memory: None, narrow: false, products: Products::F32 },
    )
    .unwrap()
}

/// A small model of glyphs, and images for it as it takes them.
fn trained() -> (Place, Tensor) {
    let place = Place::with(
        "name = \"glyphs\"\n[data]\nsource = \"synthetic:glyphs\"\nsamples = 200\ntest = { samples = 20 }\n\
         [model]\nlayers = [{ conv = 4, kernel = 3 }, { flatten = true }, { dense = 10, activation = \"softmax\" }]\n\
         [train]\nepochs = 1\nbatch = 20\nlr = 0.01\n",
    );
    place.json(&["train", "m.toml", "--out", "run"]);
    let pixels: Vec<f32> = (0..100).flat_map(|i| glyph(5, i).0).map(|p| f32::from(p) / 255.0).collect();
    (place, Tensor::new([100, 1, SIZE, SIZE], pixels).unwrap())
}

#[test]
fn clients_get_the_bits_of_infer_in_whatever_batch() {
    let (place, images) = trained();
    let model = opened(&place, "run");
    let expect = model.run(std::slice::from_ref(&images), &[0]).unwrap().remove(0);
    let expect = bits(values(&expect));
    let server = Server::start(&place, &["run", "other=run", "--threads", "2"]);
    let mut client = server.client();
    assert_eq!(client.get("/v2/health/live"), (200, json!({ "live": true })));
    assert_eq!(client.get("/v2/health/ready"), (200, json!({ "ready": true })));
    let (status, said) = client.get("/v2");
    assert_eq!((status, &said["name"]), (200, &json!("outgrow")));
    assert!(said["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    for path in ["/v2/models/glyphs", "/v2/models/glyphs/versions/1"] {
        let (status, said) = client.get(path);
        assert_eq!((status, &said["name"], &said["versions"]), (200, &json!("glyphs"), &json!(["1"])));
        assert_eq!(
            said["inputs"],
            json!([{ "name": "image", "datatype": "FP32", "shape": [-1, 1, SIZE, SIZE] }])
        );
        assert_eq!(said["outputs"][0]["shape"], json!([-1, 10]));
        assert_eq!(client.get(&format!("{path}/ready")), (200, json!({ "name": "glyphs", "ready": true })));
    }
    // In JSON, all at once: more rows than run at a time.
    let (status, answer) = client.infer("glyphs", &request("image", &images));
    assert_eq!((status, &answer["id"], &answer["model_name"]), (200, &json!("7"), &json!("glyphs")));
    assert_eq!(answer["outputs"][0]["shape"], json!([100, 10]));
    assert_eq!(bits(&output(&answer)), expect);
    // As binary data, by another name, with a version.
    let head = json!({
        "inputs": [{ "name": "image", "shape": [100, 1, SIZE, SIZE], "datatype": "FP32", "parameters": { "binary_data_size": images.bytes() } }],
        "parameters": { "binary_data_output": true, "triton_enable_empty_final_response": true },
    }).to_string();
    let body = [head.as_bytes(), &images.le_bytes()].concat();
    let length = format!("Inference-Header-Content-Length: {}", head.len());
    let answer = client.ask(&format!("POST /v2/models/other/versions/1/infer HTTP/1.1\r\n{length}"), &body);
    assert_eq!(answer.status, 200);
    let json_length: usize = answer.headers["inference-header-content-length"].parse().unwrap();
    let got: Vec<u8> = expect.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(answer.body[json_length..], got);
    // Many clients at once, who share batches as it happens.
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (server, images, expect) = (&server, &images, &expect);
            scope.spawn(move || {
                let mut client = server.client();
                for i in 0..25 {
                    let (count, first) = ([1, 1, 2, 7][i % 4], (thread * 31 + i * 17) % 93);
                    let (status, answer) =
                        client.infer("glyphs", &request("image", &some(images, first, count)));
                    assert_eq!(status, 200, "{answer}");
                    assert_eq!(bits(&output(&answer)), expect[10 * first..10 * (first + count)]);
                }
            });
        }
    });
}

#[test]
fn the_description_is_served_and_printed() {
    let (place, _) = trained();
    let printed = place.json(&["serve", "--openapi"]);
    assert_eq!(printed["openapi"], "3.1.0");
    let server = Server::start(&place, &["run", "--threads", "1"]);
    assert_eq!(server.client().get("/openapi.json"), (200, printed));
}

#[test]
fn what_is_wrong_is_said_and_the_server_goes_on() {
    let (place, images) = trained();
    let server = Server::start(&place, &["run", "--threads", "1"]);
    let mut client = server.client();
    let one = request("image", &some(&images, 0, 1));
    let changed = |path: &str, value: Json| {
        let mut request = one.clone();
        *request.pointer_mut(path).unwrap() = value;
        request
    };
    for (request, expect) in [
        (changed("/inputs/0/name", json!("x")), "inputs[0].name: the model `glyphs` has no input `x`"),
        (changed("/inputs/0/name", json!("x")), "the input `image` is missing"),
        (changed("/inputs/0/shape", json!([1, 2])), "inputs[0].data: there are 784 elements"),
        (
            changed("/inputs/0/shape", json!([SIZE, 1, 1, SIZE])),
            "inputs[0]: the array for `image` is f32[28, 1, 1, 28]",
        ),
        (changed("/inputs/0/datatype", json!("FP64")), "inputs[0]: the array for `image` is f64"),
        (changed("/inputs/0/datatype", json!("INT64")), "inputs[0].data: element"),
        (changed("/inputs", json!([])), "inputs: the input `image` is missing"),
        (json!({ "inputs": one["inputs"], "outputs": [{ "name": "q" }] }), "outputs[0].name: "),
        (json!([]), "body: "),
    ] {
        let (status, answer) = client.infer("glyphs", &request);
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(expect), "{expect}: {answer}");
    }
    for (head, status) in [
        ("GET /v2/models/nothing HTTP/1.1", 404),
        ("GET /v2/models/glyphs/versions/2 HTTP/1.1", 404),
        ("POST /v2/models/nothing/infer HTTP/1.1", 404),
        ("GET /v2/models/glyphs/infer HTTP/1.1", 405),
        ("DELETE /v2 HTTP/1.1", 405),
        ("GET /nowhere HTTP/1.1", 404),
        ("POST /v1/models/glyphs HTTP/1.1", 404),
        ("POST /v1/models/glyphs:explain HTTP/1.1", 404),
        ("POST /v1/models/nothing:predict HTTP/1.1", 404),
        ("POST /v1/models/glyphs:predict HTTP/1.1", 400),
        ("GET /v1/models/nothing HTTP/1.1", 404),
        ("POST /v2/models/glyphs.raw/infer HTTP/1.1\r\nInference-Header-Content-Length: 0", 400),
        ("GET /v2/models/.raw HTTP/1.1", 404),
        ("POST /v2/repository/models/glyphs.raw/load HTTP/1.1", 404),
        ("GET /v2/models/%2e%2e%2fx HTTP/1.1", 404),
        ("GET /v2/models/%ff HTTP/1.1", 400),
        ("POST /v2/models/glyphs/infer HTTP/1.1\r\nContent-Encoding: br", 415),
        ("POST /v2/models/glyphs/infer HTTP/1.1\r\nContent-Encoding: gzip", 400),
        ("POST /v2/models/glyphs/infer HTTP/1.1\r\nContent-Encoding: deflate", 400),
        ("POST /v2/models/glyphs/infer HTTP/1.1\r\nInference-Header-Content-Length: 99999999999", 400),
        ("POST /v2/models/glyphs/infer HTTP/1.1\r\nInference-Header-Content-Length: 0", 400),
        ("GET /v2/models/nothing/config HTTP/1.1", 404),
        ("GET /v2/models/glyphs/versions/2/stats HTTP/1.1", 404),
        ("POST /v2/repository/models/nothing/load HTTP/1.1", 404),
        ("POST /v2/repository/models/%2e%2e%2fx/load HTTP/1.1", 404),
        ("POST /v2/repository/models/..%2f..%2fetc/unload HTTP/1.1", 404),
        ("GET /v2/repository/index HTTP/1.1", 405),
    ] {
        let answer = client.ask(head, b"{}");
        assert_eq!(answer.status, status, "{head}");
        assert!(answer.json()["error"].is_string(), "{head}: {answer:?}");
    }
    // A refusal comes once all of the body has, so that the connection is good for the next request.
    let large = vec![b' '; 8 << 20];
    for path in ["/v2/models/nothing/infer", "/v2/models/glyphs/versions/2/infer", "/nowhere", "/v2"] {
        let answer = client.ask(&format!("POST {path} HTTP/1.1"), &large);
        assert!([404, 405].contains(&answer.status), "{path}: {answer:?}");
    }
    // A request whose time is too short by far is refused at once, with when to come back.
    let mut hasty = one.clone();
    hasty["parameters"] = json!({ "timeout": 1 });
    let head = "POST /v2/models/glyphs/infer HTTP/1.1";
    let answer = client.ask(head, hasty.to_string().as_bytes());
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "1"));
    // Heads and bodies without end, and clients that go away in the middle, cost the server nothing but themselves.
    let mut huge = server.client();
    let _ =
        huge.stream().write_all(format!("GET /v2 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
    assert_eq!(huge.receive().status, 431);
    let mut huge = server.client();
    let claim = format!("{head}\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
    huge.stream().write_all(claim.as_bytes()).unwrap();
    assert_eq!(huge.receive().status, 413);
    for _ in 0..50 {
        let mut gone = server.client();
        gone.send(head, one.to_string().as_bytes());
        drop(gone);
        let claim = format!("{head}\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{");
        server.client().stream().write_all(claim.as_bytes()).unwrap();
    }
    assert_eq!(client.infer("glyphs", &one).0, 200);
}

#[test]
fn bodies_are_packed_as_clients_like_them_and_bombs_do_not_go_off() {
    let (place, images) = trained();
    let server = Server::start(&place, &["run", "--threads", "1"]);
    let mut client = server.client();
    let plain = request("image", &images).to_string();
    let head = "POST /v2/models/glyphs/infer HTTP/1.1";
    let expect = client.ask(head, plain.as_bytes());
    assert_eq!((expect.status, expect.headers.get("content-encoding")), (200, None));
    let level = flate2::Compression::default();
    let gzip = read(flate2::read::GzEncoder::new(plain.as_bytes(), level));
    let zlib = read(flate2::read::ZlibEncoder::new(plain.as_bytes(), level));
    for (name, body) in [("gzip", gzip), ("deflate", zlib)] {
        let codings = format!("{head}\r\nContent-Encoding: {name}\r\nAccept-Encoding: br, {name}");
        let answer = client.ask(&codings, &body);
        assert_eq!((answer.status, answer.headers["content-encoding"].as_str()), (200, name));
        let unpacked = match name {
            "gzip" => read(flate2::read::GzDecoder::new(answer.body.as_slice())),
            _ => read(flate2::read::ZlibDecoder::new(answer.body.as_slice())),
        };
        assert_eq!(unpacked, expect.body);
    }
    // A gigabyte of blanks, in a megabyte.
    let blanks = std::io::repeat(b' ').take(1 << 30);
    let bomb = read(flate2::read::GzEncoder::new(blanks, flate2::Compression::fast()));
    let (before, path) = (memory_kib(&server), "POST /v2/repository/index HTTP/1.1");
    for head in [head, path, "POST /v2/repository/models/glyphs/load HTTP/1.1"] {
        let answer = server.client().ask(&format!("{head}\r\nContent-Encoding: gzip"), &bomb);
        assert_eq!(answer.status, 413, "{answer:?}");
    }
    assert!(memory_kib(&server) < before + (256 << 10), "{before} KiB before");
    // A body that is nothing but the one tensor that the model takes.
    let answer = client.ask(&format!("{head}\r\nInference-Header-Content-Length: 0"), &images.le_bytes());
    assert_eq!((answer.status, bits(&output(&answer.json()))), (200, bits(&output(&expect.json()))));
}

fn read(mut reader: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).map(|_| bytes).unwrap()
}

/// The memory that a server has taken at most.
fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn models_are_counted_configured_unloaded_and_loaded_again() {
    let (place, images) = trained();
    let server = Server::start(&place, &["run", "--threads", "2"]);
    let mut client = server.client();
    let one = request("image", &some(&images, 0, 3));
    let expect = client.infer("glyphs", &one);
    assert_eq!(expect.0, 200);
    assert_eq!(client.infer("glyphs", &json!({ "inputs": [] })).0, 400);
    let (_, config) = client.get("/v2/models/glyphs/config");
    assert_eq!((&config["max_batch_size"], &config["instance_group"][0]["count"]), (&json!(64), &json!(2)));
    let dims = json!([{ "name": "image", "data_type": "TYPE_FP32", "dims": [1, SIZE, SIZE] }]);
    assert_eq!((&config["input"], &config["output"][0]["dims"]), (&dims, &json!([10])));
    for path in ["/v2/models/stats", "/v2/models/glyphs/stats", "/v2/models/glyphs/versions/1/stats"] {
        let (status, stats) = client.get(path);
        let stats = &stats["model_stats"][0];
        assert_eq!((status, &stats["name"], &stats["version"]), (200, &json!("glyphs"), &json!("1")));
        assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(3), &json!(1)));
        let counts = &stats["inference_stats"];
        assert_eq!((&counts["success"]["count"], &counts["fail"]["count"]), (&json!(1), &json!(1)));
        assert!(counts["success"]["ns"].as_u64() > counts["compute_infer"]["ns"].as_u64());
        assert_eq!(stats["batch_stats"][0]["batch_size"], 4, "filled up to a power of two: {stats}");
    }
    client.infer("nothing", &one);
    let page = client.ask("GET /metrics HTTP/1.1", b"");
    assert!(page.headers["content-type"].starts_with("text/plain; version=0.0.4"), "{page:?}");
    let page = String::from_utf8(page.body).unwrap();
    for line in [
        "outgrow_requests_total{model=\"glyphs\",version=\"1\",status=\"200\"} 1",
        "outgrow_requests_total{model=\"glyphs\",version=\"1\",status=\"400\"} 1",
        "outgrow_requests_total{model=\"\",version=\"\",status=\"404\"} 1",
        "outgrow_request_seconds_count{model=\"glyphs\",version=\"1\"} 2",
        "outgrow_compute_seconds_bucket{model=\"glyphs\",version=\"1\",le=\"+Inf\"} 1",
        "outgrow_batch_rows_bucket{model=\"glyphs\",version=\"1\",le=\"2\"} 0",
        "outgrow_batch_rows_bucket{model=\"glyphs\",version=\"1\",le=\"4\"} 1",
        "outgrow_waiting_requests 0",
    ] {
        assert!(page.lines().any(|there| there == line), "{line} is not in\n{page}");
    }
    let mut post = |path: &str, body: &str| {
        let answer = client.ask(&format!("POST /v2/repository/{path} HTTP/1.1"), body.as_bytes());
        (answer.status, answer.json())
    };
    let entry = |state: &str, reason: &str| json!([{ "name": "glyphs", "version": "1", "state": state, "reason": reason }]);
    let raw = json!({ "name": "glyphs.raw", "version": "1", "state": "READY", "reason": "" });
    assert_eq!(post("index", ""), (200, json!([entry("READY", "")[0], raw])));
    assert_eq!(post("models/glyphs/unload", "{\"parameters\":{\"unload_dependents\":true}}").0, 200);
    assert_eq!(post("index", "{}"), (200, entry("UNAVAILABLE", "unloaded")));
    assert_eq!(post("index", "{\"ready\":true}"), (200, json!([])));
    let mapped = || std::fs::read_to_string(format!("/proc/{}/maps", server.id())).unwrap();
    assert!(!mapped().contains("weights.safetensors"), "the weights are not held any more");
    let (status, answer) = server.client().infer("glyphs", &one);
    assert_eq!((status, answer["error"].as_str().unwrap().contains("unloaded")), (503, true), "{answer}");
    assert_eq!(server.client().get("/v2/models/glyphs/ready").0, 503);
    assert_eq!(server.client().get("/v2/health/ready").0, 200);
    assert_eq!(post("models/glyphs/load", "").0, 200);
    assert!(mapped().contains("weights.safetensors"));
    assert_eq!(server.client().infer("glyphs", &one), expect);
    for (path, body, status) in [
        ("models/glyphs/load", "{\"parameters\":{\"config\":\"{}x\"}}", 400),
        ("models/glyphs/load", "{\"parameters\":{\"file:1/model.onnx\":\"AA==\"}}", 400),
        ("models/glyphs/load", "[", 400),
        ("index", "{\"ready\":3}", 400),
    ] {
        assert_eq!(post(path, body).0, status, "{path} {body}");
    }
    // What has become bad is refused, and what is served goes on.
    let weights = place.path("run/model/weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    // As whoever replaces a file: what is mapped of the old one stays.
    std::fs::remove_file(&weights).unwrap();
    std::fs::write(&weights, bytes).unwrap();
    let (status, answer) = post("models/glyphs/load", "");
    assert_eq!(status, 400, "{answer}");
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("version 1 of `glyphs`: weights.safetensors: its checksum")
    );
    let (_, index) = post("index", "");
    assert_eq!(index[0]["state"], "READY");
    assert!(index[0]["reason"].as_str().unwrap().contains("its checksum differs"), "{index}");
    assert_eq!(server.client().infer("glyphs", &one), expect);
}

#[test]
fn on_sigterm_what_is_in_is_answered() {
    let (place, images) = trained();
    let mut server = Server::start(&place, &["run", "--threads", "1"]);
    let all = request("image", &images);
    // An idle connection does not hold the end up.
    let idle = server.client();
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send("POST /v2/models/glyphs/infer HTTP/1.1", all.to_string().as_bytes());
    }
    // The first answer says that requests are in; the others are behind it or refused as such.
    let first = clients[0].receive();
    server.terminate();
    let mut statuses = vec![first.status];
    statuses.extend(clients[1..].iter_mut().map(|client| client.receive().status));
    assert_eq!(statuses[0], 200);
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    drop((idle, clients));
    assert_eq!(server.wait(), Some(0));
    assert!(TcpStream::connect(server.address()).is_err(), "nobody listens any more");
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let (place, _) = trained();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, code) in [
        (&["none"][..], "predict.no-model"),
        (&["run", "run"], "serve.name"),
        (&["a/b=run"], "serve.name"),
        (&["a.raw=run"], "serve.name"),
        (&["stats=run"], "serve.name"),
        (&["run", "--latency-ms-max", "0"], "option.time"),
        (&["run", "--watch", "nan"], "option.time"),
        (&["run", "--weight", "glyphs=0"], "serve.option"),
        (&["run", "--weight", "2"], "serve.option"),
        (&["run", "--priority", "glyphs=-1"], "serve.option"),
        (&["run", "--priority", "digits=2"], "serve.option"),
        (&["run", "--http", "nowhere"], "serve.listen"),
        (&["run", "--http", &taken], "serve.listen"),
        (&["run", "--grpc", &taken], if cfg!(feature = "grpc") { "serve.listen" } else { "serve.grpc" }),
    ] {
        let errors = place.refused(&[&["serve"], args].concat());
        assert_eq!(errors[0]["code"], code, "{args:?}: {errors:?}");
    }
}

fn png(pixels: &[u8], side: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side as u32, (pixels.len() / side) as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(pixels).unwrap();
    file
}

/// What the raw form of a model answers to records, which are sent as binary data.
fn raw(client: &mut Client, model: &str, records: &[Vec<u8>]) -> Vec<f32> {
    let data: Vec<u8> = records
        .iter()
        .flat_map(|record| [&(record.len() as u32).to_le_bytes()[..], record].concat())
        .collect();
    let head = json!({ "inputs": [{ "name": "raw", "shape": [records.len()], "datatype": "BYTES", "parameters": { "binary_data_size": data.len() } }] });
    let head = head.to_string();
    let length = format!("Inference-Header-Content-Length: {}", head.len());
    let path = format!("POST /v2/models/{model}.raw/infer HTTP/1.1\r\n{length}");
    let answer = client.ask(&path, &[head.as_bytes(), &data].concat());
    assert_eq!(answer.status, 200, "{answer:?}");
    output(&answer.json())
}

/// A table, sent as people have it: objects and lines of text, to the raw form and in plain JSON, with the answers that
/// `predict` gives.
#[test]
fn raw_records_are_answered_as_predict_answers_them() {
    let place = Place::with(
        "name = \"trees\"\n[data]\nsource = \"csv\"\nfiles = \"t.csv\"\nlabel = \"kind\"\n\
         clean = [{ fill = { columns = \"text\", value = \"none\" } }, { one_hot = { columns = \"text\" } }]\n\
         normalize = \"standard\"\nsplit = { validation = 0 }\n\
         [model]\nlayers = [{ dense = 2 }]\n[train]\nepochs = 3\nbatch = 8\nlr = 0.1\n",
    );
    let row = |i: usize| (i * 7 % 23, ["oak", "fir"][i % 2], i % 2);
    let lines = (0..64).map(row).map(|(height, bark, kind)| format!("{height}.5,{bark},{kind}\n"));
    place.write("t.csv", format!("height,bark,kind\n{}", lines.collect::<String>()));
    place.json(&["train", "m.toml", "--out", "run"]);
    let records: Vec<Json> = (0..9)
        .map(row)
        .map(|(height, bark, _)| json!({ "height": height as f64 + 0.5, "bark": bark }))
        .collect();
    let texts: Vec<String> = records.iter().map(Json::to_string).collect();
    place.write("r.jsonl", texts.join("\n"));
    let expect = place.json(&["predict", "run", "r.jsonl"]);
    let fields = ["class", "probability", "probabilities"];
    let of = |answers: &Json| -> Vec<Json> {
        let answers = answers.as_array().unwrap_or_else(|| panic!("{answers}"));
        answers.iter().map(|one| fields.map(|field| one[field].clone()).into_iter().collect()).collect()
    };
    let expect = of(&expect["predictions"]);
    let server = Server::start(&place, &["run", "--threads", "1"]);
    let mut client = server.client();
    let mut post = |path: &str, body: &Json| {
        let answer = client.ask(&format!("POST {path} HTTP/1.1"), body.to_string().as_bytes());
        (answer.status, answer.json())
    };
    for path in
        ["/v1/models/trees:predict", "/v1/models/trees.raw:predict", "/v1/models/trees/versions/1:predict"]
    {
        for instances in [json!(records), json!(texts)] {
            let (status, answer) = post(path, &json!({ "instances": instances }));
            assert_eq!(status, 200, "{path}: {answer}");
            assert_eq!(of(&answer["predictions"]), expect, "{path}");
        }
    }
    let (status, answer) = post("/v1/models/trees:predict", &json!({ "inputs": records[3] }));
    assert_eq!((status, &of(&answer["outputs"])[0]), (200, &expect[3]), "{answer}");
    // By the protocol: the numbers from which these follow, as the typed form gives them in plain JSON.
    let bytes = |data: Json| json!({ "inputs": [{ "name": "raw", "shape": [9], "datatype": "BYTES", "data": data }] });
    let (status, raw) = post("/v2/models/trees.raw/infer", &bytes(json!(texts)));
    assert_eq!(
        (status, &raw["model_name"], &raw["outputs"][0]["shape"]),
        (200, &json!("trees.raw"), &json!([9, 2]))
    );
    let lines: Vec<String> =
        records.iter().map(|r| format!("{},{}", r["height"], r["bark"].as_str().unwrap())).collect();
    assert_eq!(post("/v2/models/trees.raw/infer", &bytes(json!(lines))).1["outputs"], raw["outputs"]);
    let interpretation = opened(&place, "run");
    let parsed = interpretation.interpretation().unwrap().reader();
    let parsed: Vec<_> = parsed.bytes(texts.join("\n").into()).unwrap().collect::<Result<_, _>>().unwrap();
    let arrays = interpretation.arrays(&parsed).unwrap();
    let name = interpretation.inputs()[0].name.clone();
    let width = arrays[0].elements() / 9;
    let rows: Vec<&[f32]> = values(&arrays[0]).chunks(width).collect();
    let named: Vec<Json> = rows.iter().map(|row| json!({ &name: row })).collect();
    let numbers = output(&raw);
    let flat = |answer: &Json| -> Vec<f32> {
        let rows = answer.as_array().unwrap_or_else(|| panic!("{answer}")).iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|x| x.to_string().parse().unwrap()).collect()
    };
    for (body, key) in [
        (json!({ "instances": rows }), "predictions"),
        (json!({ "instances": named }), "predictions"),
        (json!({ "inputs": rows }), "outputs"),
        (json!({ "inputs": { &name: rows } }), "outputs"),
    ] {
        let (status, answer) = post("/v1/models/trees:predict", &body);
        assert_eq!((status, bits(&flat(&answer[key]))), (200, bits(&numbers)), "{body}: {answer}");
    }
    for (path, body, expect) in [
        ("/v1/models/trees:predict", json!({}), "body: there is not one of"),
        ("/v1/models/trees:predict", json!({ "instances": [1], "inputs": [1] }), "body: there is not one of"),
        ("/v1/models/trees:predict", json!({ "instances": 5 }), "instances: is no array"),
        ("/v1/models/trees:predict", json!({ "instances": [] }), "instances: the array for"),
        ("/v1/models/trees:predict", json!({ "instances": [[1.0]] }), "instances: the array for"),
        (
            "/v1/models/trees:predict",
            json!({ "instances": [{ "height": "x", "bark": "oak" }] }),
            "instances[0]: `height`",
        ),
        ("/v1/models/trees:predict", json!({ "instances": ["2,oak", "{\"height\":1"] }), "instances[1]: "),
        ("/v1/models/trees.raw:predict", json!({ "instances": [[1.0]] }), "instances[0]: is no record"),
        ("/v1/models/trees.raw:predict", json!({ "instances": [{ "b64": "?" }] }), "instances[0].b64: "),
        ("/v2/models/trees.raw/infer", bytes(json!(["1,oak"])), "inputs[0].data: there are 1 elements"),
        ("/v2/models/trees/infer", bytes(json!(texts)), "inputs: the input"),
        ("/v2/models/trees.raw/infer", json!({ "inputs": [] }), "inputs: there are 0 inputs"),
    ] {
        let (status, answer) = post(path, &body);
        let said = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && said.contains(expect), "{body}: {expect}: {answer}");
    }
    let (status, said) = client.get("/v1/models/trees");
    assert_eq!(
        (status, &said["ready"], &said["model_version_status"][0]["version"]),
        (200, &json!(true), &json!("1"))
    );
}

/// ResNet-18 on JPEG files as CIFAR-10 ships them: the bits that evaluation would work with.
#[test]
fn cifar_is_served_from_its_jpeg_files() {
    let Some(data) = real_data("cifar10") else { return };
    let place = Place::new();
    let example =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cifar10-resnet18.toml");
    let sets = [
        "data.files=\"cifar10/test-*.parquet\"",
        "data.test=",
        "data.split={ validation = 0.0 }",
        "train.batch=4",
        "train.epochs=",
        "train.steps=2",
    ];
    let mut args = vec!["train", example.to_str().unwrap(), "--json", "--out", "run"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    finish(place.command(&args).env("OUTGROW_DATA", &data), "train").object();
    let storage: Arc<dyn StorageBackend> = Arc::new(LocalStorage::new());
    let model = opened(&place, "run");
    let reader = model.interpretation().unwrap().reader();
    let file = data.join("cifar10/test-00000-of-00001.parquet");
    let records = reader.file(&storage, &file).unwrap().take(48).collect::<Result<Vec<_>, _>>().unwrap();
    let expect = model.run(&model.arrays(&records).unwrap(), &[0]).unwrap().remove(0);
    let jpegs = records.iter().map(|record| {
        let encoded = record.values.iter().find_map(|value| match value {
            Value::Encoded(bytes) => Some(bytes.clone()),
            _ => None,
        });
        encoded.filter(|bytes| bytes.starts_with(&[0xff, 0xd8, 0xff])).expect("a JPEG file")
    });
    let jpegs: Vec<Vec<u8>> = jpegs.collect();
    let server = Server::start(&place, &["resnet=run", "--threads", "2"]);
    let mut client = server.client();
    let served: Vec<f32> = [1, 2, 5, 40]
        .iter()
        .scan(0, |first, count| {
            *first += count;
            Some(raw(&mut client, "resnet", &jpegs[*first - count..*first]))
        })
        .flatten()
        .collect();
    assert_eq!(bits(&served), bits(values(&expect)));
    // In plain JSON, and one as a body of nothing else.
    let b64: Vec<Json> = jpegs[..2].iter().map(|jpeg| json!({ "b64": base64(jpeg) })).collect();
    let body = json!({ "instances": b64 }).to_string();
    let answer = client.ask("POST /v1/models/resnet:predict HTTP/1.1", body.as_bytes());
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    for (i, logits) in values(&expect).chunks(10).take(2).enumerate() {
        assert_eq!(answer.json()["predictions"][i]["class"], classes[argmax(logits)], "{answer:?}");
    }
    let head = "POST /v2/models/resnet.raw/infer HTTP/1.1\r\nInference-Header-Content-Length: 0";
    assert_eq!(bits(&output(&client.ask(head, &jpegs[0]).json())), bits(&values(&expect)[..10]));
    assert_eq!(client.ask(head, &jpegs[0][..100]).status, 400);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// LeNet on all of MNIST's test images: what clients are answered is what the run's own evaluation found.
#[test]
fn mnist_is_served_as_it_is_evaluated() {
    let Some(data) = real_data("mnist") else { return };
    let place = Place::new();
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/mnist-lenet.toml");
    let sets = [
        "data.images=\"mnist/t10k-images-idx3-ubyte.gz\"",
        "data.labels=\"mnist/t10k-labels-idx1-ubyte.gz\"",
        "data.split={ validation = 0.0 }",
        "train.epochs=1",
    ];
    let mut args = vec!["run", example.to_str().unwrap(), "--json", "--out", "run"];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    let result = finish(place.command(&args).env("OUTGROW_DATA", &data), "run").object();
    // The images as arrays, through the transform that the model was trained with.
    let storage: Arc<dyn StorageBackend> = Arc::new(LocalStorage::new());
    let model = opened(&place, "run");
    let interpretation = model.interpretation().unwrap();
    let file = data.join("mnist/t10k-images-idx3-ubyte.gz");
    let reader = interpretation.reader();
    let records = reader.file(&storage, &file).unwrap();
    let records: Vec<_> = records.collect::<Result<_, _>>().unwrap();
    let images = interpretation.transform().apply(&records).unwrap().inputs.remove(0);
    assert_eq!((images.dtype(), images.shape().dims()[0]), (DType::F32, 10_000));
    let expect = model.run(std::slice::from_ref(&images), &[0]).unwrap().remove(0);
    let port = &model.inputs()[0].name;

    let server = Server::start(&place, &["lenet=run"]);
    let served: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let ask = |part: usize| {
            let (server, images) = (&server, &images);
            move || {
                let mut client = server.client();
                let mut numbers = Vec::new();
                let mut first = part * 2500;
                while first < (part + 1) * 2500 {
                    let count = [1, 3, 50, 100][first % 4].min((part + 1) * 2500 - first);
                    let (status, answer) = client.infer("lenet", &request(port, &some(images, first, count)));
                    assert_eq!(status, 200, "{answer}");
                    numbers.extend(output(&answer));
                    first += count;
                }
                numbers
            }
        };
        let started: Vec<_> = (0..4).map(|part| scope.spawn(ask(part))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served = served.concat();
    assert_eq!(bits(&served), bits(values(&expect)));
    // The same images as PNG files.
    let pngs = records.iter().map(|record| match &record.values[0] {
        Value::Pixels(pixels) => png(&pixels.data, pixels.width),
        other => panic!("{other:?}"),
    });
    let pngs: Vec<Vec<u8>> = pngs.collect();
    let mut client = server.client();
    let (_, said) = client.get("/v2/models/lenet.raw");
    assert_eq!(said["inputs"], json!([{ "name": "raw", "datatype": "BYTES", "shape": [-1] }]));
    let from_png: Vec<f32> = pngs.chunks(100).flat_map(|some| raw(&mut client, "lenet", some)).collect();
    assert_eq!(bits(&from_png), bits(&served));
    let predicted = place.json(&["predict", "run", file.to_str().unwrap()]);
    let classes = predicted["predictions"].as_array().unwrap().iter().map(|p| p["class"].as_str().unwrap());
    let answered: Vec<String> = served.chunks(10).map(|logits| argmax(logits).to_string()).collect();
    assert!(classes.eq(answered.iter()), "the classes of `predict`");
    let mut labels = Vec::new();
    let packed = std::fs::File::open(data.join("mnist/t10k-labels-idx1-ubyte.gz")).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut labels).unwrap();
    let right =
        labels[8..].iter().zip(&answered).filter(|(label, class)| label.to_string() == **class).count();
    assert_eq!(result["test"]["accuracy"].as_f64(), Some(right as f64 / 10_000.0), "the accuracy of the run");
}
