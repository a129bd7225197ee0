//! What a run starts from besides its seed: a model's file and a file of weights. Each is read once, and what it holds
//! is part of what the run is: one that was begun goes on only with the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_models::spec::Architecture;
use outgrow_predict::Package;
use outgrow_store::{safetensors, sha256};
use outgrow_tensor::Tensor;

use super::Session;
use super::onnx_model::OnnxBody;

/// The files, as far as they were needed.
#[derive(Default)]
pub(super) struct Start {
    onnx: OnceLock<OnnxBody>,
    weights: OnceLock<FirstWeights>,
}

/// The weights of `model.weights`.
pub(super) struct FirstWeights {
    pub path: PathBuf,
    pub tensors: BTreeMap<String, Tensor>,
}

/// The value that is there, or the one that `make` gives.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T, Diagnostics>) -> Result<&T, Diagnostics> {
    match cell.get() {
        Some(there) => Ok(there),
        None => make().map(|made| cell.get_or_init(|| made)),
    }
}

impl Session<'_> {
    /// The file of the model, where it comes from one.
    pub(super) fn onnx(&self) -> Result<Option<&OnnxBody>, Diagnostics> {
        let Architecture::Onnx(spec) = &self.manifest.model.architecture else { return Ok(None) };
        let body =
            once(&self.start.onnx, || OnnxBody::open(&*self.context.world.storage, &self.roots(), spec));
        body.map(Some).map_err(|found| self.manifest.locate(found))
    }

    /// The weights that the manifest names a file of.
    pub(super) fn first_weights(&self) -> Result<Option<&FirstWeights>, Diagnostics> {
        let Some(file) = &self.manifest.model.weights else { return Ok(None) };
        once(&self.start.weights, || self.read_weights(file)).map(Some)
    }

    fn read_weights(&self, file: &str) -> Result<FirstWeights, Diagnostics> {
        let (roots, storage) = (self.roots(), &*self.context.world.storage);
        let candidates: Vec<PathBuf> = roots.iter().map(|root| root.join(file)).collect();
        // In a package the file may have any name: who names its folder, or that of the run, need not know.
        if let Some(folder) = candidates.iter().find(|path| path.exists()).filter(|path| path.is_dir()) {
            let package = Package::find(storage, folder)
                .map_err(|found| self.manifest.locate(found.item("model.weights").into()))?;
            let tensors = Package::load(storage, &package)?.weights;
            return Ok(FirstWeights { path: package, tensors });
        }
        let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
            let places = roots.iter().map(|r| r.display().to_string()).collect::<Vec<_>>().join(", ");
            let diagnostic =
                Diagnostic::new("model.weights", format!("there is no file `{file}`")).item("model.weights");
            let expected =
                format!("a safetensors file, or the folder of a run that has ended, in one of: {places}");
            return Err(self.manifest.locate(diagnostic.expected(expected).into()));
        };
        let tensors = safetensors::read(storage, &path).map_err(|e| e.into_diagnostics())?.tensors;
        Ok(FirstWeights { path, tensors })
    }

    /// A hash of what the files hold; nothing when there are none.
    pub(super) fn start_sha256(&self) -> Result<Option<String>, Diagnostics> {
        let model = self.onnx()?.map(|body| body.sha256().to_owned());
        let weights = self.first_weights()?.map(|first| {
            let names: Vec<&String> = first.tensors.keys().collect();
            sha256::hex(format!("{names:?} {}", sha256::weights_sha256(&first.tensors)).as_bytes())
        });
        Ok(match (model, weights) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(one),
            (Some(model), Some(weights)) => Some(sha256::hex(format!("{model} {weights}").as_bytes())),
        })
    }
}
