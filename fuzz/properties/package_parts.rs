//! Packages whose parts are damaged, and whose checksums are of the damaged parts: one that is opened runs or says why it
//! does not; one that is refused says why.
//!
//! The first byte says which part; with `A` to `D` the rest takes its place, with `0` to `3` it is put over it at the
//! place that the next two bytes say.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use outgrow_env::{SimStorage, StorageBackend};
use outgrow_predict::{Extent, Model, ModelOptions};
use outgrow_store::ModelPackage;
use outgrow_tensor::Tensor;

#[path = "../../crates/predict/tests/common/mod.rs"]
mod common;

const PARTS: [&str; 4] = ["graph.txt", "weights.safetensors", "transform.json", "manifest.toml"];

fn base() -> &'static ModelPackage {
    static BASE: OnceLock<ModelPackage> = OnceLock::new();
    BASE.get_or_init(|| {
        let storage = common::disk();
        let package = common::package(common::LAYERS, common::people());
        package.save(&*storage, Path::new("p")).expect("a package can be saved");
        ModelPackage::load(&*storage, Path::new("p")).expect("what was saved is there")
    })
}

pub fn check(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let mut package = base().clone();
    let part = PARTS[usize::from(which & 3)];
    let bytes = if (b'0'..b'4').contains(which) {
        let (at, rest) = rest.split_at(rest.len().min(2));
        let mut bytes = package.parts[part].to_vec();
        let at = at.iter().fold(0, |n, byte| n * 256 + usize::from(*byte)) % bytes.len();
        let end = bytes.len().min(at + rest.len());
        bytes.splice(at..end, rest.iter().copied());
        bytes
    } else {
        rest.to_vec()
    };
    package.parts.insert(part.to_owned(), Bytes::from(bytes));
    let storage = SimStorage::new(1);
    package.save(&storage, Path::new("p")).expect("any parts can be saved");
    let storage: Arc<dyn StorageBackend> = Arc::new(storage);
    let options = ModelOptions { memory: Some(64 << 20), ..common::options(1) };
    let model = match Model::open(&storage, Path::new("p"), options) {
        Ok(model) => model,
        Err(found) => {
            assert!(!found.0.is_empty() && !found.to_string().is_empty(), "a refusal says why");
            return;
        }
    };
    let zeros = |port: &outgrow_predict::Port| {
        let extent = |extent: &Extent| match extent {
            Extent::Fixed(n) => Some(*n).filter(|n| *n <= 1 << 16),
            _ => Some(2),
        };
        let dims: Option<Vec<usize>> = port.dims.as_ref()?.iter().map(extent).collect();
        let dims = dims.filter(|dims| {
            dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).is_some_and(|n| n <= 1 << 20)
        });
        Some(Tensor::zeros(port.dtype?, dims?))
    };
    let Some(inputs) = model.inputs().iter().map(zeros).collect::<Option<Vec<_>>>() else { return };
    let all: Vec<usize> = (0..model.outputs().len()).collect();
    match model.run(&inputs, &all) {
        Ok(answers) => assert_eq!(answers.len(), all.len()),
        Err(found) => assert!(!found.0.is_empty(), "a refusal says why"),
    }
}
