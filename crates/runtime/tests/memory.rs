//! Programs whose memory cannot be had.

use outgrow_ir::{Builder, Dim, InputKind, TensorType};
use outgrow_runtime::{CompileOptions, CpuBackend, ThreadPool, compile};
use outgrow_tensor::DType;
use std::sync::Arc;

/// A value of 2^50 bytes, which is more than a process can address, between two kernels.
#[test]
fn an_arena_that_cannot_be_had_is_a_diagnostic() {
    let mut b = Builder::new("large");
    let many = Dim::Fixed(1 << 48);
    let x = b.input("x", InputKind::Feed, TensorType::new(DType::F32, [many]));
    let y = b.exp(x);
    let max = b.reduce_max(y, &[0]);
    let max = b.broadcast(max, &[many], &[]);
    let shifted = b.sub(y, max);
    let sum = b.reduce_sum(shifted, &[0]);
    b.output("sum", sum);
    let options = CompileOptions::new(Arc::new(ThreadPool::new(2)));
    let found = compile(&CpuBackend, &b.finish().unwrap(), 1, &options).unwrap_err();
    assert_eq!(found.0[0].code, "runtime.memory", "{found}");
    assert!(found.0[0].expected.is_some() && found.0[0].hint.is_some());
    assert!(found.to_string().contains("of memory for the program's arena"), "{found}");
}
