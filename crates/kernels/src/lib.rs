//! CPU kernels and their run-time dispatch: a small virtual machine for compiled steps.
//!
//! A [`Program`] is a list of kernels over numbered buffers. [`ProgramBuilder::build`] checks every operand once;
//! [`Program::run`] then executes the kernels in order, with nothing allocated, looked up or decided in between.
//! A program never changes; what a run writes to is an [`Instance`], and its threads are a [`ThreadPool`].
//! Kernels take [`View`]s (strided parts of buffers) and never own data. This crate knows nothing of graphs.
//!
//! ```
//! use outgrow_kernels::{BinaryOp, BufferRef, Instr, KernelPath, Map, ProgramBuilder, ThreadPool, View};
//! use outgrow_tensor::DType;
//!
//! let pool = ThreadPool::new(2);
//! let mut builder = ProgramBuilder::new(KernelPath::detect());
//! let x = builder.input(4 * 6);
//! let bias = builder.input(4 * 3);
//! let y = builder.output(4 * 6);
//! let dims = [2, 3];
//! builder.push(Map::new(
//!     &dims,
//!     &[Instr::Load(0), Instr::Load(1), Instr::Binary(BinaryOp::Add, 0, 1)],
//!     vec![View::whole(x, DType::F32, dims), View::whole(bias, DType::F32, [3]).broadcast(&dims, &[1])],
//!     vec![(2, View::whole(y, DType::F32, dims))],
//! )?);
//! let program = builder.build()?;
//! let mut instance = program.instance(pool.threads())?;
//! let mut result = [0f32; 6];
//! program.run(&mut instance, &pool, [
//!     BufferRef::read(&[1f32, 2., 3., 4., 5., 6.]),
//!     BufferRef::read(&[10f32, 20., 30.]),
//!     BufferRef::write(&mut result),
//! ])?;
//! assert_eq!(result, [11., 22., 33., 14., 25., 36.]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants:
//! - The API is safe. All `unsafe` of the project's computing code is in here; each block says why it holds.
//! - Results are a function of (path, shapes, inputs), never of the number of threads: work is divided over outputs,
//!   and sums over long dimensions are cut into parts by the shape alone and combined by a fixed tree.
//! - Elementary functions are our own, never the C library's.
#![allow(unsafe_code)]
// Kernels index several arrays by one counter; iterators over one of them would hide that.
#![allow(clippy::needless_range_loop)]
#![warn(clippy::undocumented_unsafe_blocks)]

mod arg_max;
mod attention;
mod block;
mod conv;
mod error;
mod finish;
mod gather;
mod gemm;
mod instance;
mod kernel;
mod map;
mod matmul;
mod memory;
mod number;
mod path;
pub mod peak;
mod pool2d;
mod pool_pairs;
mod pool_rows;
mod program;
mod random;
mod rearrange;
mod reduce;
mod slices;
mod sync;
mod threads;
mod transpose;
mod view;
mod weight;
mod window;

pub use arg_max::ArgMax;
pub use attention::{Attention, AttentionGrad};
pub use block::{BinaryOp, CompareOp, Instr, Literal, ReduceOp, Reg, UnaryOp};
pub use conv::{Conv2d, Conv2dGradInput, Conv2dGradWeight};
pub use error::{KernelError, RunError};
pub use finish::Finish;
pub use gather::{Gather, ScatterAdd};
pub use instance::Instance;
pub use kernel::{Cx, Kernel, Scratch};
pub use map::Map;
pub use matmul::MatMul;
pub use memory::HostMemory;
pub use path::{KernelPath, Products};
pub use pool2d::{MaxPool2dGrad, Pool2d, PoolKind};
pub use program::{Access, BufferRef, Program, ProgramBuilder};
pub use random::RandomUniform;
pub use rearrange::copy;
pub use reduce::{Reduce, ReduceSpec};
pub use slices::{SUM_BLOCK, all_finite, tree_sum};
pub use threads::{ThreadPool, share};
pub use transpose::Transpose;
pub use view::{Slot, View};
pub use weight::Weight;
pub use window::{WINDOW_MAX, Window};
