//! `linear`: one fully connected layer from the inputs to the targets.

use crate::Init;
use crate::net::Net;
use outgrow_ir::{Diagnostics, Value};
use outgrow_tensor::DType;

/// `fc.weight [out, in]`, `fc.bias [out]`, as `nn.Linear`. Categories add a row of `categories.weight [values, out]`
/// each: the same as a linear layer over their indicators, without making these.
pub(crate) fn build(net: &mut Net) -> Result<Value, Diagnostics> {
    let outputs = net.outputs();
    let mut sum: Option<Value> = None;
    for (spec, value) in net.inputs.clone() {
        let part = if is_index(spec.dtype) {
            let vectors =
                net.category_embedding("categories", (&spec, value), outputs, Init::torch_default)?;
            net.b.reduce_sum(vectors, &[1])
        } else {
            let x = net.as_float(value);
            let x = net.flatten(x);
            net.dense("fc", x, outputs, true)
        };
        sum = Some(match sum {
            Some(sum) => net.b.add(sum, part),
            None => part,
        });
    }
    let sum = sum.unwrap_or_else(|| net.b.error("there are no inputs"));
    if net.inputs.iter().any(|(spec, _)| !is_index(spec.dtype)) {
        return Ok(sum);
    }
    // The bias is part of the numbers' layer, which there is none of.
    Ok(net.scoped("fc", |net| {
        let bias = net.bias(outputs, Init::ZEROS);
        net.b.add(sum, bias)
    }))
}

fn is_index(dtype: DType) -> bool {
    matches!(dtype, DType::I32 | DType::I64)
}
