//! Links between threads, in every order in which their threads can run (with at most as many switches away from a
//! thread that could go on as said), under the C11 memory model: `RUSTFLAGS='--cfg loom' cargo test --release -p
//! outgrow-env --test loom`. An access to a byte that is not ordered after the one before fails, and so does a thread that
//! sleeps for ever: there, a wait ends only when somebody wakes the thread.
#![cfg(loom)]

use loom::model::Builder;
use loom::thread;
use outgrow_env::transport::threads::{ThreadLinks, group_with};
use outgrow_env::{LinkProblem, Transport};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3_600);

fn check(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

fn pair(capacity: usize) -> (ThreadLinks, ThreadLinks) {
    let mut ends = group_with(2, capacity).unwrap().into_iter();
    (ends.next().unwrap(), ends.next().unwrap())
}

fn send(link: &mut ThreadLinks, to: usize, mut bytes: &[u8]) {
    loop {
        bytes = &bytes[link.send(to, bytes).unwrap()..];
        if bytes.is_empty() {
            return;
        }
        link.wait(LONG).unwrap();
    }
}

fn receive(link: &mut ThreadLinks, from: usize, expected: &[u8]) {
    let mut at = 0;
    loop {
        let come = link.received(from).unwrap();
        let count = come.len();
        assert!(expected[at..].starts_with(come));
        link.take(from, count);
        at += count;
        if at == expected.len() {
            return;
        }
        // What was shown may have been the end of the ring.
        if count == 0 {
            link.wait(LONG).unwrap();
        }
    }
}

#[test]
fn more_than_a_ring_holds() {
    check(3, || {
        let (mut one, mut other) = pair(2);
        let sender = thread::spawn(move || {
            send(&mut one, 1, b"abc");
            one
        });
        receive(&mut other, 0, b"abc");
        sender.join().unwrap();
    });
}

#[test]
fn an_answer() {
    check(3, || {
        let (mut one, mut other) = pair(1);
        let sender = thread::spawn(move || {
            send(&mut one, 1, b"?");
            receive(&mut one, 1, b"!");
        });
        receive(&mut other, 0, b"?");
        send(&mut other, 0, b"!");
        sender.join().unwrap();
    });
}

#[test]
fn leaving_wakes_and_keeps_what_was_sent() {
    check(3, || {
        let (mut one, mut other) = pair(2);
        let sender = thread::spawn(move || {
            send(&mut one, 1, b"a");
            one.leave(Some("why"));
        });
        receive(&mut other, 0, b"a");
        let error = loop {
            match other.received(0) {
                Ok(come) => assert!(come.is_empty()),
                Err(error) => break error,
            }
            if let Err(error) = other.wait(LONG) {
                break error;
            }
        };
        assert_eq!(error.problem, LinkProblem::Failed("why".to_owned()));
        sender.join().unwrap();
    });
}
