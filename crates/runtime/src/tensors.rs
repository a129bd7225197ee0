//! Running executables on whole tensors, for tests and for work outside the step loop.

use crate::{Argument, Backend, Buffer, Compiled, Place};
use outgrow_ir::{Diagnostic, TensorType};
use outgrow_tensor::{Shape, Tensor};

fn shape(ty: &TensorType) -> Shape {
    ty.static_shape().unwrap_or_default()
}

/// Runs a new instance once on `inputs`, in the graph's order, and gives all outputs in theirs.
///
/// # Errors
/// When an input is not of the type that was compiled, there is not the memory, or the run fails.
pub fn run_tensors(
    backend: &dyn Backend,
    compiled: &Compiled,
    inputs: &[Tensor],
) -> Result<Vec<Tensor>, Diagnostic> {
    for ((name, ty), tensor) in compiled.inputs.iter().zip(inputs) {
        if tensor.dtype() != ty.dtype || *tensor.shape() != shape(ty) {
            let problem = format!("got {}{}", tensor.dtype(), tensor.shape());
            let diagnostic = Diagnostic::new("runtime.input", problem).item(format!("input `{name}`"));
            return Err(diagnostic.expected(ty.to_string()));
        }
    }
    let bindings = &compiled.bindings;
    let written = bindings.written();
    // An input that has a buffer to itself, and stays as it is, need not be copied.
    let whole = |buffer: usize| {
        let at = Place { buffer, offset: 0 };
        let tensor =
            bindings.inputs.iter().zip(inputs).find(|(place, _)| **place == at).map(|(_, tensor)| tensor);
        tensor.filter(|tensor| !written[buffer] && tensor.bytes() == bindings.bytes[buffer])
    };
    let borrowed: Vec<Option<&Tensor>> = (0..written.len()).map(whole).collect();
    let own = |(buffer, bytes): (usize, &usize)| {
        backend.allocate(if borrowed[buffer].is_some() { 0 } else { *bytes })
    };
    let mut owned: Vec<Box<dyn Buffer>> =
        bindings.bytes.iter().enumerate().map(own).collect::<Result<_, _>>()?;
    for (place, tensor) in bindings.inputs.iter().zip(inputs) {
        if borrowed[place.buffer].is_none() {
            backend.upload(tensor.as_bytes(), &mut *owned[place.buffer], place.offset)?;
        }
    }
    let argument = |(buffer, owned): (usize, _)| match borrowed[buffer] {
        Some(tensor) => Argument::Host(tensor.as_bytes()),
        None => Argument::write(owned),
    };
    let buffers = owned.iter_mut().map(|buffer: &mut Box<dyn Buffer>| &mut **buffer);
    let mut arguments: Vec<Argument<'_>> = buffers.enumerate().map(argument).collect();
    backend.instance(compiled)?.run(&mut arguments)?;
    drop(arguments);
    let tensor = |((_, ty), place): (&(String, TensorType), &Place)| {
        let mut bytes = vec![0; shape(ty).elements() * ty.dtype.bytes()];
        backend.download(&*owned[place.buffer], place.offset, &mut bytes)?;
        Tensor::from_shared(ty.dtype, shape(ty), bytes.into())
            .map_err(|e| Diagnostic::fault("runtime.output", e.to_string()))
    };
    compiled.outputs.iter().zip(&bindings.outputs).map(tensor).collect()
}
