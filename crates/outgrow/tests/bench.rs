//! `outgrow bench`: measurements come to an end, and say what they say in a fixed shape.

mod common;

use common::Place;
use outgrow_onnx::proto::DimensionValue;
use outgrow_store::npy::write_npy;
use outgrow_tensor::Tensor;
use serde_json::Value as Json;

#[test]
fn links_of_every_kind_are_measured() {
    let kinds: [(&[&str], &str, bool, usize); 4] = [
        (&["--transport", "threads"], "threads", false, 1),
        (&["--transport", "shm", "--workers", "3"], "shared memory", false, 3),
        (&["--transport", "tcp"], "tcp", true, 1),
        (&["--transport", "tcp", "--no-tls", "--workers", "1"], "tcp", false, 0),
    ];
    for (flags, transport, tls, pairs) in kinds {
        let place = Place::new();
        let found = place.json(&[&["bench", "links"], flags].concat());
        assert_eq!((found["transport"].as_str(), found["tls"].as_bool()), (Some(transport), Some(tls)));
        let found = found["pairs"].as_array().unwrap();
        assert_eq!(found.len(), pairs, "{transport}");
        for (pair, workers) in found.iter().zip([[0, 1], [0, 2], [1, 2]]) {
            assert_eq!(pair["workers"], Json::from(workers.to_vec()));
            assert!(pair["latency_seconds"].as_f64().unwrap() > 0.0, "{pair}");
            assert!(pair["seconds_per_byte"].as_f64().unwrap() > 0.0, "{pair}");
            assert!(pair["gap_seconds"].as_f64() <= pair["latency_seconds"].as_f64(), "{pair}");
            assert!(pair["add_seconds_per_byte"].as_f64().unwrap() >= 0.0, "{pair}");
            let samples = pair["samples"].as_array().unwrap();
            let bytes: Vec<u64> = samples.iter().map(|sample| sample["bytes"].as_u64().unwrap()).collect();
            assert_eq!((bytes[0], bytes[bytes.len() - 1], bytes.len()), (8, 64 << 20, 9));
            for key in ["one_way_seconds", "fitted_seconds", "added_seconds", "stream_bytes_per_s"] {
                assert!(samples.iter().all(|sample| sample[key].as_f64().unwrap() > 0.0), "{key}: {pair}");
            }
        }
    }
}

#[test]
fn the_machine_is_measured_and_its_profile_kept() {
    let place = Place::new();
    let args = ["bench", "machine", "--seconds", "0.001", "--threads", "2"];
    // Of so many threads as somebody said it is not what others are to read by default.
    let found = place.json(&args);
    assert_eq!(found["file"], Json::Null);
    let found = place.json(&args[..4]);
    let usual = place.path("cache/outgrow/machine.json");
    assert_eq!(found["file"].as_str(), usual.to_str());
    assert!(usual.exists());
    let found = place.json(&[&args[..], &["--output", "deep/machine.json"]].concat());
    assert_eq!(found["file"].as_str(), Some("deep/machine.json"));
    let kept: Json = serde_json::from_str(&place.read("deep/machine.json")).unwrap();
    assert_eq!(kept, found["profile"]);
    let number = |of: &Json, key: &str| of[key].as_f64().unwrap_or_else(|| panic!("{key}: {of}"));
    let peaks = kept["peaks"].as_array().unwrap();
    let threads: Vec<_> = peaks.iter().map(|peak| peak["threads"].as_u64().unwrap()).collect();
    assert_eq!(threads, [1, 2]);
    assert!(peaks.iter().all(|peak| number(peak, "f32_flops_per_s") > 1e8), "{kept}");
    let memory = kept["memory"].as_array().unwrap();
    assert!(memory.windows(2).all(|two| number(&two[0], "bytes") < number(&two[1], "bytes")), "{kept}");
    for key in ["read_bytes_per_s", "write_bytes_per_s", "copy_bytes_per_s"] {
        assert!(memory.iter().all(|level| number(level, key) > 1e7), "{key}: {kept}");
    }
    let kernels = found["kernels"].as_array().unwrap();
    assert!(kernels.len() > 20, "{found}");
    for kernel in kernels {
        assert!(number(kernel, "ms") > 0.0 && number(kernel, "limit_ms") > 0.0, "{kernel}");
    }
}

#[test]
fn steps_are_timed_and_profiled() {
    let place = Place::new();
    for (work, batch) in [("mlp", 128.0), ("lenet", 128.0), ("gpt", 16.0)] {
        let args = ["bench", "train", work, "--seconds", "0.01", "--threads", "1", "--profile"];
        let found = place.json(&args);
        let number = |key: &str| found[key].as_f64().unwrap();
        assert_eq!((found["work"].as_str(), found["precision"].as_str()), (Some(work), Some("f32")));
        assert_eq!((number("threads"), number("steps") >= 8.0), (1.0, true), "{found}");
        let samples = number("samples_per_s") * number("step_ms") * 1e-3;
        assert!((samples - batch).abs() < 1e-6 * batch && number("min_ms") <= number("step_ms"), "{found}");
        assert!(number("process_peak_mib") >= number("process_before_mib"), "{found}");
        let kernels = found["profile"].as_array().unwrap();
        let products: Vec<_> =
            kernels.iter().filter(|one| one["kernel"].as_str() == Some("matmul")).collect();
        assert!(products.iter().all(|one| one["flops"].as_f64().unwrap() > 0.0), "{found}");
        assert!(products.iter().map(|one| one["number"].as_u64().unwrap()).sum::<u64>() >= 8, "{found}");
        let whole: f64 = kernels.iter().map(|one| one["ms"].as_f64().unwrap()).sum();
        assert!(whole > 0.0, "{found}");
        assert!(kernels.iter().all(|one| one["limit_ms"].as_f64().unwrap() > 0.0), "{found}");
    }
}

