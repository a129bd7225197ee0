//! Aligned memory that programs and their instances own: constants, arenas and the threads' scratch.

use crate::error::KernelError;
use memmap2::{MmapMut, MmapOptions};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Alignment of all memory that programs and instances own: a cache line, and the widest vector.
pub(crate) const ALIGN: usize = 64;

/// From so many bytes on, memory is asked for in huge pages, which Linux gives where it can. A program reads and writes
/// several streams at once, in pieces; with pages of 4 KiB, their addresses alone took up to half of the time of
/// elementwise work.
const HUGE: usize = 4 << 20;

/// `bytes` rounded up to a multiple of [`ALIGN`]. What is too long for that stays too long to be had: sizes saturate,
/// and [`AlignedBytes::new`] refuses them.
pub(crate) const fn align_up(bytes: usize) -> usize {
    bytes.div_ceil(ALIGN).saturating_mul(ALIGN)
}

/// Zeroed bytes, aligned to 64, never moved or resized. Reading and writing goes through raw pointers, because
/// kernels of several threads write disjoint parts at the same time.
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    layout: Layout,
    /// Where the system gave pages, and not the allocator.
    pages: Option<MmapMut>,
}

// SAFETY: the memory is plain bytes owned by this value; whoever dereferences the pointer answers for races.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above; `&AlignedBytes` only hands out the address.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `bytes` zeroed bytes, which are `what` of a program.
    ///
    /// # Errors
    /// When the system does not give them.
    pub fn new(what: &'static str, bytes: usize) -> Result<Self, KernelError> {
        let refused = || KernelError::Allocation { what, bytes };
        let layout = Layout::from_size_align(align_up(bytes.max(1)), ALIGN).map_err(|_| refused())?;
        if layout.size() >= HUGE {
            let mut pages = MmapOptions::new().len(layout.size()).map_anon().map_err(|_| refused())?;
            // A wish: where it is not granted, pages are small.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            let start = NonNull::new(pages.as_mut_ptr()).ok_or_else(refused)?;
            return Ok(Self { start, layout, pages: Some(pages) });
        }
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(refused)?;
        Ok(Self { start, layout, pages: None })
    }

    /// The first byte.
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub fn bytes(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.pages.is_none() {
            // SAFETY: allocated in `new` with this very layout.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.bytes())
    }
}

/// Memory of the host that buffers are made of: zeroed bytes, aligned to 64.
#[derive(Debug)]
pub struct HostMemory {
    memory: AlignedBytes,
    bytes: usize,
}

impl HostMemory {
    /// So many zeroed bytes.
    ///
    /// # Errors
    /// When the system does not give them.
    pub fn new(bytes: usize) -> Result<Self, KernelError> {
        Ok(Self { memory: AlignedBytes::new("buffers", bytes)?, bytes })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `memory` is at least `bytes` long and was zeroed; nobody else knows it, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.memory.start(), self.bytes) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above; `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start(), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_cannot_be_had_is_refused() {
        for bytes in [usize::MAX, usize::MAX - 62, isize::MAX as usize, isize::MAX as usize - 63, 1 << 61] {
            let refused = KernelError::Allocation { what: "arena", bytes };
            // Memory that nobody looks at may be optimised away, and with it the refusal.
            let given = std::hint::black_box(AlignedBytes::new("arena", bytes));
            assert_eq!(given.map(|_| ()), Err(refused));
        }
        for (bytes, rounded) in
            [(0, 64), (1, 64), (64, 64), (65, 128), (HUGE - 1, HUGE), (HUGE + 1, HUGE + 64)]
        {
            assert_eq!(AlignedBytes::new("arena", bytes).unwrap().bytes(), rounded);
        }
    }
}
