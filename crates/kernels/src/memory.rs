//! Aligned memory that a program owns: its arena, its constants and the threads' scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Alignment of all memory that programs own: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// `bytes` rounded up to a multiple of [`ALIGN`].
pub(crate) const fn align_up(bytes: usize) -> usize {
    bytes.div_ceil(ALIGN) * ALIGN
}

/// Zeroed bytes, aligned to 64, never moved or resized. Reading and writing goes through raw pointers, because
/// kernels of several threads write disjoint parts at the same time.
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is plain bytes owned by this value; whoever dereferences the pointer answers for races.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; `&AlignedBytes` only hands out the address.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    pub fn new(bytes: usize) -> Self {
        let bytes = align_up(bytes.max(1));
        let layout = Self::layout(bytes);
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGN).expect("a program's memory is smaller than the address space")
    }

    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.bytes)
    }
}
