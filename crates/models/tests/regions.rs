//! Composites keep what they are made of through gradients and passes: a region is a function of its operands alone.

mod common;

use common::{features, image, model, tokens};
use outgrow_ir::nn::{Attention, BatchNorm, Dropout, LayerNorm, MaxPool};
use outgrow_ir::{Graph, Op, Region, Value};
use outgrow_models::{BuiltModel, InputSpec, TargetSpec};
use outgrow_passes::{add_gradients, prepare};
use outgrow_tensor::DType;

/// Whether the results follow from the operands and from constants.
fn is_closed(graph: &Graph, region: &Region) -> bool {
    let mut open: Vec<Value> = region.results.clone();
    let mut seen = vec![false; graph.nodes.len()];
    while let Some(value) = open.pop() {
        if region.operands.contains(&value) || std::mem::replace(&mut seen[value.index()], true) {
            continue;
        }
        if matches!(graph.node(value).op, Op::Input(_)) {
            return false;
        }
        open.extend(&graph.node(value).inputs);
    }
    true
}

fn check(json: &str, input: InputSpec, target: TargetSpec) -> BuiltModel {
    let built = model(json, &[input], &target, DType::F32);
    let step = add_gradients(&built.train).unwrap().bind(2);
    let prepared = prepare().run(&step).unwrap();
    for graph in [&built.train, &built.eval, &step, &prepared] {
        for region in &graph.regions {
            assert!(!region.results.is_empty(), "{json}: {} makes nothing", region.kind);
            assert!(is_closed(graph, region), "{json}: {} at `{}`", region.kind, region.origin);
        }
        let members = graph.nodes.iter().filter_map(|node| node.region);
        assert!(members.into_iter().all(|region| (region.0 as usize) < graph.regions.len()));
    }
    assert!(!prepared.regions.is_empty() && prepared.regions.len() <= step.regions.len());
    built
}

#[test]
fn regions_are_functions_of_their_operands() {
    let gpt = r#"{"name": "gpt", "layers": 2, "heads": 2, "width": 16, "dropout": 0.1}"#;
    let gpt = check(gpt, tokens(8), TargetSpec::Tokens { vocab: 11, context: 8 });
    let attention: Vec<Attention> = gpt.train.composites().map(|(kind, _)| kind).collect();
    assert_eq!(attention, [Attention { heads: 2, causal: true }, Attention { heads: 2, causal: true }]);
    assert_eq!(gpt.eval.composites::<LayerNorm>().count(), 5);
    // Each with a stream of random numbers of its own.
    let streams: Vec<usize> = gpt.train.composites::<Dropout>().map(|(kind, _)| kind.stream).collect();
    assert_eq!(streams, [0, 1, 2, 3, 4]);
    let resnet = check(r#"{"name": "resnet18"}"#, image([3, 32, 32]), TargetSpec::Class { classes: 4 });
    let training = |graph: &Graph| graph.composites::<BatchNorm>().map(|(kind, _)| kind.training).collect();
    let (train, eval): (Vec<bool>, Vec<bool>) = (training(&resnet.train), training(&resnet.eval));
    assert_eq!((train, eval), (vec![true; 20], vec![false; 20]));
    check(r#"{"name": "lenet"}"#, image([1, 28, 28]), TargetSpec::Class { classes: 10 });
    let layers = r#"{"layers": [{"conv": 4, "kernel": 3}, {"batch_norm": true}, {"max_pool": 2}, {"flatten": true},
        {"layer_norm": true}, {"dense": 3}]}"#;
    let layers = check(layers, image([2, 9, 9]), TargetSpec::Regression { width: 3 });
    assert_eq!(layers.train.composites::<MaxPool>().next().unwrap().0.size, [2, 2]);
    check(r#"{"name": "mlp", "hidden": [5]}"#, features(4), TargetSpec::Binary);
}
