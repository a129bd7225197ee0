//! Named tensors of f32 side by side in a buffer of a device: parameters, running statistics, the optimiser's state.

use crate::flat::{Entry, Layout};
use crate::program::bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::{Argument, Backend, Buffer};
use outgrow_tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Elements that are set to one number at a time.
const CHUNK: usize = 1 << 14;

/// A flat vector in the memory of a device.
#[derive(Debug)]
pub struct DeviceVector {
    layout: Arc<Layout>,
    buffer: Box<dyn Buffer>,
    backend: Arc<dyn Backend>,
}

impl DeviceVector {
    /// Zeros, laid out so.
    ///
    /// # Errors
    /// When the device has not the memory.
    pub fn zeros(layout: &Arc<Layout>, backend: &Arc<dyn Backend>) -> Result<Self, Diagnostic> {
        let buffer = backend.allocate(bytes(layout))?;
        Ok(Self { layout: layout.clone(), buffer, backend: backend.clone() })
    }

    /// One number everywhere, the gaps between tensors included.
    ///
    /// # Errors
    /// When the device has not the memory.
    pub fn filled(layout: &Arc<Layout>, backend: &Arc<dyn Backend>, number: f32) -> Result<Self, Diagnostic> {
        let mut vector = Self::zeros(layout, backend)?;
        if number != 0.0 {
            let chunk = vec![number; CHUNK.min(layout.total())];
            for at in (0..layout.total()).step_by(CHUNK) {
                let part = &chunk[..CHUNK.min(layout.total() - at)];
                backend.upload(bytemuck::cast_slice(part), &mut *vector.buffer, 4 * at)?;
            }
        }
        Ok(vector)
    }

    /// The same elements in memory of their own.
    ///
    /// # Errors
    /// When the device has not the memory.
    pub fn duplicate(&self) -> Result<Self, Diagnostic> {
        let mut copy = Self::zeros(&self.layout, &self.backend)?;
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// Takes the elements of a vector of the same layout.
    ///
    /// # Errors
    /// When it is another device's.
    pub fn copy_from(&mut self, other: &Self) -> Result<(), Diagnostic> {
        self.backend.copy(&*other.buffer, &mut *self.buffer)
    }

    /// Where the tensors lie.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The vector, for a run that reads it.
    pub fn read(&self) -> Argument<'_> {
        Argument::read(&*self.buffer)
    }

    /// The vector, for a run that writes it.
    pub fn write(&mut self) -> Argument<'_> {
        Argument::write(&mut *self.buffer)
    }

    /// Gives tensor `i` these elements.
    ///
    /// # Errors
    /// When the device fails.
    pub fn set(&mut self, i: usize, elements: &[f32]) -> Result<(), Diagnostic> {
        let entry = &self.layout.entries()[i];
        assert_eq!(elements.len(), entry.elements, "invariant: elements are as many as the layout says");
        self.backend.upload(bytemuck::cast_slice(elements), &mut *self.buffer, 4 * entry.offset)
    }

    /// The tensors by name, copied to the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, Diagnostic> {
        let tensor = |entry: &Entry| {
            let mut elements = vec![0.0f32; entry.elements];
            let to = bytemuck::cast_slice_mut(&mut elements);
            self.backend.download(&*self.buffer, 4 * entry.offset, to)?;
            let tensor = Tensor::new(entry.dims.clone(), elements);
            Ok((entry.name.clone(), tensor.expect("a layout's extents agree with its elements")))
        };
        self.layout.entries().iter().map(tensor).collect()
    }

    /// Takes the elements of these tensors, which must be those of the layout. Nothing changes otherwise.
    ///
    /// # Errors
    /// When one is missing, unknown or of another type or extents.
    pub fn set_tensors(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), Diagnostics> {
        self.layout.check(tensors)?;
        let layout = self.layout.clone();
        for (entry, tensor) in layout.entries().iter().filter_map(|e| Some((e, tensors.get(&e.name)?))) {
            self.backend.upload(tensor.as_bytes(), &mut *self.buffer, 4 * entry.offset)?;
        }
        Ok(())
    }
}

/// Numbers of a device on the host: in place where its memory is the host's, else in `scratch`.
pub(crate) fn floats<'a>(
    backend: &dyn Backend,
    buffer: &'a dyn Buffer,
    scratch: &'a mut Vec<f32>,
) -> Result<&'a [f32], Diagnostic> {
    if let Some(bytes) = buffer.host() {
        return Ok(bytemuck::cast_slice(bytes));
    }
    scratch.resize(buffer.bytes() / 4, 0.0);
    backend.download(buffer, 0, bytemuck::cast_slice_mut(scratch))?;
    Ok(scratch)
}
