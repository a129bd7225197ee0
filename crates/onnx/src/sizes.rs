//! Shape computations that depend on symbols, as the batch size: the operators that exporters put between `Shape` and
//! `Reshape`, on integers `a + b·B`.

use crate::cx::{Cx, Lowered, Refusal, axis};
use crate::datum::{Datum, Kind, Sym};
use crate::{Elem, ops};
use outgrow_ir::Dim;
use outgrow_tensor::Tensor;

/// Integers with whether they are a scalar.
type Sizes = (Vec<Sym>, bool);

/// The results of a node that reads a symbolic size, if it is one of those that are understood.
pub(crate) fn lower(cx: &mut Cx<'_>) -> Option<Lowered> {
    let plain = |d: &Datum| matches!(d.kind, Kind::Sizes { .. } | Kind::Known(_));
    if !cx.inputs.iter().flatten().all(plain) {
        return None;
    }
    let result = match cx.node.op_type.as_str() {
        "Identity" => sizes(cx, 0).map(some),
        "Cast" => cast(cx),
        "Unsqueeze" | "Squeeze" | "Reshape" | "Flatten" => rank(cx),
        "Concat" => concat(cx),
        "Gather" => gather(cx),
        "Slice" => slice(cx),
        "Add" => zip(cx, Sym::plus),
        "Sub" => zip(cx, |x, y| x.plus(y.negative()?)),
        "Mul" => zip(cx, Sym::times),
        "Div" => zip(cx, Sym::over),
        "ReduceProd" => product(cx),
        "Equal" => equal(cx),
        "Where" => choose(cx),
        _ => return None,
    };
    match result {
        Ok(Some((items, scalar))) => Some(Ok(vec![Datum::sizes(items, scalar)])),
        // Equal gives truth values, which are known; it has no sizes to give.
        Ok(None) if cx.node.op_type == "Equal" => Some(equal_known(cx)),
        Ok(None) => None,
        Err(refusal) => Some(Err(refusal)),
    }
}

fn some(sizes: Sizes) -> Option<Sizes> {
    Some(sizes)
}

/// Input `i` as integers; it is a vector or a scalar.
fn sizes(cx: &Cx<'_>, i: usize) -> Result<Sizes, Refusal> {
    let scalar = cx.ty(i)?.rank() == 0;
    Ok((cx.syms(i)?, scalar))
}

fn cast(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    cx.ignore(&["saturate", "round_mode"]);
    let to = cx.elem_attr("to", Elem::I64)?;
    if matches!(to, Elem::I64 | Elem::I32) { sizes(cx, 0).map(some) } else { Ok(None) }
}

/// Between a scalar and a vector of one element; a vector stays a vector.
fn rank(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    cx.ignore(&["axes", "axis", "allowzero"]);
    let (items, scalar) = sizes(cx, 0)?;
    Ok(match cx.node.op_type.as_str() {
        "Unsqueeze" if scalar => Some((items, false)),
        "Squeeze" if items.len() == 1 => Some((items, true)),
        "Reshape" => {
            let wanted = cx.ints(1)?;
            match wanted.as_slice() {
                [] => Some((items, true)),
                [n] if *n == -1 || *n == items.len() as i64 => Some((items, false)),
                _ => None,
            }
        }
        _ => None,
    })
}

fn concat(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    cx.ignore(&["axis"]);
    let mut all = Vec::new();
    for i in 0..cx.count() {
        all.extend(sizes(cx, i)?.0);
    }
    Ok(Some((all, false)))
}

fn gather(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    cx.ignore(&["axis"]);
    let (items, _) = sizes(cx, 0)?;
    let scalar = cx.ty(1)?.rank() == 0;
    let picked = cx.ints(1)?.into_iter().map(|i| Ok(items[axis(i, items.len())?]));
    Ok(Some((picked.collect::<Result<_, Refusal>>()?, scalar)))
}

fn slice(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    let (items, _) = sizes(cx, 0)?;
    let Some(part) = ops::movement::slices(cx, &[Dim::Fixed(items.len())])?.into_iter().next() else {
        return Ok(Some((items, false)));
    };
    Ok(Some((part.indices().map(|i| items[i]).collect(), false)))
}

