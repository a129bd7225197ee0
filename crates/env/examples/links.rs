//! How fast links within a machine are: `cargo run --release -p outgrow-env --example links [BYTES_OF_A_LINK...]`. Each
//! line has the time of one message (half of a round trip), and the bytes per second of long ones, one way and both ways at
//! once, between two threads and between two processes, beside a copy in memory of the same size.
#![allow(clippy::print_stdout)]

use outgrow_env::Transport;
use outgrow_env::transport::{shared_memory, threads};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const A_WHILE: Duration = Duration::from_secs(10);
const SHORT: [usize; 2] = [8, 4 << 10];
const LONG: [usize; 2] = [1 << 20, 64 << 20];

/// Moves what is left of a message each way; both at once, as far as there is room.
fn exchange(link: &mut dyn Transport, out: &[u8], into: &mut [u8]) {
    let other = 1 - link.worker();
    let (mut sent, mut got) = (0, 0);
    while sent < out.len() || got < into.len() {
        let mut moved = 0;
        if sent < out.len() {
            let count = link.send(other, &out[sent..]).unwrap();
            sent += count;
            moved += count;
        }
        if got < into.len() {
            let come = link.received(other).unwrap();
            let count = come.len().min(into.len() - got);
            into[got..got + count].copy_from_slice(&come[..count]);
            link.take(other, count);
            got += count;
            moved += count;
        }
        if moved == 0 {
            link.wait(A_WHILE).unwrap();
        }
    }
}

fn rounds(bytes: usize) -> usize {
    ((1 << 29) / bytes).clamp(16, 4_000)
}

/// The middle one of the seconds that each call takes.
fn median(rounds: usize, mut call: impl FnMut()) -> f64 {
    let mut seconds: Vec<_> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[rounds / 2]
}

/// What both ends do, in the same order; the first one prints.
fn measure(link: &mut dyn Transport, capacity: usize) {
    let first = link.worker() == 0;
    let mut buffers = (vec![1; LONG[1]], vec![0; LONG[1]]);
    let mut line = format!("{:>14} {:>8} |", link.name(), capacity);
    for bytes in SHORT {
        let (out, into) = (&buffers.0[..bytes], &mut buffers.1[..bytes]);
        let seconds = median(rounds(bytes), || {
            if first {
                exchange(link, out, &mut []);
                exchange(link, &[], into);
            } else {
                exchange(link, &[], into);
                exchange(link, out, &mut []);
            }
        });
        line += &format!(" {:8.2}", seconds / 2.0 * 1e6);
    }
    line += " |";
    for both in [false, true] {
        for bytes in LONG {
            let (out, into) = (&buffers.0[..bytes], &mut buffers.1[..bytes]);
            let seconds = median(rounds(bytes), || match (both, first) {
                (true, _) => exchange(link, out, into),
                (false, true) => {
                    exchange(link, out, &mut []);
                    exchange(link, &[], &mut into[..1]);
                }
                (false, false) => {
                    exchange(link, &[], into);
                    exchange(link, &out[..1], &mut []);
                }
            });
            line += &format!(" {:8.2}", bytes as f64 / seconds / 1e9);
        }
    }
    if first {
        println!("{line}");
    }
    link.leave(None);
}

/// Copies in memory, by one thread and by two at once.
fn copies() -> String {
    let mut line = format!("{:>14} {:>8} | {:8} {:8} |", "memory copy", "", "", "");
    for threads in [1, 2] {
        for bytes in LONG {
            let start = std::sync::Barrier::new(threads);
            let copy = || {
                let (from, mut to) = (vec![1_u8; bytes], vec![0_u8; bytes]);
                median(rounds(bytes), || {
                    start.wait();
                    black_box(&mut to).copy_from_slice(black_box(&from));
                })
            };
            let seconds = std::thread::scope(|scope| {
                let others: Vec<_> = (1..threads).map(|_| scope.spawn(copy)).collect();
                others.into_iter().fold(copy(), |all, other| all.max(other.join().unwrap()))
            });
            line += &format!(" {:8.2}", bytes as f64 / seconds / 1e9);
        }
    }
    line
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [word, path, capacity] = &arguments[..]
        && word == "join"
    {
        measure(&mut shared_memory::join(Path::new(path), 1).unwrap(), capacity.parse().unwrap());
        return;
    }
    let mut capacities: Vec<usize> =
        arguments.iter().map(|a| a.parse().expect("a number of bytes")).collect();
    if capacities.is_empty() {
        capacities = (16..=20).map(|power| 1 << power).collect();
    }
    println!(
        "{:>14} {:>8} | us: {:>4} {:>8} | GB/s one way: 1 MiB, 64 MiB; both ways: 1 MiB, 64 MiB",
        "", "", 8, 4096
    );
    println!("{}", copies());
    for capacity in capacities {
        let [mut one, mut other] = <[_; 2]>::try_from(threads::group_with(2, capacity).unwrap()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || measure(&mut other, capacity));
            measure(&mut one, capacity);
        });
        let folder = Path::new("/dev/shm");
        let temporary = std::env::temp_dir();
        let folder = if folder.is_dir() { folder } else { &temporary };
        let mut one = shared_memory::create_with(folder, 2, capacity).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("join")
            .arg(one.path())
            .arg(capacity.to_string())
            .spawn()
            .unwrap();
        measure(&mut one, capacity);
        assert!(child.wait().unwrap().success());
    }
}
