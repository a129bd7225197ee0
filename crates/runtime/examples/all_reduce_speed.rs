//! Measures all-reduces of f32 between workers that are processes (or threads, with `threads`) of one machine:
//! `cargo run --release -p outgrow-runtime --example all_reduce_speed [threads|tcp|tls] [WORKERS] [BYTES_OF_A_PIECE...]`.
//! Each
//! line is for one algorithm and one size of pieces, by which a vector goes through its rounds one after the other, and has
//! the middle of the first worker's times, each taken after a barrier.
#![allow(clippy::print_stdout)]

use outgrow_env::Transport;
use outgrow_env::transport::tcp::{self, Identity, Rendezvous, Settings, Token};
use outgrow_env::transport::{shared_memory, threads};
use outgrow_runtime::collective::{Communicator, Schedule, Tree, canonical, gather, ring, runs};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [4 << 10, 1 << 20, 64 << 20];

/// These elements' bytes cut into a part for each worker.
fn parts(elements: Range<usize>, workers: usize) -> Vec<Range<usize>> {
    let bytes = |part: Range<usize>| 4 * (elements.start + part.start)..4 * (elements.start + part.end);
    runs(elements.len(), workers).map(bytes).collect()
}

/// A vector in pieces, each with a schedule for its parts.
fn in_pieces(
    bytes: usize,
    piece: usize,
    workers: usize,
    of: impl Fn(&[Range<usize>]) -> Schedule,
) -> Schedule {
    let elements = bytes / 4;
    let pieces = runs(elements, bytes.div_ceil(piece));
    Schedule::staggered(workers, pieces.map(|elements| of(&parts(elements, workers))))
}

fn measure(links: Box<dyn Transport>, pieces: &[usize]) {
    let mut group = Communicator::new(links);
    let (first, workers) = (group.worker() == 0, group.workers());
    let tree = Tree::new(workers.next_power_of_two(), workers);
    let slots = (0..workers).map(|worker| tree.subtrees(worker).count()).max().unwrap_or(1);
    let mut vectors = vec![vec![1.0_f32; SIZES[2] / 4]; slots];
    let byte: Vec<_> = (0..workers).map(|worker| worker..worker + 1).collect();
    let mut barrier = group.machine(&gather::direct(&byte));
    let mut flags = vec![0; workers];
    for bytes in SIZES {
        let canonical =
            |parts: &[Range<usize>]| canonical::reduce_scatter(&tree, parts).then(gather::doubling(parts));
        for piece in pieces.iter().map(|piece| (*piece).min(bytes)) {
            for (name, schedule) in [
                ("canonical", in_pieces(bytes, piece, workers, canonical)),
                ("ring", in_pieces(bytes, piece, workers, ring::all_reduce)),
            ] {
                schedule.check(bytes).expect("a sound schedule");
                let mut machine = group.machine(&schedule);
                let rounds = ((1 << 30) / bytes).clamp(12, 400);
                let mut seconds: Vec<f64> = (0..rounds)
                    .map(|_| {
                        group.run(&mut barrier, "a barrier", &mut [&mut flags]).expect("all are there");
                        let mut slots: Vec<&mut [u8]> = vectors
                            .iter_mut()
                            .map(|v| bytemuck::cast_slice_mut(&mut v[..bytes / 4]))
                            .collect();
                        let start = Instant::now();
                        group.run(&mut machine, "a sum", &mut slots).expect("all are there");
                        start.elapsed().as_secs_f64()
                    })
                    .collect();
                seconds.sort_by(f64::total_cmp);
                let median = seconds[rounds / 2];
                let bus = 2.0 * bytes as f64 * (workers - 1) as f64 / workers as f64 / median / 1e9;
                if first {
                    let (us, best) = (median * 1e6, seconds[0] * 1e6);
                    println!(
                        "{bytes:>9} {name:>10} {piece:>9} | {us:10.1} us (best {best:10.1}) | {bus:6.2} GB/s"
                    );
                }
            }
        }
    }
    group.leave(None);
}

/// The first worker of processes that are linked over TCP, or one that joins by the file at `path`.
fn measure_tcp(path: Option<&Path>, encrypted: bool, workers: usize, pieces: &[usize]) {
    let patience = Duration::from_secs(10);
    if let Some(path) = path {
        let (address, settings) = tcp::read_join_file(path).expect("a file to join with");
        let joined = tcp::join(address, None, b"", &settings, patience).expect("the links");
        return measure(Box::new(joined.links), pieces);
    }
    let mut settings = Settings::new(Token::random().expect("random numbers"));
    if encrypted {
        settings.identity = Some(Arc::new(Identity::random().expect("random numbers")));
    }
    let mut rendezvous = Rendezvous::listen("127.0.0.1:0", workers, settings.clone()).expect("a port");
    let address = rendezvous.address().expect("a port").to_string();
    let path = std::env::temp_dir().join(format!("all-reduce-{}.toml", std::process::id()));
    tcp::write_join_file(&path, &address, &settings).expect("a file");
    let child = |worker: usize| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let numbers = pieces.iter().map(usize::to_string);
        command
            .args(["tcp", "join"])
            .arg(&path)
            .arg(worker.to_string())
            .arg(workers.to_string())
            .args(numbers);
        command.spawn().expect("a process")
    };
    let children: Vec<_> = (1..workers).map(child).collect();
    assert!(rendezvous.wait(patience, &mut |_| Ok(())).expect("the others"));
    std::fs::remove_file(&path).expect("the file is there");
    measure(Box::new(rendezvous.finish(b"").expect("the others")), pieces);
    children.into_iter().for_each(|mut child| assert!(child.wait().expect("its end").success()));
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut word = |word: &str| {
        let at = arguments.iter().position(|argument| argument == word);
        at.map(|at| arguments.remove(at)).is_some()
    };
    let (as_threads, joins) = (word("threads"), word("join"));
    let (over_tcp, over_tls) = (word("tcp"), word("tls"));
    let path = if joins { arguments.remove(0) } else { String::new() };
    let mut numbers = arguments.iter().map(|argument| argument.parse::<usize>().expect("a number"));
    let me = if joins { numbers.next().expect("a worker") } else { 0 };
    let workers = numbers.next().unwrap_or(2);
    let mut pieces: Vec<usize> = numbers.collect();
    if pieces.is_empty() {
        pieces = vec![64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20, usize::MAX];
    }
    if over_tcp || over_tls {
        measure_tcp(joins.then(|| Path::new(&path)), over_tls, workers, &pieces);
    } else if joins {
        measure(Box::new(shared_memory::join(Path::new(&path), me).expect("the links")), &pieces);
    } else if as_threads {
        std::thread::scope(|scope| {
            for link in threads::group(workers).expect("memory") {
                scope.spawn(|| measure(Box::new(link), &pieces));
            }
        });
    } else {
        let folder = Path::new("/dev/shm");
        let temporary = std::env::temp_dir();
        let link = shared_memory::create(if folder.is_dir() { folder } else { &temporary }, workers)
            .expect("memory");
        let child = |worker: usize| {
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command.arg("join").arg(link.path()).arg(worker.to_string()).arg(workers.to_string());
            command.args(pieces.iter().map(usize::to_string)).spawn().expect("a process")
        };
        let children: Vec<_> = (1..workers).map(child).collect();
        measure(Box::new(link), &pieces);
        children.into_iter().for_each(|mut child| assert!(child.wait().expect("its end").success()));
    }
}
