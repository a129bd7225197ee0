//! Shapes as values, and values under other shapes.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, axes, axis, check_size, invalid, unsupported};
use crate::datum::{Datum, Sym};
use outgrow_ir::Dim;

pub(super) const RULES: &[Rule] = &[
    op("Expand", expand),
    op("Flatten", flatten),
    op("Identity", identity),
    op("Reshape", reshape),
    op("Shape", shape),
    op("Size", size),
    op("Squeeze", squeeze),
    op("Unsqueeze", unsqueeze),
];

fn identity(cx: &mut Cx<'_>) -> Lowered {
    Ok(vec![cx.datum(0)?.clone()])
}

fn shape(cx: &mut Cx<'_>) -> Lowered {
    let dims = cx.dims(0)?;
    let rank = dims.len() as i64;
    let bound = |at: i64| if at < 0 { at + rank } else { at }.clamp(0, rank) as usize;
    let (start, end) = (bound(cx.int("start", 0)?), bound(cx.int("end", rank)?));
    let items = dims.get(start..end.max(start)).unwrap_or_default();
    Ok(vec![Datum::sizes(items.iter().map(|d| Sym::from(*d)).collect(), false)])
}

fn size(cx: &mut Cx<'_>) -> Lowered {
    let dims = cx.dims(0)?;
    match dims.iter().try_fold(Sym::number(1), |n, d| n.times(Sym::from(*d))) {
        Some(product) => Ok(vec![Datum::sizes(vec![product], true)]),
        None => unsupported("the size is a product of too many symbols", "a size that is not"),
    }
}

/// Sizes as dimensions.
pub(super) fn dims_of(sizes: &[Sym]) -> Result<Vec<Dim>, Refusal> {
    let dims = sizes.iter().map(|s| match s.dim() {
        Some(dim) => Ok(dim),
        None if s.times == 0 => invalid(format!("{} is no extent", s.fixed)),
        None => unsupported("an extent is not a multiple of symbols", "an extent that is"),
    });
    let dims = dims.collect::<Result<Vec<_>, _>>()?;
    check_size(&dims)?;
    Ok(dims)
}

fn reshape(cx: &mut Cx<'_>) -> Lowered {
    cx.ignore(&["consumed_inputs"]);
    let (elem, x, from) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let keep_zero = cx.flag("allowzero", false)?;
    let mut sizes = cx.syms(1)?;
    for (i, size) in sizes.iter_mut().enumerate() {
        if *size == Sym::number(0) && !keep_zero {
            *size = match from.get(i) {
                Some(dim) => Sym::from(*dim),
                None => {
                    return invalid(format!("takes extent {i} from an input of {} dimensions", from.len()));
                }
            };
        }
    }
    if let Some(open) = sizes.iter().position(|s| *s == Sym::number(-1)) {
        sizes[open] = rest(&from, &sizes, open)?;
    }
    let dims = dims_of(&sizes)?;
    let y = cx.b.reshape(x, &dims);
    cx.one(elem, y)
}

/// The extent at `open` with which `sizes` have as many elements as `from`.
fn rest(from: &[Dim], sizes: &[Sym], open: usize) -> Result<Sym, Refusal> {
    let others = sizes.iter().enumerate().filter(|(i, _)| *i != open).map(|(_, s)| *s).collect::<Vec<_>>();
    let others = Dim::product(&dims_of(&others)?);
    let (Some(all), Some(given)) = (Dim::product(from), others) else {
        return invalid("the shape overflows");
    };
    if given == Dim::Fixed(0) {
        let none = all == Dim::Fixed(0);
        return if none { Ok(Sym::number(0)) } else { invalid("the open extent follows from nothing") };
    }
    match Sym::from(all).over(Sym::from(given)) {
        Some(rest) if rest.times(Sym::from(given)) == Some(Sym::from(all)) => Ok(rest),
        _ => invalid(format!("{all} elements do not divide by {given}")),
    }
}

fn flatten(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let at = cx.int("axis", 1)?;
    let at = if at == dims.len() as i64 { dims.len() } else { axis(at, dims.len())? };
    let product = |part: &[Dim]| match Dim::product(part) {
        Some(extent) => Ok(extent),
        None => unsupported("the flattened extent is a product of too many symbols", "one that is not"),
    };
    let flat = [product(&dims[..at])?, product(&dims[at..])?];
    let y = cx.b.reshape(x, &flat);
    cx.one(elem, y)
}

fn squeeze(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let gone = match cx.ints_or_attr(1, "axes")? {
        Some(given) => axes(&given, dims.len())?,
        None => (0..dims.len()).filter(|i| dims[*i] == Dim::Fixed(1)).collect(),
    };
    if let Some(wrong) = gone.iter().find(|i| dims[**i] != Dim::Fixed(1)) {
        return invalid(format!("dimension {wrong} is {}, not 1", dims[*wrong]));
    }
    let kept: Vec<Dim> = (0..dims.len()).filter(|i| !gone.contains(i)).map(|i| dims[i]).collect();
    let y = cx.b.reshape(x, &kept);
    cx.one(elem, y)
}

fn unsqueeze(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, dims) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let Some(given) = cx.ints_or_attr(1, "axes")? else { return invalid("needs axes") };
    let new = axes(&given, dims.len() + given.len())?;
    if new.len() != given.len() {
        return invalid("its axes are not distinct");
    }
    let mut old = dims.into_iter();
    let rank = old.len() + new.len();
    let all: Vec<Dim> =
        (0..rank).filter_map(|i| if new.contains(&i) { Some(Dim::Fixed(1)) } else { old.next() }).collect();
    let y = cx.b.reshape(x, &all);
    cx.one(elem, y)
}

fn expand(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, own) = (cx.elem(0)?, cx.x(0)?, cx.dims(0)?);
    let wanted = dims_of(&cx.syms(1)?)?;
    let rank = own.len().max(wanted.len());
    let at = |dims: &[Dim], i: usize| (i + dims.len()).checked_sub(rank).map_or(Dim::Fixed(1), |j| dims[j]);
    let dims: Vec<Dim> = (0..rank)
        .map(|i| if at(&wanted, i) == Dim::Fixed(1) { at(&own, i) } else { at(&wanted, i) })
        .collect();
    check_size(&dims)?;
    let y = cx.b.broadcast_to(x, &dims);
    cx.one(elem, y)
}
