//! ONNX files: a file that is accepted makes a valid graph, with the batch open or fixed, or is refused with a reason.

use outgrow_ir::{Dim, Graph};
use outgrow_onnx::{DimInfo, Given, NoExternalData, OnnxModel};

fn graph(model: &OnnxModel, open: Dim) -> Option<Graph> {
    let dim = |d: &DimInfo| match d {
        DimInfo::Fixed(n) => Dim::Fixed(*n),
        _ => open,
    };
    let given = model.inputs.iter().map(|i| Given::Dims(i.dims.iter().flatten().map(dim).collect()));
    match model.graph(&given.collect::<Vec<_>>()) {
        Ok((graph, imported)) => {
            assert!(imported.outputs.len() == graph.outputs.len());
            Some(graph)
        }
        Err(refused) => {
            assert!(!refused.diagnostics.0.is_empty(), "a refusal says why");
            None
        }
    }
}

pub fn check(data: &[u8]) {
    let model = match OnnxModel::parse(data.to_vec().into(), &NoExternalData) {
        Ok(model) => model,
        Err(found) => {
            assert!(!found.0.is_empty(), "a refusal says why");
            return;
        }
    };
    for open in [Dim::B, Dim::Fixed(2)] {
        if let Some(graph) = graph(&model, open) {
            graph.verify().expect("an accepted model is a valid graph");
        }
    }
}
