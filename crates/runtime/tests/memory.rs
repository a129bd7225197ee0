//! Programs whose memory cannot be had.

use outgrow_ir::{Builder, Dim, Graph, InputRole, TensorType};
use outgrow_runtime::{Backend, CompileOptions, CpuBackend, ThreadPool, compile, plan};
use outgrow_tensor::DType;
use std::sync::Arc;

/// `sum(x^x - max(x^x))`, where x^x lies between two kernels: it takes too long to be computed by both.
fn graph(elements: usize) -> Graph {
    let mut b = Builder::new("large");
    let many = Dim::Fixed(elements);
    let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [many]));
    let y = b.pow(x, x);
    let max = b.reduce_max(y, &[0]);
    let max = b.broadcast(max, &[many], &[]);
    let shifted = b.sub(y, max);
    let sum = b.reduce_sum(shifted, &[0]);
    b.output("sum", sum);
    b.finish().unwrap()
}

/// A value of 2^50 bytes, which is more than a process can address, between two kernels.
#[test]
fn an_arena_that_cannot_be_had_is_a_diagnostic() {
    let (backend, options) = (CpuBackend::new(Arc::new(ThreadPool::new(2))), CompileOptions::default());
    // Compiling takes none of it.
    let compiled = compile(&backend, &graph(1 << 48), 1, &options).unwrap();
    let found = backend.instance(&compiled).unwrap_err();
    assert_eq!(found.code, "runtime.memory", "{found}");
    assert!(found.expected.is_some() && found.hint.is_some());
    assert!(found.to_string().contains("of memory for the program's arena"), "{found}");
}

#[test]
fn a_program_is_planned_before_it_is_built() {
    let (backend, mut options) = (CpuBackend::new(Arc::new(ThreadPool::new(2))), CompileOptions::default());
    let needed = plan(&backend, &graph(1000), 1, &options).unwrap().bytes();
    assert!(needed >= 4000);
    options.memory = Some(needed);
    assert_eq!(compile(&backend, &graph(1000), 1, &options).unwrap().memory.bytes(), needed);
    options.memory = Some(needed - 1);
    let found = compile(&backend, &graph(1000), 1, &options).unwrap_err();
    assert_eq!(found.0[0].code, "runtime.memory", "{found}");
    // What no system has can be planned all the same.
    assert!(plan(&backend, &graph(1 << 58), 1, &options).unwrap().bytes() >= 1 << 60);
}
