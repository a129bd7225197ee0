//! The conformance suite of transports: links of every kind pass the same checks.

#[allow(dead_code)]
mod common;

use common::{A_WHILE, Patience, STUCK, flush, receive, send_all};
use outgrow_env::transport::sim::{Conditions, SimNetwork};
use outgrow_env::transport::{shared_memory, threads};
use outgrow_env::{LinkError, LinkProblem, Transport};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

type Links = Box<dyn Transport>;
/// Makes a group of so many workers.
type Group = fn(usize) -> Vec<Links>;

/// Every kind of links.
const TRANSPORTS: &[(&str, Group)] = &[
    ("threads", |workers| boxed(threads::group(workers).unwrap())),
    ("threads with little room", |workers| boxed(threads::group_with(workers, 1 << 10).unwrap())),
    ("tcp", |workers| boxed(common::group(workers, common::settings()))),
    ("simulated", |workers| boxed(SimNetwork::new(workers, 7, Conditions::default()).1)),
    ("simulated, with losses", |workers| boxed(SimNetwork::new(workers, 8, bad()).1)),
    ("tcp, encrypted", |workers| boxed(common::group(workers, common::encrypted()))),
    ("shared memory", |workers| boxed(in_shared_memory(workers, 64 << 10))),
    ("shared memory with little room", |workers| boxed(in_shared_memory(workers, 1 << 10))),
];

fn bad() -> Conditions {
    Conditions { loss: 0.05, duplication: 0.05, delay: 0.1, ..Conditions::default() }
}

/// Ends of links between processes, all in this one.
fn in_shared_memory(workers: usize, capacity: usize) -> Vec<shared_memory::SharedMemoryLinks> {
    let folder = tempfile::tempdir().unwrap();
    let first = shared_memory::create_with(folder.path(), workers, capacity).unwrap();
    let path = first.path().to_owned();
    let others = (1..workers).map(|worker| shared_memory::join(&path, worker).unwrap());
    let ends = std::iter::once(first).chain(others).collect();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "files whose names are left");
    ends
}

fn boxed<T: Transport + 'static>(ends: Vec<T>) -> Vec<Links> {
    ends.into_iter().map(|end| Box::new(end) as Links).collect()
}

fn on_every_transport(check: impl Fn(Group)) {
    for (name, group) in TRANSPORTS {
        let result = catch_unwind(AssertUnwindSafe(|| check(*group)));
        assert!(result.is_ok(), "links of the kind `{name}` fail, as said above");
    }
}

/// Two workers' ends.
fn pair(group: Group) -> (Links, Links) {
    let mut ends = group(2).into_iter();
    (ends.next().unwrap(), ends.next().unwrap())
}

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What ends a link, once nothing is left to be taken.
fn end_of(link: &mut Links, from: usize) -> LinkError {
    let patience = Patience::new();
    loop {
        match link.received(from) {
            Ok(come) => assert!(come.is_empty(), "{} bytes nobody has sent", come.len()),
            Err(error) => return error,
        }
        // What the wait says is what the next look says.
        let _ = link.wait(A_WHILE);
        patience.check("waiting for the end");
    }
}

#[test]
fn ends_know_their_numbers() {
    on_every_transport(|group| {
        for workers in 1..=8 {
            let ends = group(workers);
            assert_eq!(ends.len(), workers);
            for (number, end) in ends.iter().enumerate() {
                assert_eq!((end.worker(), end.workers()), (number, workers));
                assert!(!end.name().is_empty());
            }
        }
    });
}

#[test]
fn bytes_arrive_in_order_and_once() {
    on_every_transport(|group| {
        let (mut one, mut other) = pair(group);
        let content = Random(1).bytes(1 << 20);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(2);
                let mut left = &content[..];
                while !left.is_empty() {
                    let (now, rest) = left.split_at((random.below(70_000) + 1).min(left.len()));
                    send_all(&mut *one, 1, now).unwrap();
                    left = rest;
                }
            });
            let mut random = Random(3);
            let mut at = 0;
            let patience = Patience::new();
            while at < content.len() {
                let come = other.received(0).unwrap();
                assert!(content[at..].starts_with(come), "other bytes, or in another order, from {at} on");
                let count = come.len().min(random.below(100_000));
                other.take(0, count);
                at += count;
                if count == 0 {
                    other.wait(A_WHILE).unwrap();
                }
                patience.check("receiving");
            }
            assert!(other.received(0).is_ok_and(<[u8]>::is_empty));
        });
    });
}

#[test]
fn what_is_shown_stays_until_it_is_taken() {
    on_every_transport(|group| {
        let (mut one, mut other) = pair(group);
        send_all(&mut *one, 1, b"some bytes").unwrap();
        let patience = Patience::new();
        while other.received(0).unwrap().len() < 10 {
            other.wait(A_WHILE).unwrap();
            patience.check("receiving");
        }
        assert_eq!(other.received(0).unwrap(), b"some bytes");
        other.take(0, 0);
        other.take(0, 5);
        assert_eq!(other.received(0).unwrap(), b"bytes");
        other.take(0, 4);
        send_all(&mut *one, 1, b"!").unwrap();
        assert_eq!(receive(&mut *other, 0, 2).unwrap(), b"s!");
        let too_many = catch_unwind(AssertUnwindSafe(|| other.take(0, 1)));
        assert!(too_many.is_err(), "a byte was taken that was never there");
    });
}

