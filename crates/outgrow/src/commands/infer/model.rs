//! What is run: an ONNX file, or the evaluation graph of a package with its weights.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, Dim, Graph, Input, Value};
use outgrow_onnx::{DimInfo, FolderData, Given, OnnxModel, ValueInfo};
use outgrow_runtime::Weights;
use outgrow_tensor::Tensor;

use super::super::predict::{answering, model_folder, read_file};
use super::arrays::Array;
use super::wrong;
use crate::session::{Package, load_package};

/// A model that can be run on arrays.
#[derive(Debug)]
pub enum Model {
    /// From a file of another framework.
    Onnx(Box<OnnxModel>),
    /// Trained here.
    Package(Box<Package>),
}

/// What runs once.
#[derive(Debug)]
pub struct Program {
    /// The graph, with the outputs that are wanted.
    pub graph: Graph,
    /// The batch size.
    pub batch: usize,
    /// The model's weights, which are bound to inputs of the graph.
    pub weights: Weights,
    /// A tensor for every other input.
    pub feeds: Vec<Tensor>,
    /// The names of all outputs of the model.
    pub outputs: Vec<String>,
}

impl Model {
    /// Opens the model that `path` names.
    pub fn open(storage: &Arc<dyn StorageBackend>, path: &Path) -> Result<Self, Diagnostics> {
        if !path.is_file() {
            let folder = model_folder(&**storage, path)?;
            let mut package = load_package(&**storage, &folder)?;
            package.graph = answering(&package.graph)?;
            return Ok(Self::Package(Box::new(package)));
        }
        let bytes = read_file(storage, path)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let model = OnnxModel::parse(bytes.into(), &FolderData::new(folder)).map_err(|d| in_file(d, path))?;
        Ok(Self::Onnx(Box::new(model)))
    }

    /// The names of the inputs that a caller gives, in order.
    pub fn input_names(&self) -> Vec<String> {
        match self {
            Self::Onnx(model) => model.inputs.iter().map(|i| i.name.clone()).collect(),
            Self::Package(package) => feeds(&package.graph).map(|(_, input)| input.name.clone()).collect(),
        }
    }

    /// The names of the outputs, in order.
    pub fn output_names(&self) -> Vec<String> {
        match self {
            Self::Onnx(model) => model.outputs.clone(),
            Self::Package(package) => {
                package.graph.outputs.iter().map(|output| output.name.clone()).collect()
            }
        }
    }

    /// The graph for these arrays, with the outputs of these numbers.
    pub fn program(self, arrays: &[Array], outputs: &[usize]) -> Result<Program, Diagnostics> {
        let names = self.output_names();
        match self {
            Self::Onnx(model) => onnx_program(&model, arrays, outputs, names),
            Self::Package(package) => package_program(*package, arrays, names),
        }
    }
}

fn in_file(mut found: Diagnostics, path: &Path) -> Diagnostics {
    found.0.iter_mut().for_each(|d| d.place.file = Some(path.to_owned()));
    found
}

/// What a package's graph is given beside weights.
fn feeds(graph: &Graph) -> impl Iterator<Item = (Value, &Input)> {
    graph.signature().filter(|(_, input)| !input.role.is_model())
}

/// Whether an array is what the file declares, as far as it does.
fn check(info: &ValueInfo, array: &Array) -> Result<(), Diagnostic> {
    let (dtype, shape) = (array.tensor.dtype(), array.tensor.shape());
    let problem = format!("the array for `{}` is {dtype}{shape}", info.name);
    let diagnostic = wrong("infer.input", problem).file(&array.file);
    if dtype != info.elem.dtype() {
        return Err(diagnostic.expected(info.elem.dtype().name()).hint("convert it with `astype`"));
    }
    let Some(dims) = &info.dims else { return Ok(()) };
    let fits = dims.len() == shape.rank()
        && dims.iter().zip(shape.dims()).all(|(d, n)| !matches!(d, DimInfo::Fixed(m) if m != n));
    if fits {
        return Ok(());
    }
    let shown: Vec<String> = dims
        .iter()
        .map(|d| match d {
            DimInfo::Fixed(n) => n.to_string(),
            DimInfo::Named(name) => name.clone(),
            DimInfo::Unknown => "?".into(),
        })
        .collect();
    Err(diagnostic.expected(format!("{}[{}]", info.elem.dtype(), shown.join(", "))))
}

