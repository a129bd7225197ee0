//! The SIMD paths: which instructions the kernels may use, detected at run time.

use crate::error::KernelError;
use std::fmt;

/// A set of instructions that kernels are compiled for.
///
/// Results are a function of (path, shapes, inputs). [`KernelPath::Avx2`] and [`KernelPath::Avx512`] give the same
/// bits; [`KernelPath::Portable`] rounds products and sums separately, where the others fuse them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KernelPath {
    /// Whatever every processor of the target has; no fused multiply-add.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL, with AVX2 and FMA.
    Avx512,
    /// AVX-512 with BF16: the bits of [`KernelPath::Avx512`], but that products of bf16 are summed two at a time by the
    /// processor's own instruction, which takes what lies below the normal numbers (2^-126) for zero.
    Avx512Bf16,
    /// AVX-512, and matrix products on the tiles of AMX in parts of bf16 (see `gemm/amx.rs`): as accurate as those in
    /// f32, but that what lies below the normal numbers (2^-126) counts as zero, and a product with an infinite number
    /// may be NaN.
    Amx,
}

/// Declares a function that picks, for a path, one of three bodies of the same signature, each compiled for the instructions
/// of its vectors. Calling what it gives demands a processor that supports the path.
macro_rules! by_vectors {
    (
        $(#[$about:meta])*
        $vis:vis fn $pick:ident -> fn($($arg:ident: $ty:ty),*) $(-> $result:ty)?;
        portable $portable:expr; avx2 $avx2:expr; avx512 $avx512:expr;
    ) => {
        $(#[$about])*
        $vis fn $pick(path: $crate::path::KernelPath) -> unsafe fn($($ty),*) $(-> $result)? {
            unsafe fn portable($($arg: $ty),*) $(-> $result)? {
                // SAFETY: the caller's contract is the same.
                #[allow(unused_unsafe)]
                unsafe { $portable }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2($($arg: $ty),*) $(-> $result)? {
                // SAFETY: the caller's contract is the same.
                #[allow(unused_unsafe)]
                unsafe { $avx2 }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            unsafe fn avx512($($arg: $ty),*) $(-> $result)? {
                // SAFETY: the caller's contract is the same.
                #[allow(unused_unsafe)]
                unsafe { $avx512 }
            }
            match path.vectors() {
                #[cfg(target_arch = "x86_64")]
                $crate::path::KernelPath::Avx512 => avx512,
                #[cfg(target_arch = "x86_64")]
                $crate::path::KernelPath::Avx2 => avx2,
                _ => portable,
            }
        }
    };
}
pub(crate) use by_vectors;

impl KernelPath {
    /// Every path, slowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The fastest path of this processor whose products are plain f32. [`KernelPath::Amx`] must be asked for.
    pub fn detect() -> Self {
        let plain = Self::ALL.into_iter().filter(|path| *path != Self::Amx);
        plain.rev().find(|p| p.is_supported()).unwrap_or(Self::Portable)
    }

    /// The path whose vectors this one uses: its own, unless it only has other products.
    pub(crate) fn vectors(self) -> Self {
        if matches!(self, Self::Avx512Bf16 | Self::Amx) { Self::Avx512 } else { self }
    }

    /// The paths this processor can run, slowest first.
    pub fn supported() -> Vec<Self> {
        Self::ALL.into_iter().filter(|p| p.is_supported()).collect()
    }

    /// Whether this processor can run the path.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            };
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2(),
                Self::Avx512Bf16 => Self::Avx512.is_supported() && is_x86_feature_detected!("avx512bf16"),
                Self::Amx => Self::Avx512.is_supported() && crate::gemm::amx::is_supported(),
                Self::Avx512 => {
                    avx2()
                        && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512bw")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512vl")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// The lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
        }
    }

    /// The path of that name, whether supported here or not.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }

    pub(crate) fn require(self) -> Result<(), KernelError> {
        if self.is_supported() {
            return Ok(());
        }
        let names: Vec<_> = Self::supported().into_iter().map(Self::name).collect();
        Err(KernelError::Path { path: self.name(), supported: names.join(", ") })
    }
}

impl fmt::Display for KernelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
