//! What the tests share: small models in packages on a simulated disk, made without training.
// Every test file compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use outgrow_env::{SimStorage, StorageBackend};
use outgrow_ir::Diagnostics;
use outgrow_models::spec::ModelSpec;
use outgrow_models::{BuildOptions, InputSpec, TargetSpec, build};
use outgrow_predict::{Model, ModelOptions, Package};
use outgrow_runtime::{CpuBackend, Products, ThreadPool};
use outgrow_tensor::RngKey;
use outgrow_transform::{
    Assembly, Chain, CharVocabulary, Column, ColumnKind, Columns, FeatureInput, ImageInput, PixelNorm,
    RawFormat, Role, Target, TargetEncoder, TargetMoments, TextInput, Transform, Vocabulary,
};

/// Where packages are.
pub const RUN: &str = "run";

/// An empty disk.
pub fn disk() -> Arc<dyn StorageBackend> {
    Arc::new(SimStorage::new(1))
}

/// The CPU with so many threads.
pub fn options(threads: usize) -> ModelOptions {
    let backend = Arc::new(CpuBackend::new(Arc::new(ThreadPool::new(threads))));
    ModelOptions { backend, memory: None, narrow: false, products: Products::F32 }
}

/// A package whose weights follow from the seed.
pub fn package(model: &str, transform: Transform) -> Package {
    let schema = transform.schema();
    let inputs: Vec<InputSpec> = (schema.inputs.iter())
        .map(|field| InputSpec {
            name: field.name.clone(),
            dtype: field.dtype,
            dims: field.shape.clone(),
            cardinalities: field.cardinalities.clone(),
        })
        .collect();
    let target = match &schema.target {
        Target::Class { names } => TargetSpec::Class { classes: names.len() },
        Target::Regression { width } => TargetSpec::Regression { width: *width },
        Target::Tokens { vocab } => TargetSpec::Tokens { vocab: *vocab, context: inputs[0].dims[0] },
    };
    let spec: ModelSpec = serde_json::from_str(model).unwrap();
    let built = build(&spec.validate().unwrap(), &inputs, &target, BuildOptions::default()).unwrap();
    let key = RngKey::new(7);
    let params = built.params.iter().map(|p| (&p.name, p.dtype, &p.dims, &p.init));
    let buffers = built.buffers.iter().map(|b| (&b.name, b.dtype, &b.dims, &b.init));
    let weights = params
        .chain(buffers)
        .map(|(name, dtype, dims, init)| (name.clone(), init.tensor(key.fold_in_name(name), dtype, dims)));
    let weights = weights.collect();
    let manifest = "name = \"small\"\nseed = 7\n[data]\nsource = \"csv\"\n[model]\n[train]\n".to_owned();
    Package { graph: built.answer, weights, transform, decision: None, manifest }
}

fn column(name: &str, kind: ColumnKind, role: Role) -> Column {
    Column { role, ..Column::new(name, kind) }
}

fn transform(columns: Vec<Column>, assembly: Assembly) -> Transform {
    Transform { columns: Columns(columns), format: RawFormat::default(), chain: Chain::default(), assembly }
}

/// Two numbers, `age` and `height`, and one of three classes as the label.
pub fn people() -> Transform {
    let number = |name| column(name, ColumnKind::Number, Role::Feature);
    let label = column("colour", ColumnKind::Text, Role::Label);
    let features =
        FeatureInput { columns: vec![0, 1], widths: vec![1, 1], names: vec!["age".into(), "height".into()] };
    let names = ["blue", "green", "red"].map(String::from).to_vec();
    let target = TargetEncoder::ClassName { column: 2, names };
    let assembly = Assembly { image: None, features: Some(features), categories: None, text: None, target };
    transform(vec![number("age"), number("height"), label], assembly)
}

/// Grey images of 6 x 6 and a number as the label.
pub fn images() -> Transform {
    let columns = vec![
        column("image", ColumnKind::Image, Role::Feature),
        column("weight_kg", ColumnKind::Number, Role::Label),
    ];
    let (channels, height, width) = (1, 6, 6);
    let normalize = PixelNorm::unit(channels);
    let image = ImageInput { column: 0, channels, height, width, resize: false, normalize };
    let target = TargetEncoder::Numbers {
        columns: vec![1],
        moments: vec![TargetMoments { mean: 0.0, deviation: 1.0 }],
    };
    transform(columns, Assembly { image: Some(image), features: None, categories: None, text: None, target })
}

/// Text of the letters `a` to `d`.
pub fn text() -> Transform {
    let vocabulary = Vocabulary::Characters(CharVocabulary::new(&"abcd".chars().collect()));
    let text = Some(TextInput { context: 8, vocabulary });
    let target = TargetEncoder::NextToken;
    let columns = vec![column("text", ColumnKind::Text, Role::Feature)];
    transform(columns, Assembly { image: None, features: None, categories: None, text, target })
}

/// Two layers over the people.
pub const LAYERS: &str = r#"{"layers": [{"dense": 16, "activation": "relu"}, {"dense": 3}]}"#;

/// Saves a package and opens it.
pub fn opened(package: &Package, threads: usize) -> Model {
    let storage = disk();
    package.save(&*storage, Path::new(RUN)).unwrap();
    open(&storage, threads).unwrap()
}

/// Opens what is on a disk.
pub fn open(storage: &Arc<dyn StorageBackend>, threads: usize) -> Result<Model, Diagnostics> {
    Model::open(storage, Path::new(RUN), options(threads))
}
