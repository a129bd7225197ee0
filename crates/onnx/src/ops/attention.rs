//! Attention and rotary positions.

use super::softmax::softmax_of;
use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered, Refusal, fixed_dim, invalid, unsupported};
use crate::datum::Datum;
use crate::elem::wrapped;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::DType;

pub(super) const RULES: &[Rule] = &[op("Attention", attention), op("RotaryEmbedding", rotary)];

/// `[batch, tokens, heads · width]` as `[batch, heads, tokens, width]`; what has four dimensions stays.
fn split_heads(b: &mut Builder, x: Value, heads: usize) -> Result<Value, Refusal> {
    let dims = b.dims(x);
    match dims.as_slice() {
        [_, _, _, _] => Ok(x),
        [batch, tokens, all] => {
            let all = fixed_dim(&[*all], 0)?;
            if heads == 0 || all % heads != 0 {
                return invalid(format!("a width of {all} cannot be shared by {heads} heads"));
            }
            let x = b.reshape(x, &[*batch, *tokens, Dim::Fixed(heads), Dim::Fixed(all / heads)]);
            Ok(b.transpose(x, &[0, 2, 1, 3]))
        }
        _ => invalid("needs three or four dimensions"),
    }
}

/// Each head so many times: `[batch, heads, …]` as `[batch, heads · times, …]`.
fn repeat_heads(b: &mut Builder, x: Value, times: usize) -> Result<Value, Refusal> {
    if times == 1 {
        return Ok(x);
    }
    let dims = b.dims(x);
    let heads = fixed_dim(&dims, 1)?;
    let wide = [dims[0], dims[1], Dim::Fixed(times), dims[2], dims[3]];
    let spread = b.broadcast(x, &wide, &[0, 1, 3, 4]);
    Ok(b.reshape(spread, &[dims[0], Dim::Fixed(heads * times), dims[2], dims[3]]))
}

/// What decides which keys a query sees.
struct Masks {
    causal: bool,
    left: i64,
    right: i64,
    /// Keys before the first query, the same for all samples.
    offset: usize,
    /// How many keys count, for each sample.
    lengths: Option<Value>,
}

/// Whether each query may see each key by position, as something that broadcasts to `[batch, heads, queries, keys]`.
fn seen(b: &mut Builder, m: &Masks, batch: Dim, queries: usize, keys: usize) -> Option<Value> {
    let dims = [Dim::Fixed(1), Dim::Fixed(1), Dim::Fixed(queries), Dim::Fixed(keys)];
    let (query, key) = (b.iota(DType::I64, &dims, 2), b.iota(DType::I64, &dims, 3));
    let lengths = m.lengths.map(|l| {
        let l = b.cast(l, DType::I64);
        b.reshape(l, &[batch, Dim::Fixed(1), Dim::Fixed(1), Dim::Fixed(1)])
    });
    let position = match (lengths, m.offset) {
        (Some(l), 0) => {
            let offset = b.add_scalar(l, -(queries as f64));
            b.add(query, offset)
        }
        (_, offset) => b.add_scalar(query, offset as f64),
    };
    let mut all: Option<Value> = None;
    let mut also = |b: &mut Builder, condition: Value| {
        all = Some(match all {
            Some(a) => {
                let (a, c) = b.broadcast_together(a, condition);
                b.and(a, c)
            }
            None => condition,
        });
    };
    if m.causal {
        let c = b.compare(Comparison::Le, key, position);
        also(b, c);
    }
    if m.left >= 0 {
        let first = b.add_scalar(position, -(m.left as f64));
        let c = b.compare(Comparison::Ge, key, first);
        also(b, c);
    }
    if m.right >= 0 {
        let last = b.add_scalar(position, m.right as f64);
        let c = b.compare(Comparison::Le, key, last);
        also(b, c);
    }
    if let Some(l) = lengths {
        let c = b.compare(Comparison::Lt, key, l);
        also(b, c);
    }
    all
}

/// The mask of the node as numbers to add, extended to all keys by ones that hide them.
fn bias(cx: &mut Cx<'_>, elem: Elem, keys: usize) -> Result<Option<Value>, Refusal> {
    let Some(mut mask) = cx.opt(3)? else { return Ok(None) };
    let boolean = cx.elem(3)? == Elem::Bool;
    let b = &mut *cx.b;
    if boolean {
        let (zero, hidden) = (b.scalar(0.0, elem.dtype()), b.scalar(f64::NEG_INFINITY, elem.dtype()));
        mask = b.select(mask, zero, hidden);
    }
    let dims = b.dims(mask);
    let Some(last) = dims.len().checked_sub(1) else { return invalid("the mask is a scalar") };
    let own = fixed_dim(&dims, last)?;
    if own != 1 || keys == 1 {
        let missing = keys.saturating_sub(own);
        mask = if missing > 0 { b.pad(mask, last, 0, missing, 0, f64::NEG_INFINITY) } else { mask };
    }
    Ok(Some(mask))
}

