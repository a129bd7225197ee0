//! Named tensors side by side in one flat vector of f32: parameters, gradients and optimiser state are kept this way,
//! so that an update is one sweep and a norm is a sum over fixed blocks.

use crate::memory::filled;
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_tensor::Tensor;
use std::collections::{BTreeMap, HashSet};

/// Every tensor begins at a multiple of this many elements: a cache line.
const ALIGN: usize = 16;

/// One tensor of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its extents.
    pub dims: Vec<usize>,
    /// Its first element in the flat vector.
    pub offset: usize,
    /// Its number of elements.
    pub elements: usize,
}

/// Where named tensors lie in a flat vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    total: usize,
}

impl Layout {
    /// A layout of tensors with these names and extents, in order.
    pub fn new<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Self {
        let mut layout = Self::default();
        for (name, dims) in tensors {
            let elements = dims.iter().product();
            layout.entries.push(Entry {
                name: name.into(),
                dims: dims.to_vec(),
                offset: layout.total,
                elements,
            });
            layout.total = layout.total.saturating_add(elements.next_multiple_of(ALIGN));
        }
        layout
    }

    /// The tensors, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Elements of the flat vector, with the gaps between tensors.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The elements of tensor `i`.
    pub fn slice<'a>(&self, i: usize, flat: &'a [f32]) -> &'a [f32] {
        let entry = &self.entries[i];
        &flat[entry.offset..entry.offset + entry.elements]
    }

    /// The elements of all tensors, for writing.
    pub fn split_mut<'a>(&self, mut flat: &'a mut [f32]) -> Vec<&'a mut [f32]> {
        let mut parts = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let (part, rest) = flat.split_at_mut(entry.elements.next_multiple_of(ALIGN).min(flat.len()));
            parts.push(&mut part[..entry.elements]);
            flat = rest;
        }
        parts
    }

    /// The tensors by name.
    pub fn tensors(&self, flat: &[f32]) -> BTreeMap<String, Tensor> {
        let tensor = |(i, entry): (usize, &Entry)| {
            let tensor = Tensor::new(entry.dims.clone(), self.slice(i, flat).to_vec());
            (entry.name.clone(), tensor.expect("a layout's extents agree with its elements"))
        };
        self.entries.iter().enumerate().map(tensor).collect()
    }

    /// The flat vector of these tensors; every tensor must be there with its extents and f32, and no other.
    pub fn flatten(&self, tensors: &BTreeMap<String, Tensor>) -> Result<Vec<f32>, Diagnostics> {
        let mut flat = filled(self.total, 0.0)?;
        let mut found = Diagnostics::default();
        for entry in &self.entries {
            let Some(tensor) = tensors.get(&entry.name) else {
                found.push(
                    Diagnostic::new("weights.missing", format!("there is no tensor `{}`", entry.name))
                        .hint("the weights are of another model"),
                );
                continue;
            };
            match tensor.as_slice::<f32>() {
                Ok(elements) if tensor.shape().dims() == entry.dims => {
                    flat[entry.offset..entry.offset + entry.elements].copy_from_slice(elements);
                }
                _ => {
                    let problem = format!("tensor `{}` is {}{}", entry.name, tensor.dtype(), tensor.shape());
                    found.push(
                        Diagnostic::new("weights.shape", problem).expected(format!("f32{:?}", entry.dims)),
                    );
                }
            }
        }
        let names: HashSet<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
        for name in tensors.keys().filter(|name| !names.contains(name.as_str())) {
            let problem = format!("the model has no tensor `{name}`");
            found.push(Diagnostic::new("weights.unknown", problem).hint("the weights are of another model"));
        }
        found.into_result(flat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new([("a", &[3usize][..]), ("b", &[2, 10]), ("c", &[])])
    }

    #[test]
    fn flattening_and_naming_are_inverse() {
        let layout = layout();
        assert_eq!(layout.total(), 16 + 32 + 16);
        let mut flat = vec![0.0; layout.total()];
        for (i, part) in layout.split_mut(&mut flat).into_iter().enumerate() {
            part.fill(i as f32 + 1.0);
        }
        let tensors = layout.tensors(&flat);
        assert_eq!(tensors["b"].shape().dims(), [2, 10]);
        assert_eq!(layout.flatten(&tensors).unwrap(), flat);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut tensors = layout().tensors(&vec![0.0; 64]);
        tensors.remove("a");
        tensors.insert("b".into(), Tensor::vector(vec![1.0f32]));
        tensors.insert("d".into(), Tensor::vector(vec![1.0f32]));
        let text = layout().flatten(&tensors).unwrap_err().to_string();
        for expected in ["no tensor `a`", "`b` is f32[1]", "no tensor `d`"] {
            assert!(text.contains(expected), "{text}");
        }
    }
}
