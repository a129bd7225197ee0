//! Collectives over real links, by threads.

use outgrow_env::transport::threads;
use outgrow_runtime::collective::{Communicator, Schedule, Tree, canonical, gather, runs};
use std::ops::Range;
use std::time::Duration;

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
            std::thread::spawn(move || {
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