/// The products of queries and keys, and the same kept within `±softcap` where that is not 0.
fn scores_of(
    b: &mut Builder,
    (q, k): (Value, Value),
    scale: f64,
    softcap: f64,
    elem: Elem,
) -> (Value, Value) {
    // The standard's definition has the factor in the type of the scores.
    let root = elem.rounded(scale.sqrt());
    let (scaled_q, scaled_k) = (b.mul_scalar(q, root), b.mul_scalar(k, root));
    let (scaled_q, scaled_k) = (wrapped(b, scaled_q, elem), wrapped(b, scaled_k, elem));
    let raw = b.dot(scaled_q, scaled_k, (&[0, 1], &[0, 1]), (&[3], &[3]));
    let raw = wrapped(b, raw, elem);
    let mut capped = raw;
    if softcap > 0.0 {
        let inside = b.mul_scalar(raw, 1.0 / softcap);
        let tanh = b.tanh(inside);
        let out = b.mul_scalar(tanh, softcap);
        capped = wrapped(b, out, elem);
    }
    (raw, capped)
}

/// The opposite of [`split_heads`] on three dimensions.
fn joined_heads(b: &mut Builder, y: Value) -> Result<Value, Refusal> {
    let moved = b.transpose(y, &[0, 2, 1, 3]);
    let dims = b.dims(moved);
    let wide = fixed_dim(&dims, 2)? * fixed_dim(&dims, 3)?;
    Ok(b.reshape(moved, &[dims[0], dims[1], Dim::Fixed(wide)]))
}

fn attention(cx: &mut Cx<'_>) -> Lowered {
    let elem = cx.elem(0)?;
    let [q, k, v] = [cx.float(0)?, cx.float(1)?, cx.float(2)?];
    let packed = cx.b.rank(q) == 3;
    let heads = |n: i64| usize::try_from(n).unwrap_or(0);
    let (q_heads, kv_heads) = (heads(cx.int("q_num_heads", 0)?), heads(cx.int("kv_num_heads", 0)?));
    let (past_k, past_v, lengths) = (cx.opt(4)?, cx.opt(5)?, cx.opt(6)?);
    let mode = cx.int("qk_matmul_output_mode", 0)?;
    let softcap = cx.real("softcap", 0.0)?;
    cx.ignore(&["softmax_precision"]);
    let b = &mut *cx.b;
    let q = split_heads(b, q, q_heads)?;
    let (mut k, mut v) = (split_heads(b, k, kv_heads)?, split_heads(b, v, kv_heads)?);
    let mut offset = 0;
    if let (Some(past_k), Some(past_v)) = (past_k, past_v) {
        offset = fixed_dim(&b.dims(past_k), 2)?;
        (k, v) = (b.concat(&[past_k, k], 2), b.concat(&[past_v, v], 2));
    }
    let present = [k, v];
    let (q_dims, k_dims) = (b.dims(q), b.dims(k));
    let (queries, keys, width) = (fixed_dim(&q_dims, 2)?, fixed_dim(&k_dims, 2)?, fixed_dim(&q_dims, 3)?);
    let (own, shared) = (fixed_dim(&q_dims, 1)?, fixed_dim(&k_dims, 1)?);
    if shared == 0 || own % shared != 0 {
        return invalid(format!("{own} heads of queries do not share {shared} of keys"));
    }
    (k, v) = (repeat_heads(b, k, own / shared)?, repeat_heads(b, v, own / shared)?);
    let default_scale = 1.0 / (width.max(1) as f64).sqrt();
    let scale = if cx.has_attr("scale") { cx.real("scale", 1.0)? } else { default_scale };
    let masks = Masks {
        causal: cx.flag("is_causal", false)?,
        left: cx.int("left_window_size", -1)?,
        right: cx.int("right_window_size", -1)?,
        offset,
        lengths,
    };
    let bias = bias(cx, elem, keys)?;
    let b = &mut *cx.b;
    let (raw, capped) = scores_of(b, (q, k), scale, softcap, elem);
    let hidden = b.scalar(f64::NEG_INFINITY, elem.dtype());
    let zero = b.scalar(0.0, elem.dtype());
    let seen = seen(b, &masks, q_dims[0], queries, keys);
    // Everything that is added to the scores: minus infinity hides a key whatever the score.
    let by_position = seen.map(|s| b.select(s, zero, hidden));
    let added = match (bias, by_position) {
        (Some(x), Some(y)) => Some(b.add(x, y)),
        (x, y) => x.or(y),
    };
    let (scores, weights) = match added {
        None => {
            let weights = softmax_of(b, capped, elem);
            (capped, weights)
        }
        Some(added) => {
            let biased = b.add(capped, added);
            let biased = wrapped(b, biased, elem);
            let shown = b.compare(Comparison::Gt, added, hidden);
            (biased, masked_softmax(b, biased, shown, elem))
        }
    };
    let weights = wrapped(b, weights, elem);
    let y = b.dot(weights, v, (&[0, 1], &[0, 1]), (&[3], &[2]));
    let mut y = wrapped(b, y, elem);
    if packed {
        y = joined_heads(b, y)?;
    }
    let inner = match mode {
        0 => raw,
        1 => capped,
        2 => scores,
        3 => weights,
        other => return unsupported(format!("qk_matmul_output_mode {other}"), "0 to 3"),
    };
    Ok([y, present[0], present[1], inner].into_iter().map(|v| Datum::value(elem, v)).collect())
}

