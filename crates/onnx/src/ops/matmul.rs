//! Matrix products.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, invalid, unsupported};
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[op("Einsum", einsum), op("Gemm", gemm), op("MatMul", matmul)];

fn matmul(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, y) = (cx.elem(0)?, cx.number(0)?, cx.number(1)?);
    let z = product(cx.b, x, y)?;
    cx.wrapped(elem, z)
}

/// NumPy's `matmul`: vectors become matrices for it, and leading dimensions are repeated to common ones.
pub(super) fn product(b: &mut Builder, x: Value, y: Value) -> Result<Value, Refusal> {
    let (rx, ry) = (b.rank(x), b.rank(y));
    if rx == 0 || ry == 0 {
        return invalid("multiplies a scalar as a matrix");
    }
    if rx == 1 && ry == 1 {
        return Ok(b.dot(x, y, (&[], &[]), (&[0], &[0])));
    }
    if ry == 1 {
        return Ok(b.dot(x, y, (&[], &[]), (&[rx - 1], &[0])));
    }
    if rx == 1 {
        return Ok(b.dot(y, x, (&[], &[]), (&[ry - 2], &[0])));
    }
    if ry == 2 {
        return Ok(b.matmul(x, y));
    }
    let (dx, dy) = (b.dims(x), b.dims(y));
    let rank = rx.max(ry) - 2;
    let at = |dims: &[Dim], i: usize| {
        let own = dims.len() - 2;
        (i + own).checked_sub(rank).map_or(Dim::Fixed(1), |j| dims[j])
    };
    let batch: Vec<Dim> =
        (0..rank).map(|i| if at(&dx, i) == Dim::Fixed(1) { at(&dy, i) } else { at(&dx, i) }).collect();
    let spread = |b: &mut Builder, v: Value, dims: &[Dim]| {
        let wanted: Vec<Dim> = batch.iter().chain(&dims[dims.len() - 2..]).copied().collect();
        b.broadcast_to(v, &wanted)
    };
    let (x, y) = (spread(b, x, &dx), spread(b, y, &dy));
    Ok(b.matmul(x, y))
}

fn gemm(cx: &mut Cx<'_>) -> Lowered {
    let (elem, mut x, mut y) = (cx.elem(0)?, cx.number(0)?, cx.number(1)?);
    let (alpha, beta) = (cx.real("alpha", 1.0)?, cx.real("beta", 1.0)?);
    let (trans_x, trans_y) = (cx.flag("transA", false)?, cx.flag("transB", false)?);
    cx.ignore(&["broadcast"]);
    let bias = cx.opt(2)?;
    if !elem.is_float() && (alpha != 1.0 || beta != 1.0) {
        return unsupported("scales integers", "alpha and beta of 1");
    }
    if cx.b.rank(x) != 2 || cx.b.rank(y) != 2 {
        return invalid("multiplies what is no matrix");
    }
    let b = &mut *cx.b;
    if let (false, true, Some(bias), true) = (trans_x, trans_y, bias, alpha == 1.0 && beta == 1.0)
        && b.rank(bias) == 1
        && b.dim(bias, 0) == b.dim(y, 0)
    {
        // What a linear layer is exported as.
        let z = b.dense(x, y, Some(bias));
        return cx.wrapped(elem, z);
    }
    if trans_x {
        x = b.transpose(x, &[1, 0]);
    }
    if trans_y {
        y = b.transpose(y, &[1, 0]);
    }
    let mut z = b.matmul(x, y);
    if alpha != 1.0 {
        z = b.mul_scalar(z, alpha);
    }
    if let Some(mut bias) = bias {
        if beta != 1.0 {
            bias = b.mul_scalar(bias, beta);
        }
        z = b.add(z, bias);
    }
    cx.wrapped(elem, z)
}

/// The labels of an operand; `…` stands for as many of its own as are left.
fn labels(text: &str, rank: usize) -> Result<Vec<char>, Refusal> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let Some((before, after)) = text.split_once("...") else {
        let labels: Vec<char> = text.chars().collect();
        return if labels.len() == rank {
            Ok(labels)
        } else {
            invalid(format!("`{text}` does not fit {rank} dimensions"))
        };
    };
    let Some(open) = rank.checked_sub(before.chars().count() + after.chars().count()) else {
        return invalid(format!("`{text}` has more labels than {rank} dimensions"));
    };
    // Dimensions of the ellipsis are counted from the last one, as broadcasting does.
    let own = (0..open).rev().map(|k| char::from_u32(0xE000 + k as u32).unwrap_or('\u{E000}'));
    Ok(before.chars().chain(own).chain(after.chars()).collect())
}

