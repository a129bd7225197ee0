//! How a group comes together over TCP, who is kept out of it, and what is known of a worker that ends. What all
//! transports have in common is in `transports.rs`.

#[allow(dead_code)]
mod common;

use common::{PATIENCE, all_are_here, group, joining, receive, send_all, settings};
use outgrow_env::transport::frame::{Kind, frame};
use outgrow_env::transport::tcp::messages::Purpose;
use outgrow_env::transport::tcp::{JoinError, Membership, Rendezvous, Settings, Token, join};
use outgrow_env::{LinkError, LinkProblem, Transport};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_group_comes_together_and_all_are_linked() {
    for workers in [1, 2, 5] {
        let mut threads = Vec::new();
        for (worker, mut links) in group(workers, settings()).into_iter().enumerate() {
            assert_eq!((links.worker(), links.workers(), links.name()), (worker, workers, "tcp"));
            threads.push(std::thread::spawn(move || {
                for to in (0..workers).filter(|to| *to != worker) {
                    send_all(&mut links, to, format!("from {worker} to {to}").as_bytes()).unwrap();
                }
                for from in (0..workers).filter(|from| *from != worker) {
                    let expected = format!("from {from} to {worker}");
                    assert_eq!(receive(&mut links, from, expected.len()).unwrap(), expected.as_bytes());
                }
                links.leave(None);
            }));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn who_does_not_fit_is_told_why_and_leaves_its_place_free() {
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 3, settings()).unwrap();
    let address = rendezvous.address().unwrap();
    let accepts = |accept: bool, until: usize, rendezvous: &mut Rendezvous| {
        let start = Instant::now();
        while rendezvous.missing().len() != until
            || until == 2 && start.elapsed() < Duration::from_millis(300)
        {
            assert!(start.elapsed() < PATIENCE);
            let step = Duration::from_millis(20);
            rendezvous
                .wait(step, &mut |newcomer| {
                    assert_eq!((newcomer.about, newcomer.address.ip()), (&b"one of us"[..], address.ip()));
                    if accept { Ok(()) } else { Err("another model: 3 layers, not 2".to_owned()) }
                })
                .unwrap();
        }
    };
    let refused = |thread: std::thread::JoinHandle<Result<Membership, JoinError>>| {
        thread.join().unwrap().map(|_| ()).unwrap_err().to_string()
    };
    let wrong_model = joining(address, None, settings());
    let no_such_place = joining(address, Some(3), settings());
    accepts(false, 2, &mut rendezvous);
    assert_eq!(refused(wrong_model), "the first worker refuses this one: another model: 3 layers, not 2");
    let error = refused(no_such_place);
    assert!(error.ends_with("no worker 3 to be in a group of 3, whose first is here already"), "{error}");
    let second = joining(address, Some(2), settings());
    accepts(true, 1, &mut rendezvous);
    assert_eq!(rendezvous.missing(), [1]);
    let again = joining(address, Some(2), settings());
    let error = std::thread::scope(|scope| {
        let refused = scope.spawn(move || refused(again));
        while !refused.is_finished() {
            rendezvous.wait(Duration::from_millis(20), &mut |_| Ok(())).unwrap();
        }
        refused.join().unwrap()
    });
    assert!(error.ends_with("worker 2 is here already"), "{error}");
    let first = joining(address, None, settings());
    all_are_here(&mut rendezvous);
    let links = rendezvous.finish(b"").unwrap();
    let numbers = [second, first].map(|thread| thread.join().unwrap().unwrap().links.worker());
    assert_eq!((links.worker(), numbers), (0, [2, 1]));
}

#[test]
fn who_joins_and_goes_again_leaves_its_place_free() {
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 2, settings()).unwrap();
    let address = rendezvous.address().unwrap();
    let purpose = Purpose::Join { wanted: None, listens: address, about: Vec::new() };
    let mut gone = TcpStream::connect(address).unwrap();
    gone.write_all(&purpose.hello(&settings().token)).unwrap();
    all_are_here(&mut rendezvous);
    drop(gone);
    while rendezvous.missing().is_empty() {
        rendezvous.wait(Duration::ZERO, &mut |_| Ok(())).unwrap();
    }
    let other = joining(address, Some(1), settings());
    all_are_here(&mut rendezvous);
    rendezvous.finish(b"").unwrap();
    other.join().unwrap().unwrap();
}

#[test]
fn strangers_get_a_closed_connection_and_keep_nobody_out() {
    let mut patient = settings();
    patient.handshake = Duration::from_millis(400);
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 2, patient).unwrap();
    let address = rendezvous.address().unwrap();
    let mut hello = Purpose::Join { wanted: None, listens: address, about: vec![7; 1000] };
    let wrong = Settings::new(Token::of_hex(&"5b".repeat(32)).unwrap());
    let mut long = frame(Kind::Hello, b"");
    long[4..].copy_from_slice(&u32::MAX.to_le_bytes());
    let half = hello.hello(&settings().token)[..500].to_vec();
    if let Purpose::Join { about, .. } = &mut hello {
        about.clear();
    }
    let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let said = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        long,
        half,
        hello.hello(&wrong.token),
        frame(Kind::Data, b"x"),
        frame(Kind::Welcome, &[0; 100]),
        noise,
        Vec::new(),
    ];
    let mut strangers: Vec<TcpStream> = Vec::new();
    for said in said.iter().cycle().take(20 * said.len()) {
        let mut stranger = TcpStream::connect(address).unwrap();
        // The connection may be closed before all is said.
        let _ = stranger.write_all(said);
        strangers.push(stranger);
        rendezvous.wait(Duration::ZERO, &mut |_| panic!("a stranger is let in")).unwrap();
    }
    let unknown = joining(address, None, wrong);
    let other = joining(address, None, settings());
    all_are_here(&mut rendezvous);
    // Nobody is waited for longer than the handshake may take.
    let until = Instant::now() + Duration::from_millis(800);
    while Instant::now() < until {
        rendezvous.wait(Duration::from_millis(20), &mut |_| panic!("a stranger is let in")).unwrap();
        rendezvous.missing();
        std::thread::sleep(Duration::from_millis(20));
    }
    let links = rendezvous.finish(b"").unwrap();
    assert_eq!(links.workers(), 2);
    let error = unknown.join().unwrap().map(|_| ()).unwrap_err();
    assert!(matches!(error, JoinError::Closed { .. }), "{error}");
    assert_eq!(other.join().unwrap().unwrap().links.worker(), 1);
    for mut stranger in strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = Vec::new();
        // Closed in order, or at once with what was not read.
        let end = stranger.read_to_end(&mut answer).map_err(|e| e.kind());
        assert!(matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{end:?}");
        assert!(answer.is_empty());
    }
}

