//! Uniform random numbers from counter-based streams.

use crate::error::KernelError;
use crate::kernel::{Cx, Kernel};
use crate::view::View;
use outgrow_tensor::{DType, RngKey};

/// Numbers in `[0, 1)`: element `i` in row-major order is `RngKey::uniform_at(i)` of the key whose bits are read when
/// it runs, with a constant stream number folded in.
#[derive(Debug)]
pub struct RandomUniform {
    key: View,
    out: View,
    stream: u64,
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
        Ok(Self { key, out, stream })
    }
}

impl Kernel for RandomUniform {
    fn name(&self) -> &'static str {
        "random_uniform"
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
        cx.parallel(n.div_ceil(TASK), n * 3, &|_, range| {
            let numbers = range.start * TASK..(range.end * TASK).min(n);
            // SAFETY: the view is row-major and was checked; each element is written by one thread.
            let out = unsafe {
                let start = cx.origin(&self.out).cast::<f32>().add(numbers.start);
                std::slice::from_raw_parts_mut(start, numbers.len())
            };
            fill(key, (numbers.start / 4) as u64, out);
        });
    }
}

/// Fills `out` with the numbers from position `4 * first` on.
fn fill(key: RngKey, first: u64, out: &mut [f32]) {
    for (i, chunk) in out.chunks_mut(4).enumerate() {
        let block = key.block(first + i as u64);
        for (x, bits) in chunk.iter_mut().zip(block) {
            *x = (bits >> 8) as f32 * (1.0 / 16_777_216.0);
        }
    }
}