fn einsum(cx: &mut Cx<'_>) -> Lowered {
    let equation = cx.text("equation", "")?;
    let elem = cx.elem(0)?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != cx.count() {
        return invalid(format!("`{equation}` does not fit {} inputs", cx.count()));
    }
    let mut operands = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let x = cx.number(i)?;
        let names = labels(term, cx.b.rank(x))?;
        operands.push(diagonal(cx.b, x, names)?);
    }
    let all: Vec<char> = operands.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let output = match right {
        Some(text) => {
            let fixed = text.chars().filter(|c| !c.is_whitespace() && *c != '.').count();
            let open =
                all.iter().filter(|c| **c >= '\u{E000}').map(|c| *c as usize - 0xE000 + 1).max().unwrap_or(0);
            labels(text, if text.contains("...") { fixed + open } else { fixed })?
        }
        None => {
            let mut once: Vec<char> = all
                .iter()
                .copied()
                .filter(|c| all.iter().filter(|d| *d == c).count() == 1 || *c >= '\u{E000}')
                .collect();
            once.sort_unstable_by_key(|c| {
                (*c < '\u{E000}', if *c >= '\u{E000}' { u32::MAX - *c as u32 } else { *c as u32 })
            });
            once.dedup();
            once
        }
    };
    let mut rest = operands.into_iter();
    let Some(mut result) = rest.next() else { return invalid("has no operands") };
    let mut rest: Vec<_> = rest.collect();
    while !rest.is_empty() {
        let next = rest.remove(0);
        let later: Vec<char> =
            rest.iter().flat_map(|(_, n)| n.iter().copied()).chain(output.iter().copied()).collect();
        result = contract(cx.b, result, next, &later);
    }
    let (mut x, mut names) = result;
    let gone: Vec<usize> = (0..names.len()).filter(|i| !output.contains(&names[*i])).collect();
    x = cx.b.reduce_sum(x, &gone);
    names.retain(|c| output.contains(c));
    let order: Option<Vec<usize>> = output.iter().map(|c| names.iter().position(|d| d == c)).collect();
    let Some(order) = order.filter(|o| o.len() == names.len()) else {
        return invalid(format!("`{equation}` has results that no operand has"));
    };
    let y = if order.iter().enumerate().all(|(i, a)| i == *a) { x } else { cx.b.transpose(x, &order) };
    cx.wrapped(elem, y)
}

/// An operand with its labels.
type Labelled = (Value, Vec<char>);

/// The diagonal over dimensions of one label.
fn diagonal(b: &mut Builder, mut x: Value, mut names: Vec<char>) -> Result<Labelled, Refusal> {
    while let Some((i, j)) = repeated(&names) {
        let dims = b.dims(x);
        if dims[i] != dims[j] {
            return invalid(format!("`{}` stands for {} and {}", names[i], dims[i], dims[j]));
        }
        let (row, column) = (b.iota(DType::I32, &dims, i), b.iota(DType::I32, &dims, j));
        let on = b.compare(outgrow_ir::ops::compare::Comparison::Eq, row, column);
        let zero = b.scalar(0.0, b.dtype(x));
        let kept = b.select(on, x, zero);
        x = b.reduce_sum(kept, &[j]);
        names.remove(j);
    }
    Ok((x, names))
}

fn repeated(names: &[char]) -> Option<(usize, usize)> {
    (0..names.len()).find_map(|i| (i + 1..names.len()).find(|j| names[*j] == names[i]).map(|j| (i, j)))
}

/// Sums the product of two operands over the labels that nothing needs later.
fn contract(b: &mut Builder, left: Labelled, right: Labelled, later: &[char]) -> Labelled {
    let place = |names: &[char], c: char| names.iter().position(|d| *d == c);
    let ((mut x, nx), (mut y, ny)) = (left, right);
    // A dimension of 1 is repeated to that of the other operand.
    for (i, c) in nx.iter().enumerate() {
        if let Some(j) = place(&ny, *c) {
            let (dx, dy) = (b.dims(x), b.dims(y));
            if dx[i] == Dim::Fixed(1) && dy[j] != dx[i] {
                let mut wanted = dx.clone();
                wanted[i] = dy[j];
                x = b.broadcast_to(x, &wanted);
            } else if dy[j] == Dim::Fixed(1) && dx[i] != dy[j] {
                let mut wanted = dy.clone();
                wanted[j] = dx[i];
                y = b.broadcast_to(y, &wanted);
            }
        }
    }
    let shared: Vec<char> = nx.iter().copied().filter(|c| ny.contains(c)).collect();
    let (batch, inner): (Vec<char>, Vec<char>) = shared.into_iter().partition(|c| later.contains(c));
    let axes = |names: &[char], of: &[char]| of.iter().filter_map(|c| place(names, *c)).collect::<Vec<_>>();
    let z = b.dot(x, y, (&axes(&nx, &batch), &axes(&ny, &batch)), (&axes(&nx, &inner), &axes(&ny, &inner)));
    let free = |names: &[char], other: &[char]| {
        names.iter().copied().filter(|c| !other.contains(c)).collect::<Vec<_>>()
    };
    let names = batch.iter().copied().chain(free(&nx, &ny)).chain(free(&ny, &nx)).collect();
    (z, names)
}