#[test]
fn nobody_is_waited_for_without_end() {
    let quickly = Duration::from_millis(300);
    let error = |result: Result<Membership, JoinError>| result.map(|_| ()).unwrap_err().to_string();
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    // Somebody does, and says nothing.
    let silent = error(join(address, None, b"", &settings(), quickly));
    assert_eq!(silent, "worker 0 was waited for in vain");
    drop(port);
    let nobody = error(join(address, None, b"", &settings(), quickly));
    assert!(nobody.starts_with(&format!("cannot connect to {address}: ")), "{nobody}");
    let long = error(join(address, None, &[0; 70_000], &settings(), quickly));
    assert_eq!(long, "what a worker says of itself takes 70000 bytes, more than 61440");
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 3, settings()).unwrap();
    assert!(!rendezvous.wait(quickly, &mut |_| Ok(())).unwrap());
    assert_eq!(rendezvous.finish(b"").unwrap_err().to_string(), "worker 1 has not joined");
    for workers in [0, 100_000] {
        let error = Rendezvous::listen("127.0.0.1:0", workers, settings()).unwrap_err().to_string();
        assert_eq!(error, format!("a group of {workers} workers cannot be: there must be 1 to 1024"));
    }
}

#[test]
fn who_ends_is_known_and_what_it_sent_can_be_taken() {
    let lost = |reason: Option<Option<&str>>, expected: LinkProblem| {
        let mut ends = group(2, settings());
        let mut other = ends.pop().unwrap();
        let mut links = ends.pop().unwrap();
        // Little enough to be on its way at once: what comes to a closed socket cuts off what it was still to send.
        let data: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        send_all(&mut other, 0, &data).unwrap();
        if let Some(reason) = reason {
            other.leave(reason);
        }
        drop(other);
        // Sending finds out too, and says the same although data lies before it.
        let found = loop {
            match links.send(1, &[0; 5000]) {
                Ok(_) => links.wait(Duration::from_millis(10)).unwrap(),
                Err(error) => break error,
            }
        };
        assert_eq!(found, LinkError { worker: 1, problem: expected.clone() });
        assert_eq!(receive(&mut links, 1, data.len()).unwrap(), data);
        assert_eq!(links.received(1).unwrap_err().problem, expected);
        let waited = links.wait(Duration::from_millis(1));
        assert_eq!(waited.is_ok(), expected == LinkProblem::Left, "who has left is not lost");
    };
    lost(None, LinkProblem::Gone);
    lost(Some(None), LinkProblem::Left);
    lost(Some(Some("no space left")), LinkProblem::Failed("no space left".to_owned()));
}

