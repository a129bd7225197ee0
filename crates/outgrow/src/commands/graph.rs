//! `outgrow graph`: a model's graph before and after the passes, as text or for Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use outgrow_ir::{Graph, Op, Output};
use outgrow_passes::prepare;
use outgrow_train::step_graph;
use serde_json::json;

use crate::cli::{GraphArgs, GraphStage, ProcessorArgs};
use crate::context::{Context, Failure};
use crate::session::Session;

/// Prints the graph that computes a micro-shard's gradients.
pub fn run(args: &GraphArgs, context: &Context) -> Result<(), Failure> {
    let processor = ProcessorArgs { threads: None, kernel_path: None };
    let session = Session::open(&args.manifest, &processor, context)?;
    let (data, _) = session.data()?;
    let model = session.model(&data)?;
    let train = session.train(&data);
    let before = step_graph(&model, train.precision)?;
    let after = prepare().run(&before.bind(train.batch / train.micro_shards))?;
    let mut stages = Vec::new();
    if args.stage != GraphStage::After {
        stages.push(("before", &before));
    }
    if args.stage != GraphStage::Before {
        stages.push(("after", &after));
    }
    let show = |graph: &Graph| if args.dot { dot(graph) } else { graph.to_string() };
    let text: String = stages.iter().map(|(_, graph)| show(graph)).collect::<Vec<_>>().join("\n");
    let json = stages.iter().map(|(name, graph)| {
        let cost = graph.bind(train.batch / train.micro_shards).cost();
        let about = json!({ "nodes": graph.nodes.len(), "regions": graph.regions.len(), "flops": cost.flops, "text": show(graph) });
        ((*name).to_owned(), about)
    });
    Ok(context.answer(&json.collect(), &text)?)
}

/// A graph in Graphviz's language: one box per node, fusion groups (or else composites) as clusters.
fn dot(graph: &Graph) -> String {
    let mut text = format!(
        "digraph {} {{\n  rankdir = TB;\n  node [shape = box, style = filled, fillcolor = white];\n",
        quote(&graph.name)
    );
    let mut clusters: BTreeMap<(u8, u32), (String, Vec<u32>)> = BTreeMap::new();
    for (value, node) in graph.iter() {
        let label = match &node.op {
            Op::Input(input) => input.name.clone(),
            op => op.rule().name().to_owned(),
        };
        let label = format!("%{} {label}\n{}\n{}", value.0, node.ty, node.origin);
        let _ = writeln!(text, "  n{} [label = {}];", value.0, quote(&label));
        for input in &node.inputs {
            let _ = writeln!(text, "  n{} -> n{};", input.0, value.0);
        }
        let cluster = match (node.group, node.region) {
            (Some(group), _) => Some(((0, group.0), format!("kernel {}", group.0))),
            (None, Some(region)) => {
                let found = &graph.regions[region.0 as usize];
                Some(((1, region.0), format!("{} {}", found.kind, found.origin)))
            }
            (None, None) => None,
        };
        if let Some((key, name)) = cluster {
            clusters.entry(key).or_insert((name, Vec::new())).1.push(value.0);
        }
    }
    for ((kind, number), (name, nodes)) in clusters {
        let members: String = nodes.iter().map(|n| format!(" n{n};")).collect();
        let _ = writeln!(text, "  subgraph cluster_{kind}_{number} {{ label = {};{members} }}", quote(&name));
    }
    for Output { name, value, .. } in &graph.outputs {
        let _ = writeln!(
            text,
            "  out_{0} [label = {1}, shape = ellipse];\n  n{0} -> out_{0};",
            value.0,
            quote(name)
        );
    }
    text + "}\n"
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
