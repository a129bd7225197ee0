//! `wide-deep`: a linear model beside a network over embeddings (Cheng et al. 2016).

use crate::net::Net;
use crate::spec::Activation;
use crate::{Init, linear};
use outgrow_ir::{Diagnostic, Diagnostics, Value};
use outgrow_tensor::DType;

/// The wide part is the `linear` model over features and categories (`wide.fc`, `wide.categories`). The deep part puts
/// the features and a vector for each category (`deep.embedding.weight`) side by side and runs them through fully
/// connected layers (`deep.0`, `deep.2`, …, numbered as in `nn.Sequential`). The outputs are added.
pub(crate) fn build(
    net: &mut Net,
    hidden: &[usize],
    embedding: usize,
    activation: Activation,
    dropout: f64,
) -> Result<Value, Diagnostics> {
    if net.inputs.iter().any(|(spec, _)| spec.name != "features" && spec.name != "categories") {
        return Err(Diagnostic::new("model.inputs", "`wide-deep` works on the columns of a table")
            .item("model.name")
            .expected("features, categories or both")
            .into());
    }
    let wide = net.scoped("wide", linear::build)?;
    let deep = net.scoped("deep", |net| deep(net, hidden, embedding, activation, dropout))?;
    Ok(net.b.add(wide, deep))
}

fn deep(
    net: &mut Net,
    hidden: &[usize],
    embedding: usize,
    activation: Activation,
    dropout: f64,
) -> Result<Value, Diagnostics> {
    let mut parts = Vec::new();
    for (spec, value) in net.inputs.clone() {
        parts.push(if matches!(spec.dtype, DType::I32 | DType::I64) {
            let normal = |_| Init::Normal { std: 1.0 };
            let vectors = net.category_embedding("embedding", (&spec, value), embedding, normal)?;
            net.flatten(vectors)
        } else {
            net.as_float(value)
        });
    }
    let mut x = if parts.len() == 1 { parts[0] } else { net.b.concat(&parts, 1) };
    let mut index = 0;
    for units in hidden {
        x = net.dense(&index.to_string(), x, *units, true);
        x = net.scoped(&(index + 1).to_string(), |net| net.activation(activation, x));
        index += 2;
        if dropout > 0.0 {
            x = net.scoped(&index.to_string(), |net| net.dropout(x, dropout));
            index += 1;
        }
    }
    let outputs = net.outputs();
    Ok(net.dense(&index.to_string(), x, outputs, true))
}
