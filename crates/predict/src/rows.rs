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
    /// So many of its first dimension for each row of the inputs, in their order, which follow from that row.
    Rows(usize),
}

/// Whether two graphs, made alike for these numbers of rows, compute the same of each row, and of no other.
pub(crate) fn is_by_rows(graphs: [&Graph; 2], rows: [usize; 2]) -> bool {
    let [whole, part] = graphs;
    // What each value of the whole is, and which value of the part it is there.
    let (mut kinds, mut there) =
        (Vec::with_capacity(whole.nodes.len()), Vec::with_capacity(whole.nodes.len()));
    let mut nodes = part.iter();
    for (_, a) in whole.iter() {
        if rows[1] == 1 && repeats_to(a, whole, rows[0]) && kinds[a.inputs[0].index()] == Kind::Same {
            // To one row nothing is repeated.
            kinds.push(Kind::Rows(1));
            there.push(there[a.inputs[0].index()]);
            continue;
        }
        let Some((value, b)) = nodes.next() else { return false };
        if !a.inputs.iter().map(|input| &there[input.index()]).eq(&b.inputs) {
            return false;
        }
        let Some(kind) = kind([a, b], rows, &kinds, whole) else { return false };
        kinds.push(kind);
        there.push(value);
    }
    let of_rows = |value: Value| kinds[value.index()] == Kind::Rows(1);
    let mut outputs = whole.outputs.iter().zip(&part.outputs);
    nodes.next().is_none()
        && whole.outputs.len() == part.outputs.len()
        && outputs.all(|(a, b)| there[a.value.index()] == b.value && a.name == b.name && of_rows(a.value))
}

/// Whether a node does nothing but repeat its input, of which there is one, for so many rows.
fn repeats_to(node: &Node, graph: &Graph, rows: usize) -> bool {
    let Op::Broadcast(_) = &node.op else { return false };
    let (from, to) = (&graph.ty(node.inputs[0]).dims, &node.ty.dims);
    from.len() == to.len()
        && from.first() == Some(&Dim::Fixed(1))
        && to[0] == Dim::Fixed(rows)
        && from[1..] == to[1..]
}

/// How many of the first dimension there are for each row, if both types are alike but for the rows.
fn per_row([a, b]: [&Node; 2], rows: [usize; 2]) -> Option<usize> {
    let ((first, a_rest), (second, b_rest)) = (a.ty.dims.split_first()?, b.ty.dims.split_first()?);
    let each = first.fixed()? / rows[0].max(1);
    let fits = [*first, *second] == rows.map(|rows| Dim::Fixed(rows * each)) && a_rest == b_rest;
    fits.then_some(each)
}

