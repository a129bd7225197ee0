//! `outgrow export`: a trained model as an ONNX file that other programs run.

use outgrow_ir::Diagnostic;
use outgrow_onnx::export::{ExportOptions, export, to_files};
use outgrow_predict::Package;
use outgrow_transform::Target;
use serde_json::json;

use crate::cli::{ExportArgs, ManifestArgs, ProcessorArgs};
use crate::context::{Context, Failure};
use crate::report::format::bytes;
use crate::session::{Session, decision, package};

/// The key of the file's metadata for where two classes are divided.
const THRESHOLD: &str = "decision_threshold";
/// The output that is written: logits or predictions.
const OUTPUT: &str = "output";

/// The model of a manifest with the weights that training would start from.
fn untrained(args: &ExportArgs, context: &Context) -> Result<Package, Failure> {
    let ExportArgs { model, set, data, cache, .. } = args.clone();
    let manifest = ManifestArgs { manifest: model, set, data, cache };
    let processor = ProcessorArgs { threads: None, kernel_path: None };
    let session = Session::open(&manifest, &processor, context)?;
    let (data, _) = session.data()?;
    let trainer = session.trainer(&data, session.model(&data)?, None)?;
    Ok(package(&session, &data, &trainer)?)
}

/// Writes the model of a run, or of a manifest.
pub fn run(args: &ExportArgs, context: &Context) -> Result<(), Failure> {
    let storage = &*context.world.storage;
    let is_manifest = args.model.is_file();
    if !is_manifest && (args.data.is_some() || args.cache.is_some() || !args.set.is_empty()) {
        return Err(Diagnostic::new("export.option", "--set, --data and --cache go with a manifest")
            .file(&args.model)
            .hint("a trained model is exported as it is")
            .into());
    }
    let package = if is_manifest {
        untrained(args, context)?
    } else {
        Package::load(storage, &Package::find(storage, &args.model)?)?
    };
    let mut metadata = Vec::new();
    if let Target::Class { names } = package.transform.schema().target {
        metadata.push(("classes".to_owned(), json!(names).to_string()));
    }
    if let Some(decision) = &package.decision {
        let mut threshold = decision::to_json(decision);
        // What is compared with log-odds need not become a probability first.
        threshold["log_odds"] = json!(decision.log_odds);
        context.note(&format!(
            "note: the decision threshold ({}) is in the file's metadata alone, as `decision_threshold`: its operators give \
             the model's `{OUTPUT}`, and whoever runs them compares",
            decision::told(&threshold).unwrap_or_default()
        ));
        metadata.push((THRESHOLD.to_owned(), threshold.to_string()));
    }
    metadata.push(("transform".to_owned(), package.transform.to_json()));
    let options =
        ExportOptions { name: package.name()?, version: env!("CARGO_PKG_VERSION").to_owned(), metadata };
    let model = export(&package.graph, &[OUTPUT], &package.weights, &options)?;
    let (nodes, inputs) = model.graph.as_ref().map_or((0, Vec::new()), |graph| {
        (graph.node.len(), graph.input.iter().map(|input| input.name.clone()).collect())
    });
    let name = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = to_files(model, &format!("{name}.data"));
    let write = |path: &std::path::Path, content: &[u8]| {
        storage.write(path, content).map_err(|e| {
            Diagnostic::new("export.file", e.to_string())
                .file(path)
                .hint("the folder must exist and be writable")
        })
    };
    // The weights come first: a model without its second file would be worth nothing.
    let mut data = None;
    if let Some(content) = &files.data {
        let path = args.file.with_file_name(format!("{name}.data"));
        write(&path, content)?;
        data = Some(path);
    }
    write(&args.file, &files.model)?;
    let size = files.model.len() + files.data.as_ref().map_or(0, Vec::len);
    let json = json!({
        "file": args.file,
        "data": data,
        "bytes": size,
        "nodes": nodes,
        "inputs": inputs,
        "outputs": [OUTPUT],
        "opset": outgrow_onnx::export::OPSET,
    });
    let text = format!("{}: {}, {nodes} nodes\n", args.file.display(), bytes(size as u64));
    Ok(context.answer(&json, &text)?)
}
