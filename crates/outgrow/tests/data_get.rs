//! `outgrow data get`: the list, what is refused, and a set from a mirror.

mod common;

use common::Place;

#[test]
fn sets_are_listed_and_others_refused() {
    let place = Place::new();
    let list = place.json(&["data", "get", "--list"]);
    let names: Vec<_> = list.as_array().unwrap().iter().map(|set| set["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mnist", "fashion-mnist", "cifar10", "adult", "tinyshakespeare"]);
    for args in [&["data", "get", "mnits"][..], &["data", "get"]] {
        let errors = place.refused(args);
        assert_eq!(errors[0]["code"], "data.get");
        assert!(errors[0]["expected"].as_str().unwrap().contains("fashion-mnist"));
    }
}

#[cfg(not(feature = "cloud"))]
#[test]
fn a_build_without_access_says_so() {
    let place = Place::new();
    let errors = place.refused(&["data", "get", "mnist", "--to", "sets"]);
    assert_eq!(errors[0]["code"], "data.cloud");
    assert!(errors[0]["help"].as_str().unwrap().contains("--features cloud"));
}

#[cfg(feature = "cloud")]
#[test]
fn a_set_comes_from_a_mirror_with_its_checksum() {
    use std::io::{BufRead, BufReader, Write};
    let Some(data) = common::real_data("tinyshakespeare") else { return };
    let content = std::fs::read(data.join("tinyshakespeare/input.txt")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mirror = format!("http://{}/sets/", listener.local_addr().unwrap());
    let served = content.clone();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let asked = lines.next().unwrap().unwrap();
            assert!(asked.starts_with("GET /sets/tinyshakespeare/input.txt "), "{asked}");
            lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
            // Only the first request is answered with the file.
            let body = if number < 1 { served.clone() } else { b"something else".to_vec() };
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    let place = Place::new();
    let args = ["data", "get", "tinyshakespeare", "--to", "sets", "--from", &mirror];
    for reused in [false, true] {
        let got = place.json(&args);
        assert_eq!((&got["files"][0]["reused"], &got["files"][0]["checked"]), (&reused.into(), &true.into()));
        assert!(std::fs::read(place.path("sets/tinyshakespeare/input.txt")).unwrap() == content);
    }
    place.write("sets/tinyshakespeare/input.txt", "damaged");
    let errors = place.refused(&args);
    assert_eq!(errors[0]["code"], "data.download.checksum");
    assert_eq!(place.read("sets/tinyshakespeare/input.txt"), "damaged");
}