/// What a node is in both graphs, from what the nodes before it are, if it is one of both.
fn kind([a, b]: [&Node; 2], rows: [usize; 2], kinds: &[Kind], whole: &Graph) -> Option<Kind> {
    // The same op, but for the extents that are written into it.
    let without_dims = |node: &Node| {
        let mut op = node.op.clone();
        op.map_dims(&mut |_| Dim::Fixed(1));
        op
    };
    if without_dims(a) != without_dims(b) || a.ty.dtype != b.ty.dtype {
        return None;
    }
    let all_same = a.inputs.iter().all(|input| kinds[input.index()] == Kind::Same);
    if all_same && a.ty.dims == b.ty.dims {
        return match &a.op {
            Op::Input(input) if !input.role.is_model() => None,
            Op::RandomUniform(_) => None,
            _ => Some(Kind::Same),
        };
    }
    let each = per_row([a, b], rows)?;
    let rowwise = Some(Kind::Rows(each));
    let of = |i: usize| kinds[a.inputs[i].index()];
    match &a.op {
        Op::Input(input) if !input.role.is_model() && each == 1 => return rowwise,
        // What all rows have, and numbers that count within a row.
        Op::Broadcast(op) if all_same => {
            let repeated = whole.ty(a.inputs[0]).dims.first() == Some(&Dim::Fixed(1));
            return rowwise.filter(|_| !op.axes.contains(&0) || repeated);
        }
        Op::Iota(op) => return rowwise.filter(|_| op.axis != 0),
        // Rows stand one after the other, however what is in them is cut.
        Op::Reshape(_) => return rowwise.filter(|_| !all_same),
        _ => {}
    }
    let row = |i: usize| of(i) == Kind::Rows(each);
    let all_rows = !a.inputs.is_empty() && (0..a.inputs.len()).all(row);
    // All but weights and tables have as many of the first dimension as what comes out, and these are the same ones.
    let keeps = match &a.op {
        op if op.rule().elementwise() => all_rows,
        Op::Conv2d(_) => row(0) && of(1) == Kind::Same,
        Op::Gather(_) => of(0) == Kind::Same && row(1),
        Op::Dot(op) if op.lhs_batch.is_empty() => {
            !op.lhs_contract.contains(&0) && row(0) && of(1) == Kind::Same
        }
        Op::Dot(op) => op.lhs_batch[0] == 0 && op.rhs_batch[0] == 0 && all_rows,
        Op::Broadcast(op) => op.axes.first() == Some(&0) && all_rows,
        Op::Transpose(op) => op.axes.first() == Some(&0) && all_rows,
        Op::ReduceSum(op) => !op.axes.contains(&0) && all_rows,
        Op::ReduceMax(op) => !op.axes.contains(&0) && all_rows,
        Op::ArgMax(op) => op.axis != 0 && all_rows,
        Op::Slice(op) => op.axis != 0 && all_rows,
        Op::Pad(op) => op.axis != 0 && all_rows,
        Op::Reverse(op) => op.axis != 0 && all_rows,
        Op::Concat(op) => op.axis != 0 && all_rows,
        Op::Pool2d(_) | Op::Attention(_) | Op::StopGradient(_) => all_rows,
        _ => false,
    };
    rowwise.filter(|_| keeps)
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
        for rows in [1, 2] {
            let graphs = [graph(8, &make), graph(rows, &make)];
            assert_eq!(is_by_rows([&graphs[0], &graphs[1]], [8, rows]), expected, "{}", graphs[0]);
        }
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
        // Several of the first dimension for each row, as the tokens of a text.
        check(true, |b, x, rows| {
            let y = b.reshape(x, &[Dim::Fixed(rows * 3), Dim::Fixed(1)]);
            let w = b.param("w", DType::F32, &[1, 4]);
            let y = b.matmul(y, w);
            let y = b.reshape(y, &[Dim::Fixed(rows), Dim::Fixed(3), Dim::Fixed(4)]);
            b.dot(y, y, (&[0], &[0]), (&[2], &[2]))
        });
        // A table that all rows read, and numbers that count within each.
        check(true, |b, x, rows| {
            let table = b.param("table", DType::F32, &[5, 2]);
            let (places, whole) =
                (b.iota(DType::I32, &[Dim::Fixed(rows), Dim::Fixed(3)], 1), b.cast(x, DType::I32));
            let places = b.add(places, whole);
            b.gather(table, places)
        });
        // What is there once is repeated for each row; where there is one row only, nothing is to be repeated.
        check(true, |b, x, rows| {
            let once = b.param("once", DType::F32, &[1, 3]);
            let each = b.broadcast(once, &[Dim::Fixed(rows), Dim::Fixed(3)], &[0, 1]);
            b.add(x, each)
        });
        // A sum over rows that each row gets, rows in another order or place, and a number that hangs on how many they are.
        check(false, |b, x, rows| {
            let sum = b.reduce_sum(x, &[0]);
            let all = b.broadcast(sum, &[Dim::Fixed(rows), Dim::Fixed(3)], &[1]);
            b.add(x, all)
        });
        check(false, |b, x, _| b.reverse(x, 0));
        check(false, |b, x, rows| {
            let places = b.iota(DType::F32, &[Dim::Fixed(rows), Dim::Fixed(3)], 0);
            b.add(x, places)
        });
        check(false, |b, x, _| b.dot(x, x, (&[], &[]), (&[1], &[1])));
        check(false, |b, x, rows| {
            // Halves that are no rows: as many of the first dimension, but of others.
            let y = b.transpose(x, &[1, 0]);
            b.reshape(y, &[Dim::Fixed(rows), Dim::Fixed(3)])
        });
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
