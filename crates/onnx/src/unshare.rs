//! Gives every batch normalisation weights and statistics of its own.
//!
//! Exporters write tensors of equal content once, and those of fresh models are: all scales and variances are ones, all
//! shifts and means zeros. For inference that is the same; trained, the layers would be tied to each other, and a scale to
//! a running variance.

use crate::model::standard;
use crate::proto::NodeProto;
use crate::tensors::OnnxTensor;
use std::collections::{HashMap, HashSet};

/// What the inputs of a batch normalisation are, from the second on.
const PARTS: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];
/// Wider layers are left as they are: no real one is, and copies take memory.
const CHANNELS_MAX: usize = 1 << 16;

/// Copies what batch normalisations share with anything else.
pub(crate) fn unshare(nodes: &mut [NodeProto], weights: &mut Vec<(String, OnnxTensor)>) {
    // The place of the weight that each name stands for, `Identity` nodes followed.
    let mut places: HashMap<String, usize> =
        weights.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
    let mut taken: HashSet<String> = places.keys().cloned().collect();
    let mut uses = vec![0usize; weights.len()];
    for node in nodes.iter() {
        taken.extend(node.input.iter().chain(&node.output).cloned());
        match (node.op_type.as_str(), node.input.as_slice(), node.output.as_slice()) {
            ("Identity", [from], [to]) if standard(&node.domain) => {
                if let Some(place) = places.get(from).copied() {
                    places.insert(to.clone(), place);
                }
            }
            _ => node.input.iter().filter_map(|name| places.get(name)).for_each(|place| uses[*place] += 1),
        }
    }
    for node in nodes.iter_mut().filter(|n| n.op_type == "BatchNormalization" && standard(&n.domain)) {
        let own = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        let own = own.cloned().unwrap_or_default();
        for (input, part) in node.input.iter_mut().skip(1).zip(PARTS) {
            let Some(place) = places.get(input).copied().filter(|place| uses[*place] > 1) else { continue };
            if weights[place].1.tensor.elements() > CHANNELS_MAX {
                continue;
            }
            let mut name = format!("{own}.{part}");
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            weights.push((name.clone(), weights[place].1.clone()));
            *input = name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Elem;
    use outgrow_tensor::{DType, Tensor};

    fn node(op: &str, name: &str, input: &[&str]) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            name: name.into(),
            input: input.iter().map(|i| (*i).to_owned()).collect(),
            output: vec![format!("{name}_out")],
            ..NodeProto::default()
        }
    }

    #[test]
    fn only_what_is_shared_is_copied() {
        let tensor = |value: f64| OnnxTensor {
            elem: Elem::F32,
            tensor: Tensor::from_f64(DType::F32, vec![4], |_| value),
        };
        let mut weights = vec![
            ("ones".to_owned(), tensor(1.0)),
            ("zeros".to_owned(), tensor(0.0)),
            ("own".to_owned(), tensor(2.0)),
            ("tied".to_owned(), tensor(3.0)),
        ];
        let mut nodes = [
            node("BatchNormalization", "bn1", &["x", "ones", "zeros", "zeros", "ones"]),
            node("Identity", "same", &["zeros"]),
            node("BatchNormalization", "bn2", &["bn1_out", "own", "same_out", "zeros", "ones"]),
            node("Mul", "a", &["bn2_out", "tied"]),
            node("Mul", "b", &["a_out", "tied"]),
        ];
        unshare(&mut nodes, &mut weights);
        assert_eq!(nodes[0].input, ["x", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"]);
        assert_eq!(nodes[2].input, ["bn1_out", "own", "bn2.bias", "bn2.running_mean", "bn2.running_var"]);
        assert_eq!((nodes[3].input[1].as_str(), nodes[4].input[1].as_str()), ("tied", "tied"));
        let value = |name: &str| weights.iter().find(|(n, _)| n == name).map(|(_, t)| t.tensor.get_f64(0));
        assert_eq!((value("bn2.running_var"), value("bn2.bias"), weights.len()), (Some(1.0), Some(0.0), 11));
    }
}
