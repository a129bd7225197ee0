//! Files of a corpus with small changes at random, from a seed: fuzzing without instrumentation, on any toolchain and as
//! part of the tests. `OUTGROW_MUTANTS=1000000` tries more than the tests do.

use std::panic::{RefUnwindSafe, catch_unwind};
use std::path::Path;

/// How many are tried where nothing else is said.
const MUTANTS: u64 = 2000;
/// Pieces on which readers stumble.
const PIECES: [&[u8]; 24] = [
    b"\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"-",
    b"e",
    b".",
    b"null",
    b"true",
    b"NaN",
    b"1e999",
    b"-0",
    b"0.1",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"\\u0000",
    b"\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\x7f",
    b"\n",
    b"[[[[[[[[",
];

/// Numbers at random from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// Runs `check` on the files of the corpus of `target` and on changed ones.
pub fn mutants(target: &str, check: impl Fn(&[u8]) + RefUnwindSafe) {
    let count = std::env::var("OUTGROW_MUTANTS").ok().map_or(MUTANTS, |n| n.parse().expect("a number"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a corpus can be listed").path()).collect();
    paths.sort();
    let mut files: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect();
    // The long ones would take all the time.
    files.retain(|file| file.len() <= 1 << 14);
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for seed in 0..count {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
        let mut file = files[random.below(files.len())].clone();
        for _ in 0..=random.below(4) {
            change(&mut file, &files, &mut random);
        }
        let done = catch_unwind(|| check(&file));
        assert!(done.is_ok(), "mutant {seed} of {target} fails: {:?}", String::from_utf8_lossy(&file));
    }
}

fn change(file: &mut Vec<u8>, files: &[Vec<u8>], random: &mut Random) {
    let at = random.below(file.len() + 1);
    let end = (at + 1 + random.below(16)).min(file.len());
    match random.below(7) {
        0 if at < file.len() => file[at] ^= 1 << random.below(8),
        1 if at < file.len() => file[at] = random.below(256) as u8,
        2 => drop(file.drain(at..end)),
        3 => {
            let piece = file[at..end].to_vec();
            file.splice(at..at, piece);
        }
        4 => drop(file.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        5 => {
            let other = &files[random.below(files.len())];
            let from = random.below(other.len() + 1);
            file.truncate(at);
            file.extend_from_slice(&other[from..]);
        }
        _ => {
            // A number or a word in place of another.
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
            let end = at + file[at..].iter().take_while(|byte| is_word(byte)).count();
            drop(file.splice(at..end, PIECES[random.below(PIECES.len())].iter().copied()));
        }
    }
}
