//! Graphs of other frameworks that answer for each row of their inputs by itself, and how many rows of these run at a time:
//! where what convolutions read and write of a whole batch goes through memory, parts of it stay in the cache.

use outgrow_ir::{Dim, Graph, Node, Op, Value};
use outgrow_tensor::Tensor;

/// Bytes that one convolution reads and writes without going through memory: a part of most last-level caches.
const CACHE_BYTES: u64 = 8 << 20;

/// How many rows of these inputs there are, if all have as many.
pub(crate) fn rows_of(inputs: &[Tensor]) -> Option<usize> {
    let mut rows = inputs.iter().map(|tensor| tensor.shape().dims().first().copied());
    let first = rows.next()??;
    rows.all(|rows| rows == Some(first)).then_some(first)
}

/// How many rows of the graph, which is for so many, are to be run at a time, if that is fewer.
pub(crate) fn rows_at_a_time(graph: &Graph, rows: usize) -> Option<usize> {
    let (mut widest, mut moved, mut weights) = (0u64, 0u64, 0u64);
    for (value, node) in graph.iter() {
        let bytes = |value: Value| graph.ty(value).unit_bytes() as u64;
        match node.op {
            Op::Conv2d(_) => {
                let both = bytes(node.inputs[0]).saturating_add(bytes(value));
                (widest, moved) = (widest.max(both), moved.saturating_add(both));
                weights = weights.saturating_add(bytes(node.inputs[1]));
            }
            Op::Dot(_) => weights = weights.saturating_add(bytes(node.inputs[1])),
            _ => {}
        }
    }
    if rows < 2 || widest <= CACHE_BYTES {
        return None;
    }
    let fit = CACHE_BYTES / (widest / rows as u64).max(1);
    let part = 1 << fit.max(1).ilog2();
    // Each part reads the weights again: that is to be well below what it saves.
    (part < rows as u64 && weights / part <= moved / rows as u64 / 2).then_some(part as usize)
}

/// What a value is in graphs for different numbers of rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The same.
    Same,
    /// Row by row of its first dimension what follows from the same rows of the inputs.
    Rows,
}

/// Whether two graphs, made alike for these numbers of rows, compute the same of each row, and of no other.
pub(crate) fn is_by_rows(graphs: [&Graph; 2], rows: [usize; 2]) -> bool {
    let [whole, part] = graphs;
    if whole.nodes.len() != part.nodes.len() || whole.outputs.len() != part.outputs.len() {
        return false;
    }
    let mut kinds = Vec::with_capacity(whole.nodes.len());
    for ((_, a), (_, b)) in whole.iter().zip(part.iter()) {
        let Some(kind) = kind([a, b], rows, &kinds).filter(|kind| fits([a, b], rows, *kind)) else {
            return false;
        };
        kinds.push(kind);
    }
    whole
        .outputs
        .iter()
        .zip(&part.outputs)
        .all(|(a, b)| a.value == b.value && a.name == b.name && kinds[a.value.index()] == Kind::Rows)
}

/// Whether two nodes have the types that such values have.
fn fits([a, b]: [&Node; 2], rows: [usize; 2], kind: Kind) -> bool {
    let by_rows = || match (a.ty.dims.split_first(), b.ty.dims.split_first()) {
        (Some((first, a)), Some((second, b))) => [*first, *second] == rows.map(Dim::Fixed) && a == b,
        _ => false,
    };
    a.ty.dtype == b.ty.dtype && if kind == Kind::Rows { by_rows() } else { a.ty.dims == b.ty.dims }
}