#[test]
fn who_sends_faster_than_another_takes_is_told() {
    on_every_transport(|group| {
        let (mut one, mut other) = pair(group);
        let block = Random(4).bytes(1 << 20);
        let mut sent = 0;
        loop {
            let count = one.send(1, &block).unwrap();
            sent += count;
            let flushed = one.flush().unwrap();
            if count == 0 && !flushed {
                one.wait(Duration::from_millis(50)).unwrap();
            }
            // Some take a part while there is a little room, and so may the next.
            if count == 0 && one.send(1, &block[..1]).unwrap() == 0 {
                break;
            } else if count == 0 {
                sent += 1;
            }
            assert!(sent < 1 << 30, "a link holds any number of bytes");
        }
        assert!(sent > 0, "a link holds nothing");
        // Both ends are looked after in turn, since what was taken on may lie at either.
        let mut got = 0;
        let patience = Patience::new();
        while got < sent {
            let count = other.received(0).unwrap().len();
            other.take(0, count);
            got += count;
            one.flush().unwrap();
            if count == 0 {
                other.wait(Duration::from_millis(10)).unwrap();
                one.wait(Duration::from_millis(10)).unwrap();
            }
            patience.check("emptying a full link");
        }
        assert_eq!(got, sent, "more has come than was taken on");
        send_all(&mut *one, 1, b"again").unwrap();
        assert_eq!(receive(&mut *other, 0, 5).unwrap(), b"again");
    });
}

/// Everybody sends everybody else something, of sizes from nothing to more than a link holds, and all at once.
#[test]
fn all_to_all() {
    on_every_transport(|group| {
        for workers in 1..=8 {
            for round in 0..3 {
                let content = |from: usize, to: usize| {
                    let mut random = Random((workers * 1_000 + round * 100 + from * 10 + to) as u64);
                    let size = [0, 1, 300, 5_000, 100_000, 600_000][random.below(6)];
                    let size = random.below(size + 1);
                    random.bytes(size)
                };
                thread::scope(|scope| {
                    for mut link in group(workers) {
                        scope.spawn(move || {
                            let me = link.worker();
                            let others: Vec<_> = (0..workers).filter(|&other| other != me).collect();
                            let out: Vec<_> = others.iter().map(|&other| content(me, other)).collect();
                            let expected: Vec<_> = others.iter().map(|&other| content(other, me)).collect();
                            let mut sent = vec![0; others.len()];
                            let mut got = vec![0; others.len()];
                            let patience = Patience::new();
                            loop {
                                let mut moved = 0;
                                for (i, &other) in others.iter().enumerate() {
                                    // Who has all may have left.
                                    if sent[i] < out[i].len() {
                                        let count = link.send(other, &out[i][sent[i]..]).unwrap();
                                        sent[i] += count;
                                        moved += count;
                                    }
                                    if got[i] < expected[i].len() {
                                        let come = link.received(other).unwrap();
                                        let same = expected[i][got[i]..].starts_with(come);
                                        assert!(same, "{other} to {me}: other bytes");
                                        let taken = come.len();
                                        link.take(other, taken);
                                        got[i] += taken;
                                        moved += taken;
                                    }
                                }
                                let done = (0..others.len())
                                    .all(|i| (sent[i], got[i]) == (out[i].len(), expected[i].len()));
                                if done && link.flush().unwrap() {
                                    break;
                                }
                                if moved == 0 {
                                    link.wait(A_WHILE).unwrap();
                                }
                                patience.check("an exchange");
                            }
                            link.leave(None);
                        });
                    }
                });
            }
        }
    });
}

#[test]
fn many_short_answers() {
    on_every_transport(|group| {
        let (mut one, mut other) = pair(group);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..1_000_u64 {
                    let bytes = receive(&mut *other, 0, 8).unwrap();
                    assert_eq!(bytes, number.to_le_bytes());
                    send_all(&mut *other, 0, &bytes).unwrap();
                }
            });
            for number in 0..1_000_u64 {
                send_all(&mut *one, 1, &number.to_le_bytes()).unwrap();
                assert_eq!(receive(&mut *one, 1, 8).unwrap(), number.to_le_bytes());
            }
        });
    });
}

/// How a worker can end its part, and what the others then find.
fn ways_to_end() -> Vec<(fn(Links), LinkProblem)> {
    vec![
        (|mut link| link.leave(None), LinkProblem::Left),
        (|mut link| link.leave(Some("no space left")), LinkProblem::Failed("no space left".to_owned())),
        (drop, LinkProblem::Gone),
        (
            |link| {
                let panicked = thread::spawn(move || {
                    let _held = link;
                    std::panic::resume_unwind(Box::new("on purpose"));
                });
                panicked.join().unwrap_err();
            },
            LinkProblem::Gone,
        ),
    ]
}

