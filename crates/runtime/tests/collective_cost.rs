//! What schedules cost: as closed formulas say, where there are any; and the choice among those with the same bits.

use outgrow_runtime::collective::cost::formula;
use outgrow_runtime::collective::{
    Link, Links, Schedule, Tree, broadcast, canonical, choose, everywhere, gather, hierarchical, pair, ring,
    runs,
};
use std::ops::Range;

const LINK: Link = Link { latency_s: 3e-5, byte_s: 2e-9, gap_s: 4e-6 };
const ADD: f64 = 3e-10;
const SIZES: [usize; 3] = [64 * 4, 64 << 10, 64 << 20];

fn parts(bytes: usize, workers: usize) -> Vec<Range<usize>> {
    runs(bytes / 4, workers).map(|run| 4 * run.start..4 * run.end).collect()
}

#[track_caller]
fn check(links: &Links, schedule: &Schedule, expect: f64) {
    let seconds = links.seconds(schedule);
    assert!((seconds - expect).abs() <= 1e-9 * expect, "{seconds} and not {expect}");
}

#[test]
fn a_message_takes_its_latency_and_its_bytes() {
    let links = Links::of_one_machine(3, LINK, ADD);
    check(&links, &Schedule::empty(3), 0.0);
    check(&links, &pair::send(2, 0, 3, 0..1000), LINK.latency_s + 1000.0 * LINK.byte_s);
    // Both ways at once is no more than one way, and there and back twice as much.
    check(&links, &pair::swap(2, 0, 3, 0..1000), LINK.latency_s + 1000.0 * LINK.byte_s);
    let there_and_back = pair::send(2, 0, 3, 0..1000).then(pair::send(0, 2, 3, 0..1000));
    check(&links, &there_and_back, 2.0 * (LINK.latency_s + 1000.0 * LINK.byte_s));
    // Whoever has done its part does not wait for others: worker 1 sends at once.
    let apart = pair::send(2, 0, 3, 0..1000).then(pair::send(1, 0, 3, 0..10));
    check(&links, &apart, LINK.latency_s + 1010.0 * LINK.byte_s);
}

#[test]
fn schedules_cost_what_their_formulas_say() {
    for workers in [2, 3, 4, 5, 8, 16] {
        let links = Links::of_one_machine(workers, LINK, ADD);
        for bytes in SIZES.map(|bytes| bytes / 64 * 4 * workers) {
            let (parts, m) = (parts(bytes, workers), bytes as f64);
            let expect = formula::ring_all_reduce(workers, m, LINK, ADD);
            check(&links, &ring::all_reduce(&parts), expect);
            check(&links, &gather::direct(&parts), formula::direct_gather(workers, m, LINK));
            if workers.is_power_of_two() {
                let tree = Tree::new(workers, workers);
                let halving = canonical::reduce_scatter(&tree, &parts).then(gather::doubling(&parts));
                check(&links, &halving, formula::halving_all_reduce(workers, m, LINK, ADD));
                let expect = formula::everywhere_all_reduce(workers, m, LINK, ADD);
                check(&links, &everywhere::all_reduce(&tree, 0..bytes), expect);
                let expect = formula::tree_broadcast(workers, m, LINK);
                check(&links, &broadcast::tree(workers - 1, workers, 0..bytes), expect);
            }
        }
    }
}

/// The ring's formula is the one that is found in books.
#[test]
fn the_ring_takes_two_rounds_for_each_other_worker() {
    let expect = 2.0 * 3.0 * (LINK.latency_s + 1e6 / 4.0 * LINK.byte_s);
    assert!((formula::ring_all_reduce(4, 1e6, LINK, 0.0) - expect).abs() < 1e-15);
}

/// Two workers on each of two machines, whose port they share: what both send to the other machine takes its turn.
#[test]
fn workers_of_a_machine_share_its_port() {
    let fast = Link { latency_s: 1e-6, byte_s: 1e-10, gap_s: 1e-7 };
    let links = Links { machines: vec![0, 0, 1, 1], inside: fast, between: LINK, add_byte_s: 0.0 };
    let across = pair::send(0, 2, 4, 0..1000).beside(pair::send(1, 3, 4, 0..1000));
    check(&links, &across, LINK.gap_s + LINK.latency_s + 2000.0 * LINK.byte_s);
    let inside = pair::send(0, 1, 4, 0..1000).beside(pair::send(2, 3, 4, 0..1000));
    check(&links, &inside, fast.latency_s + 1000.0 * fast.byte_s);
}

