//! Collectives over real links between threads.
#![allow(clippy::result_large_err)]

use outgrow_env::transport::threads;
use outgrow_ir::Diagnostic;
use outgrow_runtime::collective::calibrate::of_group;
use outgrow_runtime::collective::{
    Communicator, Group, Links, Schedule, Tree, calibrate, canonical, gather, runs,
};
use std::ops::Range;
use std::thread;
use std::time::Duration;

/// Has every worker of a group do something, each in a thread.
fn together<T: Send>(workers: usize, work: impl Fn(&mut Communicator) -> T + Sync) -> Vec<T> {
    let links = threads::group(workers).unwrap();
    thread::scope(|scope| {
        let start = |links| {
            let work = &work;
            scope.spawn(move || {
                let group = Group::new(Box::new(links));
                let done = work(&mut group.lock());
                group.lock().leave(None);
                done
            })
        };
        let all: Vec<_> = links.into_iter().map(start).collect();
        all.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

fn all_reduce(workers: usize, elements: usize, piece: usize) -> Schedule {
    let pieces = runs(elements, elements.div_ceil(piece)).map(|run| {
        let cut = |part: Range<usize>| 4 * (run.start + part.start)..4 * (run.start + part.end);
        let parts: Vec<_> = runs(run.len(), workers).map(cut).collect();
        canonical::reduce_scatter(&Tree::new(8, workers), &parts).then(gather::doubling(&parts))
    });
    Schedule::staggered(workers, pieces)
}

#[test]
fn sums_are_the_same_for_any_number_of_workers() {
    const ELEMENTS: usize = 700_000;
    let leaf = |leaf: usize| (0..ELEMENTS).map(move |i| ((i + leaf * 77) as f32).sin());
    let sum = |tree: &Tree, worker: usize| -> Vec<Vec<f32>> {
        let node = |node| {
            let mut row: Vec<Vec<f32>> = tree.leaves_of(node).map(|i| leaf(i).collect()).collect();
            while row.len() > 1 {
                row = row
                    .chunks(2)
                    .map(|pair| pair[0].iter().zip(&pair[1]).map(|(a, b)| a + b).collect())
                    .collect();
            }
            row.remove(0)
        };
        tree.subtrees(worker).map(node).collect()
    };
    let expect = sum(&Tree::new(8, 1), 0).remove(0);
    for workers in [2, 3, 4, 5, 8] {
        let (tree, schedule) = (Tree::new(8, workers), all_reduce(workers, ELEMENTS, 32 << 10));
        let all = together(workers, |group| {
            let mut sums = sum(&tree, group.worker());
            let mut machine = group.machine(&schedule);
            let mut vectors: Vec<&mut [u8]> =
                sums.iter_mut().map(|sum| bytemuck::cast_slice_mut(sum)).collect();
            group.run(&mut machine, "a test", &mut vectors).unwrap();
            sums.remove(0)
        });
        assert!(all.iter().all(|own| *own == expect), "{workers} workers");
    }
}

#[test]
fn bytes_are_exchanged_and_broadcast() {
    for workers in [1, 2, 3, 5] {
        for length in [0usize, 1, 100, 70_000, 1_000_000] {
            let of = |worker: usize| vec![worker as u8 + 1; length * worker + worker];
            let expect: Vec<Vec<u8>> = (0..workers).map(of).collect();
            let all = together(workers, |group| {
                group.barrier("a test").unwrap();
                let all = group.exchange(&of(group.worker()), "a test").unwrap();
                let mut bytes = vec![group.worker() as u8; length];
                group.broadcast(workers - 1, &mut bytes, "a test").unwrap();
                (all, bytes)
            });
            for (exchanged, broadcast) in all {
                assert!(exchanged == expect, "{workers} workers, {length} bytes");
                assert!(broadcast == vec![workers as u8 - 1; length], "{workers} workers, {length} bytes");
            }
        }
    }
}

#[test]
fn all_workers_find_the_same_costs_of_their_links() {
    for machines in [&["a"][..], &["a", "a"], &["a", "b"], &["b", "a", "b", "a", "c"]] {
        let all = together(machines.len(), |group| {
            let found = of_group(group, machines[group.worker()].as_bytes()).unwrap();
            assert_eq!(*group.costs(), found);
            found
        });
        let first = |name: &&str| machines.iter().position(|other| other == name).unwrap();
        assert_eq!(all[0].machines, machines.iter().map(first).collect::<Vec<_>>());
        assert!(all.iter().all(|links| *links == all[0]), "{machines:?}");
        for link in [all[0].inside, all[0].between] {
            assert!(link.latency_s > 0.0 && link.byte_s > 0.0 && link.gap_s <= link.latency_s, "{link:?}");
        }
    }
}

/// More than go over the links at a time, and by each worker another number of them.
#[test]
fn any_number_of_numbers_is_exchanged() {
    for (workers, length) in [(1, 5), (2, 0), (3, 1), (3, 150_000)] {
        let of = |worker: usize| -> Vec<f64> { (0..length * worker).map(|i| i as f64 / 3.0).collect() };
        let expect: Vec<Vec<f64>> = (0..workers).map(of).collect();
        let all = together(workers, |group| group.exchange_numbers(&of(group.worker()), "a test").unwrap());
        assert!(all.iter().all(|told| *told == expect), "{workers} workers, {length} numbers");
    }
}

/// Nobody else takes part: worker 0 has nothing to do with what the others send.
#[test]
fn one_sends_and_another_receives() {
    for length in [0usize, 1, 100, 3_000_000] {
        let of = |worker: usize| -> Vec<u8> { (0..length).map(|i| (i * 7 + worker) as u8).collect() };
        let all = together(3, |group| {
            let (mut own, mut come) = (of(group.worker()), vec![0; length]);
            match group.worker() {
                1 => {
                    group.send(2, &mut own, "a test").unwrap();
                    group.receive(2, &mut come, "a test").unwrap();
                }
                2 => {
                    group.receive(1, &mut come, "a test").unwrap();
                    group.send(1, &mut own, "a test").unwrap();
                }
                _ => {}
            }
            come
        });
        assert!(all == [vec![0; length], of(2), of(1)], "{length} bytes");
    }
}

#[test]
fn who_is_lost_is_named_with_what_the_others_were_in() {
    let all: Vec<Option<Diagnostic>> = together(3, |group| {
        if group.worker() == 1 {
            group.leave(Some("the disk is full"));
            return None;
        }
        let lost = group.barrier("the barrier of a test").unwrap_err();
        group.leave(Some(&lost.problem));
        Some(lost)
    });
    for found in all.into_iter().flatten() {
        let text = found.to_string();
        assert!(
            text.contains("worker 1 has failed: the disk is full") && text.contains("the barrier of a test"),
            "{text}"
        );
    }
}

/// The bytes of a part of these elements for each worker.
fn parts(elements: usize, workers: usize) -> Vec<Range<usize>> {
    runs(elements, workers).map(|part| 4 * part.start..4 * part.end).collect()
}

/// Odd messages between sums: numbers then lie anywhere in the links, also with a part at the end of a ring and the rest
/// at its beginning, and links hold less than a message.
#[test]
fn numbers_that_links_show_in_two_pieces() {
    for workers in [2_usize, 3] {
        let (done, all) = std::sync::mpsc::channel();
        for links in threads::group_with(workers, 64).unwrap() {
            let done = done.clone();
            thread::spawn(move || {
                odd_messages_between_sums(Communicator::new(Box::new(links)));
                done.send(()).unwrap();
            });
        }
        drop(done);
        for _ in 0..workers {
            all.recv_timeout(Duration::from_secs(60)).expect("a worker failed, or waits for ever");
        }
    }
}

fn odd_messages_between_sums(mut group: Communicator) {
    let (me, workers) = (group.worker(), group.workers());
    let tree = Tree::new(workers.next_power_of_two(), workers);
    let all_reduce = |elements: usize| -> Schedule {
        let parts = parts(elements, workers);
        canonical::reduce_scatter(&tree, &parts).then(gather::direct(&parts))
    };
    let slots = (0..workers).map(|worker| tree.subtrees(worker).count()).max().unwrap();
    let odd: Vec<_> = (0..workers).map(|worker| 3 * worker..3 * (worker + 1)).collect();
    let mut barrier = group.machine(&gather::direct(&odd));
    for elements in (1..80).chain([1_000]) {
        let mut flags = vec![me as u8; 3 * workers];
        group.run(&mut barrier, "a barrier", &mut [&mut flags]).unwrap();
        assert!(flags.chunks(3).enumerate().all(|(from, three)| three == [from as u8; 3]));
        // Each leaf's numbers are small and whole, so that their sum has no order.
        let mut vectors = vec![vec![0.0_f32; elements]; slots];
        for (slot, node) in tree.subtrees(me).enumerate() {
            for leaf in tree.leaves_of(node) {
                let numbers = (0..elements).map(|i| (leaf * 100 + i) as f32);
                vectors[slot].iter_mut().zip(numbers).for_each(|(sum, x)| *sum += x);
            }
        }
        let mut machine = group.machine(&all_reduce(elements));
        let mut bytes: Vec<&mut [u8]> =
            vectors.iter_mut().map(|vector| bytemuck::cast_slice_mut(vector)).collect();
        group.run(&mut machine, "a sum", &mut bytes).unwrap();
        let leaves = tree.leaves();
        let sum = |i| (leaves * (leaves - 1) / 2 * 100 + leaves * i) as f32;
        assert_eq!(vectors[0], (0..elements).map(sum).collect::<Vec<_>>());
    }
    group.leave(None);
}

/// All know the same of each pair's link, also those who took no part in measuring it.
#[test]
fn links_are_calibrated() {
    let all = together(3, |group| {
        let found = calibrate::calibrate(group, &[8, 4096], calibrate::Effort::FULL).unwrap();
        group.set_costs(Links::of_one_machine(3, found[0].link, found[0].add_byte_s));
        let mut bytes = vec![group.worker() as u8; 100_000];
        group.broadcast(1, &mut bytes, "a test").unwrap();
        assert_eq!(bytes, [1; 100_000]);
        found
    });
    assert!(all[0] == all[1] && all[0] == all[2]);
    assert_eq!(all[0].iter().map(|one| one.workers).collect::<Vec<_>>(), [[0, 1], [0, 2], [1, 2]]);
    for one in &all[0] {
        assert_eq!(one.samples.iter().map(|sample| sample.bytes).collect::<Vec<_>>(), [8, 4096]);
        let times = one.samples.iter().flat_map(|s| [s.one_way_s, s.added_s, s.stream_s]);
        assert!(times.into_iter().all(|seconds| seconds > 0.0 && seconds < 10.0));
        assert!(one.link.latency_s > 0.0 && one.link.gap_s <= one.link.latency_s);
    }
}
