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
    /// [`KernelPath::Amx`], but that products of f32 take two parts of each number and not three: what is left out is
    /// below 2^-15 of the sizes of the terms ([`Products::Bf16x3`]). It belongs to a program and not to a machine, so it
    /// is none of [`KernelPath::ALL`]: [`KernelPath::with_products`] gives it.
    AmxBf16x3,
}

/// How products of f32, which are matrix products and convolutions, may be computed. Those of other types are as ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// In f32, or as accurately.
    #[default]
    F32,
    /// Of two parts of bf16 for each number, in three products with sums in f32, where that is faster; in f32 elsewhere.
    /// The parts hold 16 bits of a number's 24, and the smallest of the four products is left out.
    Bf16x3,
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
    /// Every path of a machine, slowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The fastest path of this processor whose products are plain f32. [`KernelPath::Amx`] must be asked for.
    pub fn detect() -> Self {
        let plain = Self::ALL.into_iter().filter(|path| *path != Self::Amx);
        plain.rev().find(|p| p.is_supported()).unwrap_or(Self::Portable)
    }

    /// The path whose vectors this one uses: its own, unless it only has other products.
    pub(crate) fn vectors(self) -> Self {
        if matches!(self, Self::Avx512Bf16 | Self::Amx | Self::AmxBf16x3) { Self::Avx512 } else { self }
    }

    /// The path whose products of f32 are computed in this way: another one than this where that makes a difference.
    #[must_use]
    pub fn with_products(self, products: Products) -> Self {
        match (self, products) {
            (Self::Amx, Products::Bf16x3) => Self::AmxBf16x3,
            _ => self,
        }
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
                Self::Amx | Self::AmxBf16x3 => {
                    Self::Avx512.is_supported() && crate::gemm::amx::is_supported()
                }
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
            Self::AmxBf16x3 => "amx-bf16x3",
        }
    }

    /// The path of a machine of that name, whether supported here or not.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_in_parts_are_another_path_only_where_there_are_tiles_for_them() {
        for path in KernelPath::ALL {
            assert_eq!(path.with_products(Products::F32), path);
            let found = path.with_products(Products::Bf16x3);
            assert_eq!(found, if path == KernelPath::Amx { KernelPath::AmxBf16x3 } else { path });
            assert_eq!((found.vectors(), found.is_supported()), (path.vectors(), path.is_supported()));
            assert_eq!(
                KernelPath::parse(found.name()),
                (found == path).then_some(path),
                "nobody asks for it by name"
            );
        }
        assert_eq!(KernelPath::AmxBf16x3.with_products(Products::Bf16x3), KernelPath::AmxBf16x3);
    }
}
