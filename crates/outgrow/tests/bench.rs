//! `outgrow bench`: measurements come to an end, and say what they say in a fixed shape.

mod common;

use common::Place;
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
