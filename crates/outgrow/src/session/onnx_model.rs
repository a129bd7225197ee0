//! Models from ONNX files, to be trained: all of their weights, or those that the manifest chooses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use outgrow_env::StorageBackend;
use outgrow_ir::{Builder, Diagnostic, Diagnostics, Dim, InputRole, TensorType, Value};
use outgrow_models::foreign::{Feeds, ForeignBody, ForeignModel};
use outgrow_models::spec::OnnxSpec;
use outgrow_models::{BufferSpec, Init, InputSpec, Mode, ParamSpec};
use outgrow_onnx as onnx;
use outgrow_onnx::{
    Elem, ExternalData, FolderData, Given, Imported, InitialiserRole, OnnxModel, OnnxTensor, Refused,
    Training,
};
use outgrow_store::sha256::Hasher;
use outgrow_tensor::Tensor;
use wildmatch::WildMatch;

/// A model of a file.
#[derive(Debug)]
pub struct OnnxBody {
    model: OnnxModel,
    path: PathBuf,
    sha256: String,
    /// Names of the weights that are trained, with `*` for any characters; all when there are none.
    trainable: Option<Vec<String>>,
}

/// A folder of weights that adds what is read to a hash.
struct Hashed {
    inner: FolderData,
    hasher: RefCell<Hasher>,
}

impl ExternalData for Hashed {
    fn read(&self, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, Diagnostic> {
        let bytes = self.inner.read(location, offset, length)?;
        self.hasher.borrow_mut().update(&bytes);
        Ok(bytes)
    }
}

impl OnnxBody {
    /// Reads the file that the manifest names, from the first of the folders that has it.
    ///
    /// # Errors
    /// When there is no such file, or all that is wrong with it.
    pub fn open(
        storage: &dyn StorageBackend,
        roots: &[PathBuf],
        spec: &OnnxSpec,
    ) -> Result<Self, Diagnostics> {
        let places = roots.iter().map(|root| root.join(&spec.file));
        let Some(path) = places.clone().find(|path| path.is_file()) else {
            let looked: Vec<String> = places.map(|p| p.display().to_string()).collect();
            return Err(Diagnostic::new("model.file", format!("there is no file `{}`", spec.file))
                .item("model.file")
                .expected(format!("an ONNX file at {}", looked.join(" or ")))
                .into());
        };
        let bytes = storage.read(&path).map_err(|e| outgrow_data::files::storage_problem(&e))?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let folder = FolderData::new(path.parent().unwrap_or(Path::new(".")));
        let folder = Hashed { inner: folder, hasher: RefCell::new(hasher) };
        let model = OnnxModel::parse(bytes.into(), &folder).map_err(|found| in_file(found, &path))?;
        let sha256 = folder.hasher.into_inner().hex();
        Ok(Self { model, path, sha256, trainable: spec.trainable.clone() })
    }

    /// The SHA-256 of the file, followed by what it takes from others.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The weights of the file that the model uses, by their names.
    ///
    /// # Errors
    /// When the model does not fit these inputs, or a pattern of `trainable` names no weight.
    pub fn weights(&self, inputs: &[InputSpec]) -> Result<BTreeMap<String, Tensor>, Diagnostics> {
        let mut b = Builder::new("weights");
        let values: Vec<(InputSpec, Value)> = inputs
            .iter()
            .map(|input| {
                let dims = [Dim::B].into_iter().chain(input.dims.iter().copied().map(Dim::Fixed));
                let ty = TensorType::new(input.dtype, dims);
                (input.clone(), b.input(&input.name, InputRole::Data, ty))
            })
            .collect();
        let imported = self.emit(&mut b, &values, onnx::Mode::Evaluation)?;
        let names: Vec<&str> = imported.weights.iter().map(|w| w.name.as_str()).collect();
        for pattern in self.trainable.iter().flatten() {
            if !names.iter().any(|name| WildMatch::new(pattern).matches(name)) {
                let some: Vec<&str> = names.iter().copied().take(NAMES).collect();
                return Err(Diagnostic::new("model.trainable", format!("no weight is called `{pattern}`"))
                    .item("model.trainable")
                    .expected(format!("names such as {}", some.join(", ")))
                    .into());
            }
        }
        Ok(imported.weights.iter().map(|w| (w.name.clone(), (*w.tensor).clone())).collect())
    }