/// The softmax over the keys that are shown; all 0 where none is.
fn masked_softmax(b: &mut Builder, scores: Value, shown: Value, elem: Elem) -> Value {
    let dims = b.dims(scores);
    let shown = b.broadcast_to(shown, &dims);
    let least = b.scalar(-1e30, b.dtype(scores));
    let scores = b.select(shown, scores, least);
    let weights = softmax_of(b, scores, elem);
    let zero = b.scalar(0.0, b.dtype(scores));
    b.select(shown, weights, zero)
}

fn rotary(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, mut cos, mut sin) = (cx.elem(0)?, cx.float(0)?, cx.float(1)?, cx.float(2)?);
    let heads = usize::try_from(cx.int("num_heads", 0)?).unwrap_or(0);
    let part = usize::try_from(cx.int("rotary_embedding_dim", 0)?).unwrap_or(0);
    let interleaved = cx.flag("interleaved", false)?;
    let positions = cx.opt(3)?;
    let own = cx.b.dims(x);
    let b = &mut *cx.b;
    let x = split_heads(b, x, heads)?;
    let dims = b.dims(x);
    let width = fixed_dim(&dims, 3)?;
    let part = if part == 0 { width } else { part };
    if part > width || part % 2 != 0 {
        return invalid(format!("rotates {part} of {width} elements"));
    }
    if let Some(positions) = positions {
        let positions = b.cast(positions, DType::I64);
        (cos, sin) = (b.gather(cos, positions), b.gather(sin, positions));
    }
    // [batch, tokens, part / 2], the same for every head.
    let half = [dims[0], dims[1], dims[2], Dim::Fixed(part / 2)];
    let spread = |b: &mut Builder, v: Value| {
        if b.rank(v) == 3 { b.broadcast(v, &half, &[0, 2, 3]) } else { b.broadcast(v, &half, &[2, 3]) }
    };
    let (cos, sin) = (spread(b, cos), spread(b, sin));
    let turned = b.slice(x, 3, 0, part);
    let rest = b.slice(x, 3, part, width);
    let (first, second) = if interleaved {
        let pairs = b.reshape(turned, &[dims[0], dims[1], dims[2], Dim::Fixed(part / 2), Dim::Fixed(2)]);
        let take = |b: &mut Builder, k: usize| {
            let one = b.slice(pairs, 4, k, k + 1);
            b.reshape(one, &half)
        };
        (take(b, 0), take(b, 1))
    } else {
        (b.slice(turned, 3, 0, part / 2), b.slice(turned, 3, part / 2, part))
    };
    let (ac, bs) = (b.mul(cos, first), b.mul(sin, second));
    let (as_, bc) = (b.mul(sin, first), b.mul(cos, second));
    let (real, imaginary) = (b.sub(ac, bs), b.add(as_, bc));
    let turned = if interleaved {
        let mut pair = half.to_vec();
        pair.push(Dim::Fixed(1));
        let (r, i) = (b.reshape(real, &pair), b.reshape(imaginary, &pair));
        let both = b.concat(&[r, i], 4);
        b.reshape(both, &[dims[0], dims[1], dims[2], Dim::Fixed(part)])
    } else {
        b.concat(&[real, imaginary], 3)
    };
    let mut y = if part < width { b.concat(&[turned, rest], 3) } else { turned };
    if own.len() == 3 {
        let moved = b.transpose(y, &[0, 2, 1, 3]);
        y = b.reshape(moved, &own);
    }
    cx.wrapped(elem, y)
}
