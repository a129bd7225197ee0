//! Running executables on whole tensors, for tests and for work outside the step loop.

use crate::{BufferRef, Compiled};
use outgrow_ir::{Diagnostic, TensorType};
use outgrow_tensor::{Shape, Tensor};

/// Bytes aligned well enough for any element type, to be written.
struct Bytes {
    words: Vec<u64>,
    bytes: usize,
}

impl Bytes {
    fn zeros(bytes: usize) -> Self {
        Self { words: vec![0; bytes.div_ceil(8)], bytes }
    }

    fn slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    fn slice_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }
}

fn shape(ty: &TensorType) -> Shape {
    ty.static_shape().unwrap_or_default()
}

/// Runs a new instance once on `inputs`, in the graph's order, and gives all outputs in theirs. Nothing may be in place.
///
/// # Errors
/// When an input is not of the type that was compiled, the system does not give the memory, or the run fails.
pub fn run_tensors(compiled: &Compiled, inputs: &[Tensor]) -> Result<Vec<Tensor>, Diagnostic> {
    for ((name, ty), tensor) in compiled.inputs.iter().zip(inputs) {
        if tensor.dtype() != ty.dtype || *tensor.shape() != shape(ty) {
            let problem = format!("got {}{}", tensor.dtype(), tensor.shape());
            let diagnostic = Diagnostic::new("runtime.input", problem).item(format!("input `{name}`"));
            return Err(diagnostic.expected(ty.to_string()));
        }
    }
    let size = |ty: &TensorType| shape(ty).elements() * ty.dtype.bytes();
    let mut taken: Vec<Bytes> = compiled.outputs.iter().map(|(_, ty)| Bytes::zeros(size(ty))).collect();
    let reads = inputs.iter().map(|tensor| BufferRef::Read(tensor.as_bytes()));
    let writes = taken.iter_mut().map(|b| BufferRef::Write(b.slice_mut()));
    let mut buffers: Vec<_> = reads.chain(writes).collect();
    compiled.instance()?.run(&mut buffers)?;
    drop(buffers);
    let tensor = |((_, ty), bytes): (&(String, TensorType), &Bytes)| {
        Tensor::from_le_bytes(ty.dtype, shape(ty), bytes.slice())
            .map_err(|e| Diagnostic::fault("runtime.output", e.to_string()))
    };
    compiled.outputs.iter().zip(&taken).map(tensor).collect()
}
