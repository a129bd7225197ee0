//! Uniform random numbers from counter-based streams.

use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel};
use crate::path::{KernelPath, by_vectors};
use crate::view::View;
use outgrow_tensor::{DType, RngKey};

/// Numbers in `[0, 1)`: element `i` in row-major order is `RngKey::uniform_at(i)` of the key whose bits are read when
/// it runs, with a constant stream number folded in.
#[derive(Debug)]
pub struct RandomUniform {
    key: View,
    out: View,
    stream: u64,
    path: KernelPath,
}

/// Numbers that a task computes.
const TASK: usize = 4096;

impl RandomUniform {
    /// From the i64 `key` (one element) to the row-major f32 view `out`.
    ///
    /// # Errors
    /// When extents, element types or layout are others.
    pub fn new(key: View, out: View, stream: u64) -> Result<Self, KernelError> {
        if key.dtype != DType::I64 || key.elements() != 1 {
            return Err(KernelError::operand("random_uniform", format!("the key {key} should be one i64")));
        }
        if out.dtype != DType::F32 || !out.is_row_major() {
            return Err(KernelError::operand(
                "random_uniform",
                format!("{out} should be f32 in row-major order"),
            ));
        }
        Ok(Self { key, out, stream, path: KernelPath::Portable })
    }
}

impl Sealed for RandomUniform {}

impl Kernel for RandomUniform {
    fn name(&self) -> &'static str {
        "random_uniform"
    }
    fn prepare(&mut self, path: KernelPath) {
        self.path = path;
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.key]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.out]
    }
    fn flops(&self) -> u64 {
        15 * self.out.elements() as u64
    }
    fn run(&self, cx: &Cx<'_>) {
        let n = self.out.elements();
        // SAFETY: the view was checked and has one element.
        let bits = unsafe { *cx.origin(&self.key).cast::<i64>() };
        let key = RngKey::new(bits as u64).fold_in(self.stream);
        cx.parallel(n.div_ceil(TASK), n / 2, &|_, range| {
            let numbers = range.start * TASK..(range.end * TASK).min(n);
            // SAFETY: the view is row-major and was checked; each element is written by one thread.
            let out = unsafe {
                let start = cx.origin(&self.out).cast::<f32>().add(numbers.start);
                std::slice::from_raw_parts_mut(start, numbers.len())
            };
            // SAFETY: the program's builder found the path supported.
            unsafe { fill(self.path)(key, (numbers.start / 4) as u64, out) };
        });
    }
}

by_vectors! {
    /// What fills `out` with the numbers from position `4 * first` on.
    fn fill -> fn(key: RngKey, first: u64, out: &mut [f32]);
    portable fill_blocks(key, first, out);
    avx2 fill_blocks(key, first, out);
    avx512 fill_blocks(key, first, out);
}

/// Blocks of the stream that are computed side by side.
const LANES: usize = 16;

#[inline(always)]
fn fill_blocks(key: RngKey, first: u64, out: &mut [f32]) {
    let number = |bits: u32| (bits >> 8) as f32 * (1.0 / 16_777_216.0);
    let mut runs = out.chunks_exact_mut(4 * LANES);
    let mut at = first;
    for run in &mut runs {
        let words = blocks(key.bits(), at);
        for (i, four) in run.chunks_exact_mut(4).enumerate() {
            for (x, word) in four.iter_mut().zip(&words) {
                *x = number(word[i]);
            }
        }
        at += LANES as u64;
    }
    for (i, chunk) in runs.into_remainder().chunks_mut(4).enumerate() {
        for (x, bits) in chunk.iter_mut().zip(key.block(at + i as u64)) {
            *x = number(bits);
        }
    }
}

/// [`RngKey::block`] of the positions `first..first + LANES`: Philox4x32-10, word by word, so that every step is the
/// same for all lanes.
#[inline(always)]
fn blocks(key: u64, first: u64) -> [[u32; LANES]; 4] {
    const MUL: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let mut words = [[0u32; LANES]; 4];
    for i in 0..LANES {
        let position = first + i as u64;
        (words[0][i], words[1][i]) = (position as u32, (position >> 32) as u32);
    }
    let mut key = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        let [w0, w1, w2, w3] = words;
        for i in 0..LANES {
            let (a, b) = (MUL[0] * u64::from(w0[i]), MUL[1] * u64::from(w2[i]));
            words[0][i] = (b >> 32) as u32 ^ w1[i] ^ key[0];
            words[1][i] = b as u32;
            words[2][i] = (a >> 32) as u32 ^ w3[i] ^ key[1];
            words[3][i] = a as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}
