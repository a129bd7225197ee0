//! Named tensors of f32 side by side in a buffer of a device: parameters, running statistics, the optimiser's state.

use crate::flat::{Entry, Layout, kinds};
use crate::program::bytes;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_runtime::collective::{Communicator, Machine};
use outgrow_runtime::{Argument, Backend, Buffer};
use outgrow_store::checkpoint::{Part, Piece, Stored};
use outgrow_tensor::{Shape, Tensor};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;
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

    /// Becomes the vector of the first worker, whose bytes all the others get.
    ///
    /// # Errors
    /// When a worker is lost, or the device fails.
    pub fn share(&mut self, group: &mut Communicator, what: &str) -> Result<(), Diagnostic> {
        let buffer = std::slice::from_mut(&mut self.buffer);
        on_host(&*self.backend, buffer, |vectors| group.broadcast(0, &mut *vectors[0], what))
    }

    /// These elements of the vector, for a run that writes them.
    pub fn write_range(&mut self, elements: &Range<usize>) -> Argument<'_> {
        Argument::Write(&mut *self.buffer, 4 * elements.start..4 * elements.end)
    }

    /// Takes part in a collective with the bytes of this vector.
    ///
    /// # Errors
    /// When a worker is lost, or the device fails.
    pub fn exchange(
        &mut self,
        group: &mut Communicator,
        machine: &mut Machine,
        what: &str,
    ) -> Result<(), Diagnostic> {
        let buffer = std::slice::from_mut(&mut self.buffer);
        on_host(&*self.backend, buffer, |vectors| group.run(machine, what, vectors))
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

    /// Elements `elements` of tensor `entry`, copied to the host as a tensor of these extents.
    fn download(&self, entry: &Entry, elements: Range<usize>, dims: &[usize]) -> Result<Tensor, Diagnostic> {
        let mut numbers = vec![0.0f32; elements.len()];
        let to = bytemuck::cast_slice_mut(&mut numbers);
        self.backend.download(&*self.buffer, 4 * (entry.offset + elements.start), to)?;
        Ok(Tensor::new(dims, numbers).expect("a layout's extents agree with its elements"))
    }

    /// The tensors by name, copied to the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, Diagnostic> {
        let tensor =
            |entry: &Entry| Ok((entry.name.clone(), self.download(entry, 0..entry.elements, &entry.dims)?));
        self.layout.entries().iter().map(tensor).collect()
    }

    /// Takes the elements of these tensors, which must be those of the layout. Nothing changes otherwise.
    ///
    /// # Errors
    /// When one is missing, unknown or of another type or extents.
    pub fn set_tensors(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), Diagnostics> {
        self.layout.check(kinds(tensors))?;
        let layout = self.layout.clone();
        for (entry, tensor) in layout.entries().iter().filter_map(|e| Some((e, tensors.get(&e.name)?))) {
            self.backend.upload(tensor.as_bytes(), &mut *self.buffer, 4 * entry.offset)?;
        }
        Ok(())
    }

    /// Copies the elements in a range of the flat vector into a part of a checkpoint, by their tensors' names under
    /// `group/`: whole tensors, and pieces of those that the range cuts.
    ///
    /// # Errors
    /// When the device fails.
    pub fn save_into(&self, part: &mut Part, group: &str, range: &Range<usize>) -> Result<(), Diagnostic> {
        for (i, elements) in self.layout.within(range.clone()) {
            let entry = &self.layout.entries()[i];
            let name = format!("{group}/{}", entry.name);
            if elements.len() == entry.elements {
                part.tensors.insert(name, self.download(entry, elements, &entry.dims)?);
            } else {
                let (shape, from) = (Shape::new(entry.dims.clone()), elements.start);
                let elements = self.download(entry, elements.clone(), &[elements.len()])?;
                part.pieces.insert(name, Piece { shape, from, elements });
            }
        }
        Ok(())
    }

    /// Takes the elements in a range of the flat vector from the tensors under `group/` of a checkpoint, however that was
    /// cut, and looks at no others.
    ///
    /// # Errors
    /// When these tensors are not those of the layout, and then nothing changes; or when what is read is damaged.
    pub fn load_from(
        &mut self,
        stored: &Stored,
        group: &str,
        range: &Range<usize>,
    ) -> Result<(), Diagnostics> {
        let prefix = format!("{group}/");
        // What has no elements is in no part.
        let empty = self.layout.entries().iter().filter(|entry| entry.elements == 0);
        let empty: Vec<_> = empty.map(|e| (e.name.clone(), Shape::new(e.dims.clone()))).collect();
        let empty = empty.iter().map(|(name, shape)| (name.as_str(), self.layout.dtype(), shape));
        let of_group = |(name, dtype, shape)| Some((str::strip_prefix(name, prefix.as_str())?, dtype, shape));
        self.layout.check(stored.tensors().filter_map(of_group).chain(empty))?;
        let layout = self.layout.clone();
        for (i, elements) in layout.within(range.clone()) {
            let entry = &layout.entries()[i];
            let at = 4 * (entry.offset + elements.start);
            let read = stored.read(&format!("{prefix}{}", entry.name), elements)?;
            self.backend.upload(read.as_bytes(), &mut *self.buffer, at)?;
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

/// Has something done to the bytes of some buffers: in place where the device's memory is the host's, else on copies that
/// are brought back.
pub(crate) fn on_host(
    backend: &dyn Backend,
    buffers: &mut [Box<dyn Buffer>],
    work: impl FnOnce(&mut [&mut [u8]]) -> Result<(), Diagnostic>,
) -> Result<(), Diagnostic> {
    if buffers.iter().all(|buffer| buffer.host().is_some()) {
        let hosts = buffers.iter_mut().filter_map(|buffer| buffer.host_mut());
        return work(&mut hosts.collect::<SmallVec<[_; 8]>>());
    }
    let mut copies = Vec::with_capacity(buffers.len());
    for buffer in &*buffers {
        // Of f32, so that numbers begin where they can.
        let mut copy = vec![0.0f32; buffer.bytes() / 4];
        backend.download(&**buffer, 0, bytemuck::cast_slice_mut(&mut copy))?;
        copies.push(copy);
    }
    let views = copies.iter_mut().map(|copy| bytemuck::cast_slice_mut(copy));
    work(&mut views.collect::<SmallVec<[_; 8]>>())?;
    for (buffer, copy) in buffers.iter_mut().zip(&copies) {
        backend.upload(bytemuck::cast_slice(copy), &mut **buffer, 0)?;
    }
    Ok(())
}