#[test]
fn epochs_over_mnist_are_timed() {
    let Some(data) = common::real_data("mnist") else { return };
    let place = Place::new();
    let args = ["bench", "train", "mnist", "--seconds", "0.01", "--cache", "cache", "--data"];
    let found = place.json(&[&args[..], &[data.to_str().unwrap()]].concat());
    let number = |key: &str| found[key].as_f64().unwrap();
    assert!(number("epochs") >= 3.0, "{found}");
    assert!((number("samples_per_s") * number("epoch_s") - 60_000.0).abs() < 0.1, "{found}");
}

#[test]
fn batches_of_a_model_are_timed_and_profiled() {
    let place = Place::new();
    place.write("m.onnx", common::onnx::model());
    for (batch, precision) in [(1.0, "f32"), (70.0, "bf16")] {
        let flags = ["--batch", &batch.to_string(), "--precision", precision, "--profile"];
        let args = ["bench", "infer", "m.onnx", "--seconds", "0.01", "--threads", "1"];
        let found = place.json(&[&args[..], &flags].concat());
        let number = |key: &str| found[key].as_f64().unwrap();
        assert_eq!((number("batch"), found["precision"].as_str()), (batch, Some(precision)));
        assert_eq!(
            found["inputs"][0],
            serde_json::json!({ "name": "x", "dtype": "f32", "shape": [batch as u64, 2] })
        );
        assert!(number("runs") >= 5.0 && number("load_ms") > 0.0 && number("first_ms") > 0.0, "{found}");
        let spread = ["min_ms", "ms", "p99_ms", "max_ms"].map(number);
        assert!(spread.is_sorted(), "{found}");
        let samples = number("samples_per_s") * number("ms") * 1e-3;
        assert!((samples - batch).abs() < 1e-6 * batch, "{found}");
        assert!(number("process_peak_mib") >= number("process_before_mib"), "{found}");
        let kernels = found["profile"].as_array().unwrap();
        assert!(kernels.iter().any(|one| one["kernel"].as_str() == Some("matmul")), "{found}");
    }
    // An array of a file.
    place.write("x.npy", write_npy(&Tensor::new([3, 2], vec![0.5f32; 6]).unwrap()));
    let text = place.run(&["bench", "infer", "m.onnx", "--seconds", "0.01", "--input", "x=x.npy"]);
    assert!(text.stdout.contains("x f32[3, 2], bias f32[2]") && text.code == 0, "{text:?}");
}

#[test]
fn a_model_with_a_batch_that_does_not_fit_is_explained() {
    let place = Place::new();
    place.write("m.onnx", common::onnx::model());
    place.write("two.onnx", common::onnx::model_for(DimensionValue::Value(2)));
    place.write("wide.npy", write_npy(&Tensor::new([1, 3], vec![0.0f32; 3]).unwrap()));
    for (flags, code, says) in [
        (&["--dim", "rows=0"][..], "bench.dim", "says no dimension"),
        (&["--dim", "rows=2", "--dim", "rows=3"], "bench.dim", "given twice"),
        (&["--dim", "columns=2"], "bench.dim", "no input has a dimension `columns`"),
        (&["--dim", "rows=1000000000000"], "bench.batch", "too large"),
        (&["--input", "x=wide.npy"], "predict.input", "f32[1, 3]"),
        (&["--input", "y=wide.npy"], "infer.name", "no place for `y=wide.npy`"),
        (&["--seconds", "0"], "option.time", "0 is no time"),
    ] {
        let found = place.refused(&[&["bench", "infer", "m.onnx"], flags].concat()).remove(0);
        assert_eq!(found["code"].as_str(), Some(code), "{found}");
        assert!(found["problem"].as_str().unwrap().contains(says), "{found}");
    }
    let found = place.refused(&["bench", "infer", "two.onnx", "--batch", "4"]).remove(0);
    assert!(found["problem"].as_str().unwrap().contains("takes 2 rows, always"), "{found}");
}

#[test]
fn data_that_is_not_there_is_named() {
    let place = Place::new();
    let found = place.refused(&["bench", "train", "mnist", "--cache", "cache"]).remove(0);
    assert!(found["problem"].as_str().unwrap().contains("mnist/"), "{found}");
    let found = place.refused(&["bench", "train", "mlp", "--seconds", "0"]).remove(0);
    assert_eq!(found["code"].as_str(), Some("option.time"), "{found}");
}

#[test]
fn what_is_of_no_use_is_refused() {
    let place = Place::new();
    for (flags, code, says) in [
        (&["--no-tls"], "cli.transport", "is for workers over TCP"),
        (&["--workers", "1000"], "workers.links", "between 1 and 256 workers"),
    ] as [(&[&str], &str, &str); 2]
    {
        let found = place.refused(&[&["bench", "links"], flags].concat()).remove(0);
        assert_eq!(found["code"].as_str(), Some(code), "{found}");
        assert!(found["problem"].as_str().unwrap().contains(says), "{found}");
    }
}