fn onnx_program(
    model: &OnnxModel,
    arrays: &[Array],
    outputs: &[usize],
    names: Vec<String>,
) -> Result<Program, Diagnostics> {
    let problems = model.inputs.iter().zip(arrays).filter_map(|(info, array)| check(info, array).err());
    Diagnostics(problems.collect()).into_result(())?;
    let dims = |t: &Tensor| t.shape().dims().iter().map(|d| Dim::Fixed(*d)).collect();
    let mut given: Vec<Given> = arrays.iter().map(|a| Given::Dims(dims(&a.tensor))).collect();
    // Inputs that decide shapes are bound; each round binds at least one more.
    let (mut graph, imported) = loop {
        match model.graph(&given) {
            Ok(built) => break built,
            Err(refused) => {
                let open = refused.bind.into_iter().filter(|i| matches!(given[*i], Given::Dims(_)));
                let open: Vec<usize> = open.collect();
                if open.is_empty() {
                    return Err(refused.diagnostics);
                }
                open.into_iter().for_each(|i| given[i] = Given::Tensor(arrays[i].tensor.clone()));
            }
        }
    };
    graph.outputs = outputs.iter().map(|i| graph.outputs[*i].clone()).collect();
    let weights = imported.weights.iter().filter(|w| graph.inputs.contains(&w.value));
    let weights =
        Weights::new(weights.map(|w| (graph.input_name(w.value).to_owned(), Tensor::clone(&w.tensor))));
    let array = |value: &Value| {
        imported.inputs.iter().position(|v| *v == Some(*value)).map(|i| arrays[i].tensor.clone())
    };
    let feeds =
        graph.inputs.iter().filter(|v| weights.bound(&graph, **v).is_none()).filter_map(array).collect();
    let batch = arrays.first().and_then(|a| a.tensor.shape().dims().first().copied()).unwrap_or(1);
    Ok(Program { graph, batch, weights, feeds, outputs: names })
}

/// The batch size with which the graph's input of these dimensions has this shape.
fn batch_of(dims: &[Dim], shape: &[usize], batch: &mut Option<usize>) -> bool {
    dims.len() == shape.len()
        && dims.iter().zip(shape).all(|(dim, n)| match *dim {
            Dim::Fixed(m) => m == *n,
            Dim::Batch(k) => {
                let own = n / k;
                k * own == *n && *batch.get_or_insert(own) == own
            }
        })
}

fn package_program(
    mut package: Package,
    arrays: &[Array],
    names: Vec<String>,
) -> Result<Program, Diagnostics> {
    let graph = package.graph;
    let mut batch = None;
    let mut problems = Diagnostics::default();
    for ((value, Input { name, .. }), array) in feeds(&graph).zip(arrays) {
        let (ty, tensor) = (graph.ty(value), &array.tensor);
        if tensor.dtype() != ty.dtype || !batch_of(&ty.dims, tensor.shape(), &mut batch) {
            let problem = format!("the array for `{name}` is {}{}", tensor.dtype(), tensor.shape());
            problems.push(
                wrong("infer.input", problem).file(&array.file).expected(format!("{ty}, B the same in all")),
            );
        }
    }
    problems.into_result(())?;
    let batch = batch.unwrap_or(1);
    let feeds = feeds(&graph).zip(arrays).map(|(_, array)| array.tensor.clone()).collect();
    let (mut weights, mut missing) = (BTreeMap::new(), Diagnostics::default());
    for (_, input) in graph.signature().filter(|(_, input)| input.role.is_model()) {
        match package.weights.remove(&input.name) {
            Some(tensor) => {
                weights.insert(input.name.clone(), tensor);
            }
            None => missing.push(
                wrong("infer.package", format!("there is no weight `{}`", input.name))
                    .hint("the parts of the model do not belong together: train it again"),
            ),
        }
    }
    let weights = Weights::new(weights);
    missing.into_result(Program { graph, batch, weights, feeds, outputs: names })
}
