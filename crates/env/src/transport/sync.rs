//! What links within memory are built from: the standard library's, or under `--cfg loom` what the model checker puts in
//! its place to try every order in which threads can run (`tests/loom.rs`).

#[cfg(loom)]
pub(super) use loom::{
    cell::UnsafeCell,
    hint,
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    sync::{Arc, Mutex},
    thread,
};
#[cfg(not(loom))]
pub(super) use std::{
    hint,
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    sync::{Arc, Mutex},
    thread,
};
