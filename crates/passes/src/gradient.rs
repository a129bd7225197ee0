//! Reverse-mode gradient on the graph: walks it from back to front and lets every op's derivative rule add the nodes
//! by which gradient flows into its inputs.

use outgrow_ir::{Builder, Diagnostic, Diagnostics, Graph, InputRole, Output, OutputRole, Value, Vjp};
use std::sync::Arc;

/// What stands before the name of a parameter in the name of its gradient's output.
const GRAD_PREFIX: &str = "grad:";

/// The graph with the gradient of the scalar `loss` by each of `wrt` added (zeros where it does not depend on one),
/// and these gradients. The values of `graph` keep their numbers.
pub fn gradient(graph: &Graph, loss: Value, wrt: &[Value]) -> Result<(Graph, Vec<Value>), Diagnostics> {
    let ty = graph.ty(loss);
    if ty.rank() != 0 || !ty.dtype.is_float() {
        let problem = format!("only a float scalar has a gradient, got {ty}");
        return Err(Diagnostic::new("graph.gradient", problem)
            .item(format!("%{}", loss.0))
            .hint("sum it over its dimensions, or take its mean")
            .into());
    }
    // Gradient flows only through nodes that depend on something it is asked for.
    let mut active = vec![false; graph.nodes.len()];
    wrt.iter().for_each(|v| active[v.index()] = true);
    for (value, node) in graph.iter() {
        active[value.index()] |= node.inputs.iter().any(|v| active[v.index()]);
    }
    let mut b = Builder::extend(graph.clone());
    let mut grads: Vec<Option<Value>> = vec![None; graph.nodes.len()];
    grads[loss.index()] = Some(b.scalar(1.0, ty.dtype));
    for (value, node) in graph.iter().rev() {
        let Some(grad) = grads[value.index()].filter(|_| active[value.index()]) else { continue };
        let origin: Arc<str> = format!("grad/{}", node.origin).into();
        b.with_origin(origin, |b| {
            let flows = node.op.rule().vjp(&mut Vjp { b, inputs: &node.inputs, output: value, grad });
            for (input, flow) in node.inputs.iter().zip(flows) {
                let Some(flow) = flow.filter(|_| active[input.index()]) else { continue };
                let sum = match grads[input.index()] {
                    Some(before) => b.add(before, flow),
                    None => flow,
                };
                grads[input.index()] = Some(sum);
            }
        });
    }
    let found: Vec<Value> =
        wrt.iter().map(|v| grads[v.index()].unwrap_or_else(|| b.zeros_like(*v))).collect();
    Ok((b.finish()?, found))
}

/// The graph with the gradient of its loss by every parameter added as an output `grad:<parameter>`, in the order of the
/// parameters.
pub fn add_gradients(graph: &Graph) -> Result<Graph, Diagnostics> {
    let Some(loss) = graph.output_of(&OutputRole::Loss) else {
        let problem = format!("graph `{}` has no loss", graph.name);
        return Err(Diagnostic::new("graph.gradient", problem)
            .expected("an output to differentiate: `\"loss\" = %9 as loss`")
            .into());
    };
    let params = graph.inputs_of(InputRole::Param).map(|(value, input)| (input.name.clone(), value));
    let (names, params): (Vec<_>, Vec<_>) = params.unzip();
    let (mut graph, grads) = gradient(graph, loss.value, &params)?;
    let output = |(name, value): (String, Value)| Output {
        name: format!("{GRAD_PREFIX}{name}"),
        role: OutputRole::Gradient(name),
        value,
    };
    graph.outputs.extend(names.into_iter().zip(grads).map(output));
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_ir::{TensorType, interpret};
    use outgrow_tensor::{DType, Tensor};

    /// `loss = sum((w x)^2)`, whose gradient by w is `2 w x x`; `unused` plays no part.
    #[test]
    fn a_value_used_twice_adds_its_gradients() {
        let mut b = Builder::new("square");
        let w = b.param("w", DType::F32, &[2]);
        let _unused = b.param("unused", DType::F32, &[1]);
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [2usize]));
        let y = b.mul(w, x);
        let square = b.mul(y, y);
        let loss = b.sum_all(square);
        b.output_as("loss", OutputRole::Loss, loss);
        let graph = add_gradients(&b.finish().unwrap()).unwrap();
        graph.verify().unwrap();
        let inputs = [vec![1.0f32, -2.0], vec![5.0], vec![3.0, 0.5]].map(Tensor::vector);
        let outputs = interpret(&graph, &inputs).unwrap();
        assert_eq!(graph.outputs[1].role, OutputRole::Gradient("w".into()));
        assert_eq!(outputs[1].as_slice::<f32>().unwrap(), [18.0, -1.0]);
        assert_eq!(outputs[2].as_slice::<f32>().unwrap(), [0.0]);
    }

    #[test]
    fn only_scalars_have_gradients() {
        let mut b = Builder::new("vector");
        let w = b.param("w", DType::F32, &[2]);
        b.output_as("loss", OutputRole::Loss, w);
        let graph = b.finish().unwrap();
        assert!(add_gradients(&graph).unwrap_err().to_string().contains("f32[2]"));
        let none = Graph { outputs: Vec::new(), ..graph };
        assert!(add_gradients(&none).unwrap_err().to_string().contains("has no loss"));
    }
}
