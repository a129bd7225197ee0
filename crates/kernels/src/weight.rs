//! Weights: operands that stay as they are while programs run, with copies of them in the layouts that kernels want.

use crate::conv::value_floats;
use crate::error::KernelError;
use crate::gemm::Tiles;
use crate::memory::AlignedBytes;
use crate::path::KernelPath;
use crate::program::Buffer;
use crate::view::View;
use outgrow_tensor::{DType, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// A tensor that programs read and nobody changes. Any number of programs share it, and whatever products and
/// convolutions have packed of it: when a program is built, kernels take the copy in the layout that they want, or are
/// the first to make it. Results have the same bits as with an operand that is packed in each run.
pub struct Weight {
    tensor: Tensor,
    /// A weight has few layouts: one for each way in which it is multiplied.
    packed: Mutex<Vec<(Packing, Arc<AlignedBytes>)>>,
}

/// What a packed copy holds: which elements, and in which order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packing {
    start: usize,
    dims: Vec<usize>,
    strides: Vec<isize>,
    layout: Layout,
}

/// The order of a packed copy's elements, besides what the view says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    /// The columns of a right operand in panels of so many, each rounded up to vectors of so many lanes; whether those
    /// are the view's rows.
    Columns { panel: usize, lanes: usize, unit: usize, transposed: bool },
    /// Of the correlations of a convolution.
    Correlations(Vec<crate::conv::WeightLayout>),
    /// Of weights of 3x3, their values at Winograd's points.
    Winograd(crate::conv::WinogradLayout),
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weight({}{})", self.tensor.dtype(), self.tensor.shape())
    }
}

impl Weight {
    /// Takes a tensor as a weight.
    pub fn new(tensor: Tensor) -> Self {
        Self { tensor, packed: Mutex::default() }
    }

    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Bytes of the packed copies made so far.
    pub fn packed_bytes(&self) -> usize {
        let packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        packed.iter().map(|(_, copy)| copy.bytes()).sum()
    }

    /// Bytes of the longest copy that one product or convolution may ask for on a path: as many as matrices and filters have
    /// as f32, or four times as many of filters of 3x3; none of filters of bf16 that are widened in each run.
    pub fn copy_bytes(&self, path: KernelPath) -> usize {
        let shape = self.tensor.shape();
        let floats = match (self.tensor.dtype(), shape.rank()) {
            (DType::F32, 2..) => value_floats(shape.dims()).unwrap_or(shape.elements()),
            // In pairs: not more, where the number of channels is odd.
            (DType::BF16, 4) if Tiles::of_pairs(path).is_some() => shape.elements(),
            (DType::BF16, 4) if Tiles::new(path).has_amx() => 0,
            (DType::BF16, 4) => value_floats(shape.dims()).unwrap_or(0),
            (DType::BF16, 2..4) => shape.elements(),
            _ => 0,
        };
        floats.saturating_mul(4)
    }

    /// The elements, as they are in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.tensor.as_bytes()
    }
}

/// Gives kernels packed copies of weights while a program over these buffers is built.
pub struct Packer<'a>(pub(crate) &'a [Buffer]);

impl Packer<'_> {
    /// The weight that `view` is of, if it is of one.
    fn weight(&self, view: &View) -> Option<&Weight> {
        self.0.get(view.slot.buffer as usize).and_then(Buffer::weight)
    }

    /// Whether `view` is of a weight that has so many elements: a copy of it is not much longer than the weight itself.
    pub(crate) fn holds(&self, view: &View, elements: usize) -> bool {
        self.weight(view).is_some_and(|weight| elements <= weight.tensor.elements())
    }

    /// The copy of `view` in `layout`, of so many floats, if the view is of a weight. `pack` makes the copy where there
    /// is none yet: from the view's element of index zero, to memory that is zero.
    ///
    /// # Errors
    /// When the system does not give the memory for the copy.
    pub(crate) fn packed(
        &self,
        view: &View,
        layout: Layout,
        floats: usize,
        pack: impl FnOnce(*const f32, *mut f32),
    ) -> Result<Option<Arc<AlignedBytes>>, KernelError> {
        let Some(weight) = self.weight(view) else { return Ok(None) };
        // In bytes from the tensor's start: slots may begin anywhere.
        let start = view.slot.offset.wrapping_add(view.start.wrapping_mul(view.dtype.bytes()));
        let packing = Packing { start, dims: view.dims.clone(), strides: view.strides.clone(), layout };
        let mut packed = weight.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, copy)) = packed.iter().find(|(known, _)| *known == packing) {
            return Ok(Some(Arc::clone(copy)));
        }
        let copy = Arc::new(AlignedBytes::new("packed weights", floats.saturating_mul(4))?);
        pack(weight.bytes().as_ptr().wrapping_add(start).cast(), copy.start().cast());
        packed.push((packing, Arc::clone(&copy)));
        Ok(Some(copy))
    }
}