#[test]
fn the_choice_is_the_cheapest_and_changes_with_the_links() {
    for workers in [1, 2, 3, 4, 7, 8] {
        for (latency_s, gap_s) in [(1e-6, 1e-7), (1e-5, 1e-5), (1e-2, 1e-6)] {
            let links = Links::of_machines(workers, Link { latency_s, byte_s: 1e-9, gap_s }, ADD);
            for bytes in SIZES {
                let parts = parts(bytes, workers);
                let all = [gather::direct(&parts), gather::doubling(&parts), gather::ring(&parts)];
                let chosen = choose::all_gather(&parts, &links);
                assert!(all.contains(&chosen));
                assert!(all.iter().all(|one| links.seconds(&chosen) <= links.seconds(one)));
                let chosen = choose::broadcast(workers - 1, 0..bytes, &links);
                let all = [broadcast::tree, broadcast::scattered];
                let all = all.map(|broadcast| broadcast(workers - 1, workers, 0..bytes));
                assert!(all.contains(&chosen));
                assert!(all.iter().all(|one| links.seconds(&chosen) <= links.seconds(one)));
                let tree = Tree::new(8, workers);
                let chosen = choose::all_reduce(&tree, 0..bytes / 4, &links);
                chosen.check(bytes).unwrap();
                let plain = canonical::reduce_scatter(&tree, &parts).then(gather::direct(&parts));
                let at_once = everywhere::all_reduce(&tree, 0..bytes);
                assert!(links.seconds(&chosen) <= links.seconds(&plain).min(links.seconds(&at_once)));
            }
        }
    }
    // Where messages keep their senders, few of them are better, if they are short.
    let busy = Links::of_machines(8, Link { latency_s: 1e-5, byte_s: 1e-9, gap_s: 1e-5 }, 0.0);
    assert_eq!(choose::all_gather(&parts(64, 8), &busy), gather::doubling(&parts(64, 8)));
    assert_eq!(choose::broadcast(0, 0..64, &busy), broadcast::tree(0, 8, 0..64));
    assert_eq!(choose::broadcast(0, 0..64 << 20, &busy), broadcast::scattered(0, 8, 0..64 << 20));
    // Where they only travel for long, all of them travel at once.
    let far = Links::of_machines(8, Link { latency_s: 1e-2, byte_s: 1e-9, gap_s: 1e-6 }, 0.0);
    assert_eq!(choose::all_gather(&parts(64, 8), &far), gather::direct(&parts(64, 8)));
    let tree = Tree::new(8, 8);
    assert_eq!(choose::all_reduce(&tree, 0..16, &far), everywhere::all_reduce(&tree, 0..64));
    assert_ne!(choose::all_reduce(&tree, 0..16 << 20, &far), everywhere::all_reduce(&tree, 0..64 << 20));
}

/// Four workers on each of two machines with slow links between them: what crosses is what counts.
#[test]
fn workers_of_a_machine_gather_for_each_other() {
    let fast = Link { latency_s: 1e-6, byte_s: 1e-10, gap_s: 1e-7 };
    let links =
        Links { machines: vec![0, 0, 0, 0, 1, 1, 1, 1], inside: fast, between: LINK, add_byte_s: ADD };
    let bytes = 64 << 20;
    let parts = parts(bytes, 8);
    let gathered = hierarchical::all_gather(&parts, &links.machines);
    assert_eq!(choose::all_gather(&parts, &links), gathered);
    let flat = [gather::direct(&parts), gather::doubling(&parts), gather::ring(&parts)];
    let least = flat.iter().map(|flat| links.seconds(flat)).fold(f64::INFINITY, f64::min);
    assert!(links.seconds(&gathered) < 0.8 * least, "{} and {least}", links.seconds(&gathered));
    let tree = Tree::new(8, 8);
    let deep = hierarchical::all_reduce(&tree, &parts, &links.machines);
    let chosen = choose::all_reduce(&tree, 0..bytes / 4, &links);
    assert!(links.seconds(&chosen) <= links.seconds(&deep));
}
