//! Running sums and products, and sorting.

use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered, axis, check_size, fixed_dim, invalid, unsupported};
use crate::datum::Datum;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[
    op("CumProd", |cx| running(cx, 1.0, Builder::mul)),
    op("CumSum", |cx| running(cx, 0.0, Builder::add)),
    op("TopK", top_k),
];

/// Combines each element with all before it by doubling (Hillis and Steele 1986): after step k it holds the last 2ᵏ.
fn running(cx: &mut Cx<'_>, neutral: f64, f: fn(&mut Builder, Value, Value) -> Value) -> Lowered {
    let (elem, mut x, dims) = (cx.elem(0)?, cx.number(0)?, cx.dims(0)?);
    let given = cx.known(1)?;
    let at = axis(if given.elements() == 1 { given.get_i64(0) } else { 0 }, dims.len())?;
    let (exclusive, reverse) = (cx.flag("exclusive", false)?, cx.flag("reverse", false)?);
    let n = fixed_dim(&dims, at)?;
    let b = &mut *cx.b;
    if reverse {
        x = b.reverse(x, at);
    }
    let shifted = |b: &mut Builder, x: Value, by: usize| {
        let kept = b.slice(x, at, 0, n.saturating_sub(by));
        b.pad(kept, at, by.min(n), 0, 0, neutral)
    };
    if exclusive {
        x = shifted(b, x, 1);
    }
    let mut step = 1;
    while step < n {
        let before = shifted(b, x, step);
        x = f(b, before, x);
        step *= 2;
    }
    if reverse {
        x = b.reverse(x, at);
    }
    cx.wrapped(elem, x)
}

/// The k largest (or smallest), each with its index: an element's rank is how many come before it.
fn top_k(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.number(0)?, cx.dims(0)?);
    let at = axis(cx.int("axis", -1)?, dims.len())?;
    let (largest, _) = (cx.flag("largest", true)?, cx.flag("sorted", true)?);
    let n = fixed_dim(&dims, at)?;
    let k = if cx.opset < 10 { cx.int("k", 0)? } else { cx.known_number(1)? as i64 };
    let Some(k) = usize::try_from(k).ok().filter(|k| *k <= n) else {
        return invalid(format!("takes {k} of {n} elements"));
    };
    if n > 4096 {
        return unsupported(format!("sorts {n} elements"), "at most 4096");
    }
    let b = &mut *cx.b;
    let rank = dims.len();
    let mut order: Vec<usize> = (0..rank).filter(|i| *i != at).collect();
    order.push(at);
    let moved = b.transpose(x, &order);
    let outer: Vec<Dim> = order[..rank - 1].iter().map(|i| dims[*i]).collect();
    let with = |extra: &[usize]| {
        outer.iter().copied().chain(extra.iter().map(|d| Dim::Fixed(*d))).collect::<Vec<_>>()
    };
    let square = with(&[n, n]);
    check_size(&square)?;
    let axes = |last: usize| (0..rank - 1).chain([last]).collect::<Vec<_>>();
    // Rows are the element, columns the one it is compared with.
    let own = b.broadcast(moved, &square, &axes(rank - 1));
    let other = b.broadcast(moved, &square, &axes(rank));
    let ahead = b.compare(if largest { Comparison::Gt } else { Comparison::Lt }, other, own);
    let equal = b.compare(Comparison::Eq, other, own);
    let (row, column) = (b.iota(DType::I32, &square, rank - 1), b.iota(DType::I32, &square, rank));
    let earlier = b.compare(Comparison::Lt, column, row);
    let tie = b.and(equal, earlier);
    let before = b.or(ahead, tie);
    let before = b.cast(before, DType::I32);
    let place = b.reduce_sum(before, &[rank]);
    // Position j of the result is the element of rank j: the first (and only) hit in a column.
    let table = with(&[n, k]);
    check_size(&table)?;
    let place = b.broadcast(place, &table, &axes(rank - 1));
    let wanted = b.iota(DType::I32, &table, rank);
    let hit = b.compare(Comparison::Eq, place, wanted);
    let hit_number = b.cast(hit, DType::I32);
    let index = b.arg_max(hit_number, rank - 1);
    let spread = b.broadcast(moved, &table, &axes(rank - 1));
    let zero = b.scalar(0.0, elem.dtype());
    let chosen = b.select(hit, spread, zero);
    let values = b.reduce_sum(chosen, &[rank - 1]);
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(i, a)| back[*a] = i);
    let values = b.transpose(values, &back);
    let index = b.cast(index, DType::I64);
    let index = b.transpose(index, &back);
    Ok(vec![Datum::value(elem, values), Datum::value(Elem::I64, index)])
}