#[test]
fn what_was_sent_before_the_end_is_still_there() {
    on_every_transport(|group| {
        for (end, problem) in ways_to_end() {
            let (mut one, mut other) = pair(group);
            send_all(&mut *one, 1, b"the last words").unwrap();
            end(one);
            // A wait before may say that the worker is lost only when nothing is left.
            assert_eq!(other.wait(A_WHILE), Ok(()));
            assert_eq!(receive(&mut *other, 0, 4).unwrap(), b"the ");
            assert_eq!(receive(&mut *other, 0, 10).unwrap(), b"last words");
            let expected = LinkError { worker: 0, problem };
            assert_eq!(end_of(&mut other, 0), expected);
            assert_eq!(end_of(&mut other, 0), expected, "an end stays an end");
            let patience = Patience::new();
            // A system may take some bytes before it knows.
            while other.send(0, b"anybody?").is_ok() {
                let _ = other.wait(Duration::from_millis(10));
                patience.check("sending to nobody");
            }
        }
    });
}

#[test]
fn who_is_lost_ends_waits_and_who_has_left_does_not() {
    on_every_transport(|group| {
        for (end, problem) in ways_to_end() {
            let mut ends = group(3).into_iter();
            let (one, mut two, mut three) =
                (ends.next().unwrap(), ends.next().unwrap(), ends.next().unwrap());
            end(one);
            assert_eq!(end_of(&mut two, 0).problem, problem);
            if problem == LinkProblem::Left {
                thread::scope(|scope| {
                    scope.spawn(|| send_all(&mut *two, 2, &[7; 200_000]).unwrap());
                    assert_eq!(receive(&mut *three, 1, 200_000).unwrap(), [7; 200_000]);
                });
            } else {
                let patience = Patience::new();
                let error = loop {
                    if let Err(error) = three.wait(A_WHILE) {
                        break error;
                    }
                    patience.check("waiting for a loss");
                };
                assert_eq!(error, LinkError { worker: 0, problem });
            }
        }
    });
}

#[test]
fn waits_end() {
    on_every_transport(|group| {
        // After their time.
        let (mut one, mut other) = pair(group);
        let patience = Patience::new();
        other.wait(Duration::ZERO).unwrap();
        other.wait(Duration::from_millis(30)).unwrap();
        patience.check("a short wait");

        // Long before it, when there is something. Waits may end for no reason, so it takes some.
        let soon = Duration::from_millis(200);
        let long = STUCK * 5;
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let patience = Patience::new();
                while other.received(0).unwrap().is_empty() {
                    other.wait(long).unwrap();
                }
                other.take(0, 1);
                patience.check("waiting for a byte");
            });
            thread::sleep(soon);
            send_all(&mut *one, 1, b"!").unwrap();
            waiting.join().unwrap();
        });

        // When there is room again.
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let patience = Patience::new();
                let block = vec![1; 1 << 20];
                let mut left = 30 << 20;
                while left > 0 {
                    let count = one.send(1, &block[..block.len().min(left)]).unwrap();
                    left -= count;
                    if count == 0 {
                        one.wait(long).unwrap();
                    }
                }
                patience.check("waiting for room");
                flush(&mut *one).unwrap();
            });
            thread::sleep(soon);
            receive(&mut *other, 0, 30 << 20).unwrap();
            waiting.join().unwrap();
        });

        // When somebody leaves.
        for (end, problem) in ways_to_end() {
            let (one, mut other) = pair(group);
            thread::scope(|scope| {
                let waiting = scope.spawn(move || {
                    let patience = Patience::new();
                    loop {
                        match other.received(0) {
                            Ok(_) => drop(other.wait(long)),
                            Err(error) => break assert_eq!(error.problem, problem),
                        }
                    }
                    patience.check("waiting for an end");
                });
                thread::sleep(soon);
                end(one);
                waiting.join().unwrap();
            });
        }
    });
}

/// Long streams in both directions at once, in a circle: nobody can wait for room without taking what comes.
#[test]
fn streams_in_a_circle() {
    on_every_transport(|group| {
        for workers in [2, 5] {
            let bytes = (8 << 20) / workers;
            thread::scope(|scope| {
                for mut link in group(workers) {
                    scope.spawn(move || {
                        let me = link.worker();
                        let (next, previous) = ((me + 1) % workers, (me + workers - 1) % workers);
                        let out = vec![me as u8; 100_000];
                        let (mut sent, mut got) = (0, 0);
                        let patience = Patience::new();
                        while sent < bytes || got < bytes {
                            let (mut count, mut taken) = (0, 0);
                            // Who has all may have left.
                            if sent < bytes {
                                count = link.send(next, &out[..out.len().min(bytes - sent)]).unwrap();
                            }
                            if got < bytes {
                                let come = link.received(previous).unwrap();
                                assert!(come.iter().all(|&byte| byte == previous as u8));
                                taken = come.len();
                                link.take(previous, taken);
                            }
                            (sent, got) = (sent + count, got + taken);
                            if count + taken == 0 {
                                link.wait(A_WHILE).unwrap();
                            }
                            patience.check("a circle");
                        }
                        flush(&mut *link).unwrap();
                        link.leave(None);
                    });
                }
            });
        }
    });
}