/// What a node is in both graphs, from what the nodes before it are, if it is one of both.
fn kind([a, b]: [&Node; 2], rows: [usize; 2], kinds: &[Kind]) -> Option<Kind> {
    // The same op, but for the extents that are written into it.
    let without_dims = |node: &Node| {
        let mut op = node.op.clone();
        op.map_dims(&mut |_| Dim::Fixed(1));
        op
    };
    if a.inputs != b.inputs || without_dims(a) != without_dims(b) {
        return None;
    }
    let of = |i: usize| kinds[a.inputs[i].index()];
    let all = |kind: Kind| a.inputs.iter().all(|input| kinds[input.index()] == kind);
    let is_rows = match &a.op {
        Op::Input(input) if !input.role.is_model() => true,
        Op::Input(_) | Op::Constant(_) => false,
        // A value that all rows have.
        Op::Broadcast(op) if all(Kind::Same) => {
            return Some(match fits([a, b], rows, Kind::Same) {
                true => Kind::Same,
                false if !op.axes.contains(&0) => Kind::Rows,
                false => return None,
            });
        }
        Op::RandomUniform(_) => return None,
        _ if all(Kind::Same) => false,
        op if op.rule().elementwise() => all(Kind::Rows).then_some(true)?,
        Op::Conv2d(_) => (of(0) == Kind::Rows && of(1) == Kind::Same).then_some(true)?,
        Op::Dot(op) => {
            let apart = op.lhs_batch.is_empty() && !op.lhs_contract.contains(&0);
            (apart && of(0) == Kind::Rows && of(1) == Kind::Same).then_some(true)?
        }
        Op::Broadcast(op) => (op.axes.first() == Some(&0)).then_some(true)?,
        Op::Transpose(op) => (op.axes.first() == Some(&0)).then_some(true)?,
        Op::ReduceSum(op) => (!op.axes.contains(&0)).then_some(true)?,
        Op::ReduceMax(op) => (!op.axes.contains(&0)).then_some(true)?,
        Op::Slice(op) => (op.axis != 0).then_some(true)?,
        Op::Pad(op) => (op.axis != 0).then_some(true)?,
        Op::Concat(op) => (op.axis != 0 && all(Kind::Rows)).then_some(true)?,
        // With the rows first before and after, they are the same ones.
        Op::Pool2d(_) | Op::Reshape(_) | Op::StopGradient(_) => true,
        _ => return None,
    };
    Some(if is_rows { Kind::Rows } else { Kind::Same })
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_ir::{Builder, InputRole, TensorType};
    use outgrow_tensor::DType;

    /// A graph for so many rows of three numbers.
    fn graph(rows: usize, make: impl Fn(&mut Builder, Value, usize) -> Value) -> Graph {
        let mut b = Builder::new("rows");
        let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [rows, 3]));
        let y = make(&mut b, x, rows);
        b.output("y", y);
        b.finish().unwrap()
    }

    fn check(expected: bool, make: impl Fn(&mut Builder, Value, usize) -> Value) {
        let graphs = [graph(8, &make), graph(2, &make)];
        assert_eq!(is_by_rows([&graphs[0], &graphs[1]], [8, 2]), expected, "{}", graphs[0]);
    }

    #[test]
    fn rows_by_themselves_are_told_from_rows_that_meet() {
        check(true, |b, x, _| {
            let (w, bias) = (b.param("w", DType::F32, &[3, 4]), b.param("bias", DType::F32, &[4]));
            let y = b.matmul(x, w);
            let y = b.add(y, bias);
            b.relu(y)
        });
        check(true, |b, x, _| b.reduce_sum(x, &[1]));
        check(true, |b, x, rows| b.reshape(x, &[Dim::Fixed(rows), Dim::Fixed(3), Dim::Fixed(1)]));
        // A sum over rows that each row gets, rows in another order or place, and a number that hangs on how many they are.
        check(false, |b, x, rows| {
            let sum = b.reduce_sum(x, &[0]);
            let all = b.broadcast(sum, &[Dim::Fixed(rows), Dim::Fixed(3)], &[1]);
            b.add(x, all)
        });
        check(false, |b, x, _| b.reverse(x, 0));
        check(false, |b, x, _| b.transpose(x, &[1, 0]));
        check(false, |b, x, rows| b.reshape(x, &[Dim::Fixed(rows * 3)]));
        check(false, |b, x, rows| b.mul_scalar(x, 1.0 / rows as f64));
        check(false, |b, x, rows| {
            let w = b.param("w", DType::F32, &[rows, 3]);
            b.add(x, w)
        });
    }

    #[test]
    fn what_stays_in_the_cache_runs_together() {
        let convolution = |rows: usize, channels: usize, side: usize| {
            let mut b = Builder::new("convolution");
            let x = b.input("x", InputRole::Data, TensorType::new(DType::F32, [rows, channels, side, side]));
            let w = b.param("w", DType::F32, &[channels, channels, 1, 1]);
            let y = b.conv2d(x, w, outgrow_ir::ops::Window::default(), 1);
            b.output("y", y);
            rows_at_a_time(&b.finish().unwrap(), rows)
        };
        // 1 MiB of each row; 64 KiB; 8 MiB of weights for 16 KiB of each row.
        assert_eq!(convolution(32, 32, 64), Some(8));
        assert_eq!(convolution(7, 32, 64), None);
        assert_eq!(convolution(32, 2, 64), None);
        assert_eq!(convolution(1024, 1024, 1), None);
    }
}