/// Whoever has taken on all that it sends need not ask for it to be flushed, if only it waits for an answer.
#[test]
fn what_was_taken_on_goes_out_while_its_sender_waits() {
    let mut ends = group(2, settings());
    let (mut other, mut links) = (ends.pop().unwrap(), ends.pop().unwrap());
    let mut sent = 0;
    loop {
        match links.send(1, &vec![3; 1 << 20]).unwrap() {
            0 => break,
            count => sent += count,
        }
    }
    let answering = std::thread::spawn(move || {
        receive(&mut other, 0, sent).unwrap();
        send_all(&mut other, 0, b"all").unwrap();
        other
    });
    assert_eq!(receive(&mut links, 1, 3).unwrap(), b"all");
    answering.join().unwrap();
}

/// With this a test runs itself in another process: where to join.
const JOIN: &str = "OUTGROW_TEST_JOIN";

#[test]
fn a_killed_process_is_gone_for_all_others() {
    if let Ok(address) = std::env::var(JOIN) {
        let mut links =
            join(address.parse::<SocketAddr>().unwrap(), None, b"", &settings(), PATIENCE).unwrap().links;
        // Speaks without end, until somebody is lost.
        let worker = links.worker();
        let lost = loop {
            for to in (0..3).filter(|to| *to != worker) {
                match links.send(to, &[7; 100_000]) {
                    Ok(_) => {}
                    Err(lost) => return links.leave(Some(&lost.to_string())),
                }
            }
            if let Err(lost) = links.wait(Duration::from_millis(1)) {
                break lost;
            }
        };
        return links.leave(Some(&lost.to_string()));
    }
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", 3, settings()).unwrap();
    let address = rendezvous.address().unwrap();
    let mut children: Vec<Child> = (0..2)
        .map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "a_killed_process_is_gone_for_all_others"]);
            command.env(JOIN, address.to_string()).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    all_are_here(&mut rendezvous);
    let mut links = rendezvous.finish(b"").unwrap();
    receive(&mut links, 1, 1_000_000).unwrap();
    receive(&mut links, 2, 1_000_000).unwrap();
    children[0].kill().unwrap();
    let mut said = [None, None];
    let start = Instant::now();
    while said.iter().any(Option::is_none) {
        assert!(start.elapsed() < PATIENCE, "{said:?}");
        for worker in [1, 2] {
            match links.received(worker).map(<[u8]>::len) {
                Ok(came) => links.take(worker, came),
                Err(error) => said[worker - 1] = Some(error.problem),
            }
        }
    }
    for child in &mut children {
        child.wait().unwrap();
    }
    // Which of the two was killed is not known: the other one says so.
    let said = said.map(Option::unwrap);
    let other = |gone: usize| LinkProblem::Failed(format!("worker {gone} has gone"));
    assert!(said == [LinkProblem::Gone, other(1)] || said == [other(2), LinkProblem::Gone], "{said:?}");
}

/// With this a test runs itself in a network of its own.
const OWN_NETWORK: &str = "OUTGROW_TEST_OWN_NETWORK";

/// The network is one of this test's own, in which nothing passes from some moment on; where the system does not allow
/// that, the test says so and skips.
#[test]
#[allow(clippy::print_stdout)]
fn a_machine_that_no_longer_answers_is_silent() {
    let ip = |arguments: &str| {
        let done = Command::new("ip").args(arguments.split(' ')).status();
        assert!(done.unwrap().success(), "ip {arguments}");
    };
    if std::env::var_os(OWN_NETWORK).is_some() {
        ip("link set lo up");
        let silence = Duration::from_secs(2);
        for sending in [true, false] {
            let mut ends = group(2, Settings { silence, ..settings() });
            let (mut other, mut links) = (ends.pop().unwrap(), ends.pop().unwrap());
            send_all(&mut other, 0, b"still there").unwrap();
            assert_eq!(receive(&mut links, 1, 11).unwrap(), b"still there");
            ip("link set lo down");
            if sending {
                send_all(&mut links, 1, b"and you?").unwrap();
            }
            let start = Instant::now();
            let lost = loop {
                assert!(start.elapsed() < PATIENCE);
                if let Err(lost) = links.wait(PATIENCE) {
                    break lost;
                }
            };
            assert_eq!(lost, LinkError { worker: 1, problem: LinkProblem::Silent(silence) });
            ip("link set lo up");
        }
        return;
    }
    let possible = Command::new("unshare").args(["-rn", "ip", "link", "set", "lo", "up"]).output();
    if !possible.is_ok_and(|o| o.status.success()) {
        println!("skipped: this system does not let a test have a network of its own");
        return;
    }
    let mut command = Command::new("unshare");
    command.arg("-rn").arg(std::env::current_exe().unwrap());
    command.args(["--exact", "a_machine_that_no_longer_answers_is_silent", "--nocapture"]);
    let output = command.env(OWN_NETWORK, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
