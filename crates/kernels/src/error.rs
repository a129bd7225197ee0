//! What can go wrong when kernels and programs are built and run.

use outgrow_tensor::DType;
use thiserror::Error;

/// Why a kernel or a program cannot be built.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelError {
    /// The operands of a kernel do not fit together.
    #[error("{kernel}: {what}")]
    Operand {
        /// Name of the kernel.
        kernel: &'static str,
        /// What is wrong, naming the operand and what was expected.
        what: String,
    },
    /// An operand has an element type that the kernel cannot compute with.
    #[error("{kernel}: {operand} has element type {dtype}, expected {expected}")]
    DType {
        /// Name of the kernel.
        kernel: &'static str,
        /// The operand or instruction.
        operand: String,
        /// The element type it has.
        dtype: DType,
        /// The types that would do.
        expected: String,
    },
    /// A kernel of a program refers to memory it must not touch.
    #[error("kernel {index} ({kernel}): {what}")]
    Memory {
        /// Position of the kernel in the program.
        index: usize,
        /// Name of the kernel.
        kernel: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The system does not give the memory that a program needs.
    #[error("{bytes} bytes for the program's {what} cannot be had")]
    Allocation {
        /// What the memory is for.
        what: &'static str,
        /// How much was asked for.
        bytes: usize,
    },
    /// The processor lacks what a forced SIMD path needs.
    #[error("this processor does not support the {path} path; supported: {supported}")]
    Path {
        /// The path asked for.
        path: &'static str,
        /// The paths that would work.
        supported: String,
    },
}

impl KernelError {
    pub(crate) fn operand(kernel: &'static str, what: impl Into<String>) -> Self {
        Self::Operand { kernel, what: what.into() }
    }

    pub(crate) fn dtype(
        kernel: &'static str,
        operand: impl Into<String>,
        dtype: DType,
        expected: impl Into<String>,
    ) -> Self {
        Self::DType { kernel, operand: operand.into(), dtype, expected: expected.into() }
    }
}

/// Why a run of a program was refused or stopped. The contents of writable buffers are then unspecified.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// The buffers given do not match those declared.
    #[error("buffer {index}: {what}")]
    Buffer {
        /// Position among the external buffers.
        index: usize,
        /// What is wrong.
        what: String,
    },
    /// The instance was made for another program.
    #[error("the instance is that of another program")]
    Instance,
    /// The pool has more threads than the instance has scratch memory for, and the system does not give more.
    #[error("{bytes} bytes of scratch memory for the pool's threads cannot be had")]
    Allocation {
        /// How much was asked for.
        bytes: usize,
    },
    /// An index read from a buffer lies outside the table it points into.
    #[error("kernel {kernel}: index {value} at position {position} is outside 0..{limit}")]
    IndexOutOfRange {
        /// Position of the kernel in the program.
        kernel: usize,
        /// Position of the bad index in row-major order.
        position: usize,
        /// The bad index.
        value: i64,
        /// Number of rows of the table.
        limit: usize,
    },
}