/// Pairs of integers with whether they are a scalar.
type Pairs = (Vec<(Sym, Sym)>, bool);

/// The integers of two inputs, broadcast to equally many.
fn paired(cx: &Cx<'_>, a: usize, b: usize) -> Result<Option<Pairs>, Refusal> {
    let ((x, sx), (y, sy)) = (sizes(cx, a)?, sizes(cx, b)?);
    let n = if x.len() == 1 { y.len() } else { x.len() };
    if (x.len() != n && x.len() != 1) || (y.len() != n && y.len() != 1) {
        return Ok(None);
    }
    let at = |v: &[Sym], i: usize| if v.len() == 1 { v[0] } else { v[i] };
    Ok(Some(((0..n).map(|i| (at(&x, i), at(&y, i))).collect(), sx && sy)))
}

fn zip(cx: &mut Cx<'_>, f: impl Fn(Sym, Sym) -> Option<Sym>) -> Result<Option<Sizes>, Refusal> {
    let Some((pairs, scalar)) = paired(cx, 0, 1)? else { return Ok(None) };
    let items: Option<Vec<Sym>> = pairs.into_iter().map(|(x, y)| f(x, y)).collect();
    Ok(items.map(|items| (items, scalar)))
}

fn product(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    cx.ignore(&["axes", "noop_with_empty_axes"]);
    let keep = cx.flag("keepdims", true)?;
    let (items, _) = sizes(cx, 0)?;
    let product = items.into_iter().try_fold(Sym::number(1), Sym::times);
    Ok(product.map(|p| (vec![p], !keep)))
}

/// Whether two sizes are equal whatever extents of at least 1 symbols stand for, if that can be said.
fn same(x: Sym, y: Sym) -> Option<bool> {
    if x == y {
        return Some(true);
    }
    let Sym { fixed, times, .. } = x.plus(y.negative()?)?;
    // The difference is fixed + times·B with B ≥ 1, hence without a zero where both have one sign.
    let apart = times == 0 || (fixed >= 0 && times > 0) || (fixed <= 0 && times < 0);
    apart.then_some(false)
}

fn equal(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    paired(cx, 0, 1).map(|_| None)
}

fn equal_known(cx: &Cx<'_>) -> Lowered {
    let pairs = paired(cx, 0, 1)?;
    let truths = pairs
        .and_then(|(p, s)| p.into_iter().map(|(x, y)| same(x, y)).collect::<Option<Vec<_>>>().zip(Some(s)));
    match truths {
        Some((truths, true)) if truths.len() == 1 => {
            Ok(vec![Datum::known(Elem::Bool, Tensor::scalar(truths[0]))])
        }
        Some((truths, _)) => Ok(vec![Datum::known(Elem::Bool, Tensor::vector(truths))]),
        None => crate::cx::unsupported(
            "compares sizes of which one depends on a symbol",
            "a comparison with the same result for every extent",
        ),
    }
}

fn choose(cx: &mut Cx<'_>) -> Result<Option<Sizes>, Refusal> {
    let Kind::Known(condition) = &cx.datum(0)?.kind else { return Ok(None) };
    let condition: Vec<bool> = (0..condition.elements()).map(|i| condition.get_i64(i) != 0).collect();
    let Some((pairs, scalar)) = paired(cx, 1, 2)? else { return Ok(None) };
    let n = condition.len().max(pairs.len());
    if (condition.len() != n && condition.len() != 1) || (pairs.len() != n && pairs.len() != 1) {
        return Ok(None);
    }
    let item = |i: usize| {
        let (x, y) = pairs[i.min(pairs.len() - 1)];
        if condition[i.min(condition.len() - 1)] { x } else { y }
    };
    Ok(Some(((0..n).map(item).collect(), scalar && n == 1)))
}

/// Whether the node reads a size that depends on a symbol.
pub(crate) fn applies(inputs: &[Option<Datum>]) -> bool {
    inputs.iter().flatten().any(|d| matches!(d.kind, Kind::Sizes { .. }))
}