    fn emit(
        &self,
        b: &mut Builder,
        inputs: &[(InputSpec, Value)],
        mode: onnx::Mode<'_>,
    ) -> Result<Imported, Diagnostics> {
        let given = self.given(b, inputs)?;
        let role = |name: &str, tensor: &OnnxTensor| match self.model.role(name, tensor) {
            InitialiserRole::Param if !self.is_trained(name) => InitialiserRole::Buffer,
            role => role,
        };
        self.model
            .emit(b, &given, mode, &role)
            .map_err(|Refused { diagnostics, .. }| in_file(diagnostics, &self.path))
    }

    /// The data's inputs as the model's: by name where the names are the same, else in their order.
    fn given(&self, b: &mut Builder, inputs: &[(InputSpec, Value)]) -> Result<Vec<Given>, Diagnostic> {
        let infos = &self.model.inputs;
        if infos.len() != inputs.len() {
            let of = |names: Vec<&str>| names.join(", ");
            let problem =
                format!("the model takes {} inputs, and the data has {}", infos.len(), inputs.len());
            return Err(Diagnostic::new("model.inputs", problem)
                .file(&self.path)
                .expected(of(infos.iter().map(|i| i.name.as_str()).collect()))
                .hint(format!(
                    "the data has: {}",
                    of(inputs.iter().map(|(i, _)| i.name.as_str()).collect())
                )));
        }
        let by_name = infos.iter().all(|info| inputs.iter().any(|(input, _)| input.name == info.name));
        let mut given = Vec::new();
        for (i, info) in infos.iter().enumerate() {
            let (_, value) = match inputs.iter().find(|(input, _)| by_name && input.name == info.name) {
                Some(named) => named,
                None => &inputs[i],
            };
            let wanted = info.elem.dtype();
            let value = if b.dtype(*value) == wanted { *value } else { b.cast(*value, wanted) };
            given.push(Given::Value(value));
        }
        Ok(given)
    }

    fn is_trained(&self, name: &str) -> bool {
        self.trainable
            .as_ref()
            .is_none_or(|patterns| patterns.iter().any(|pattern| WildMatch::new(pattern).matches(name)))
    }
}

/// Names of weights that a message gives as examples.
const NAMES: usize = 12;

impl ForeignModel for OnnxBody {
    fn build(&self, b: &mut Builder, feeds: &Feeds<'_>) -> Result<ForeignBody, Diagnostics> {
        let training = match (feeds.mode, feeds.key) {
            (Mode::Train, Some(key)) => Some(Training { sample_weight: feeds.mask, key }),
            _ => None,
        };
        let mode = training.as_ref().map_or(onnx::Mode::Evaluation, onnx::Mode::Training);
        let imported = self.emit(b, feeds.inputs, mode)?;
        let Some(output) = imported.outputs.first() else {
            return Err(Diagnostic::new("model.outputs", "the model has no output")
                .file(&self.path)
                .expected("one output to learn by, or several, of which the first is taken")
                .into());
        };
        let prediction = if output.elem == Elem::F32 {
            output.value
        } else {
            b.cast(output.value, outgrow_tensor::DType::F32)
        };
        let momentum =
            |name: &str| imported.statistics.iter().find(|s| s.buffer == name).map_or(0.0, |s| s.momentum);
        let (mut params, mut buffers) = (Vec::new(), Vec::new());
        for weight in &imported.weights {
            let (name, dims) = (weight.name.clone(), weight.tensor.shape().dims().to_vec());
            let (dtype, init) = (weight.tensor.dtype(), Init::ZEROS);
            // The file's values come in once the trainer has its state.
            match weight.kind {
                InputRole::Param => params.push(ParamSpec { name, dtype, dims, init }),
                _ => buffers.push(BufferSpec { momentum: momentum(&name), name, dtype, dims, init }),
            }
        }
        let statistics = imported.statistics.into_iter().map(|s| (s.buffer, s.value)).collect();
        Ok(ForeignBody { prediction, params, buffers, statistics })
    }
}

fn in_file(mut found: Diagnostics, path: &Path) -> Diagnostics {
    for diagnostic in &mut found.0 {
        diagnostic.place.file.get_or_insert_with(|| path.to_owned());
    }
    found
}
