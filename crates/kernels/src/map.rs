//! `Map`: fused elementwise work.

use crate::block::{BLOCK, BlockCode, BlockRun, BlockSource, Instr, Reg};
use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel, Scratch};
use crate::path::KernelPath;
use crate::view::View;

/// A block program run once per element of a loop space, with registers stored to outputs.
#[derive(Debug)]
pub struct Map {
    code: BlockCode,
    inputs: Vec<View>,
    outputs: Vec<View>,
}

impl Map {
    /// A map over the loop space `dims`. All views have these extents: inputs repeat elements through strides of
    /// zero (see [`View::broadcast`]). `outputs` says which registers are stored where; an output may be the very
    /// same view as an input.
    ///
    /// # Errors
    /// When the code is not well typed or the views do not have the extents `dims`.
    pub fn new(
        dims: &[usize],
        code: &[Instr],
        inputs: Vec<View>,
        outputs: Vec<(Reg, View)>,
    ) -> Result<Self, KernelError> {
        let code = BlockCode::new(&BlockSource {
            kernel: "map",
            dims,
            code,
            inputs: &inputs,
            outputs: &outputs,
            reduced: &[],
            keep: &[],
        })?;
        Ok(Self { code, inputs, outputs: outputs.into_iter().map(|(_, v)| v).collect() })
    }
}

impl Sealed for Map {}

impl Kernel for Map {
    fn name(&self) -> &'static str {
        "map"
    }

    fn prepare(&mut self, path: KernelPath) {
        self.code.prepare(path);
    }

    fn scratch(&self) -> Scratch {
        Scratch { per_thread: self.code.scratch_bytes(), shared: 0 }
    }

    fn reads(&self) -> Vec<&View> {
        self.inputs.iter().collect()
    }

    fn writes(&self) -> Vec<&View> {
        self.outputs.iter().collect()
    }

    fn in_place(&self) -> bool {
        true
    }

    fn flops(&self) -> u64 {
        self.code.total() as u64 * self.code.flops_per_element()
    }

    fn run(&self, cx: &Cx<'_>) {
        let total = self.code.total();
        cx.parallel(total.div_ceil(BLOCK), self.code.cost_ns(total), &|thread, range| {
            // SAFETY: the scratch memory of this thread is as large as `scratch` asks for and not in use; the views
            // were checked by the program's builder.
            let mut blocks = unsafe { BlockRun::start(&self.code, cx, cx.scratch(thread)) };
            for block in range {
                let first = block * BLOCK;
                // SAFETY: within the space; each block is run by one thread.
                unsafe { blocks.eval(first, BLOCK.min(total - first)) };
            }
        });
    }
}
