//! Replays what fuzzing frames has found, and tries some thousand streams besides.

#[path = "../../../fuzz/properties/frames.rs"]
mod frames;
#[path = "../../../fuzz/properties/replay.rs"]
mod replay;

use outgrow_env::transport::frame::{Kind, frame};

#[test]
fn the_corpus_of_frames() {
    replay::replay("frames", frames::check);
}

/// Frames of random kinds and lengths, now and then with a wrong byte or cut short.
#[test]
fn streams_at_random() {
    let mut random = 1u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % n
    };
    for _ in 0..3000 {
        let mut stream: Vec<u8> = (0..3).map(|_| below(256) as u8).collect();
        for _ in 0..below(8) {
            let kind = if below(2) == 0 { Kind::Data } else { Kind::ALL[below(5) as usize] };
            let most = [3, 70, 1100, 4000][below(4) as usize];
            let content: Vec<u8> = (0..below(most)).map(|i| i as u8).collect();
            stream.extend(frame(kind, &content));
        }
        if below(2) == 0 {
            let at = below(stream.len() as u64) as usize;
            stream[at] = below(256) as u8;
        }
        let cut = if below(2) == 0 { below(8) as usize } else { 0 };
        stream.truncate(stream.len().saturating_sub(cut));
        frames::check(&stream);
    }
}
