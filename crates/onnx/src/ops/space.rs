//! Between channels and space.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, fixed_dim, invalid, unsupported};
use outgrow_ir::{Dim, Value};

pub(super) const RULES: &[Rule] = &[op("DepthToSpace", depth_to_space), op("SpaceToDepth", space_to_depth)];

/// The input, its dimensions, and the block size.
fn image(cx: &mut Cx<'_>) -> Result<(Value, Dim, [usize; 3], usize), Refusal> {
    let (x, dims) = (cx.x(0)?, cx.dims(0)?);
    let block = usize::try_from(cx.int("blocksize", 0)?).unwrap_or(0);
    if dims.len() != 4 || block == 0 || block > 1 << 16 {
        return invalid("needs an input of four dimensions and a block size");
    }
    Ok((x, dims[0], [fixed_dim(&dims, 1)?, fixed_dim(&dims, 2)?, fixed_dim(&dims, 3)?], block))
}

fn depth_to_space(cx: &mut Cx<'_>) -> Lowered {
    let (x, n, [c, h, w], s) = image(cx)?;
    let mode = cx.text("mode", "DCR")?;
    if c % (s * s) != 0 {
        return invalid(format!("{c} channels do not divide into blocks of {s} by {s}"));
    }
    let depth = c / (s * s);
    let f = Dim::Fixed;
    let (apart, order) = match mode.as_str() {
        "DCR" => ([n, f(s), f(s), f(depth), f(h), f(w)], [0, 3, 4, 1, 5, 2]),
        "CRD" => ([n, f(depth), f(s), f(s), f(h), f(w)], [0, 1, 4, 2, 5, 3]),
        other => return unsupported(format!("mode `{other}`"), "DCR or CRD"),
    };
    let elem = cx.elem(0)?;
    let x = cx.b.reshape(x, &apart);
    let x = cx.b.transpose(x, &order);
    let y = cx.b.reshape(x, &[n, f(depth), f(h * s), f(w * s)]);
    cx.one(elem, y)
}

fn space_to_depth(cx: &mut Cx<'_>) -> Lowered {
    let (x, n, [c, h, w], s) = image(cx)?;
    let mode = cx.text("mode", "DCR")?;
    if h % s != 0 || w % s != 0 {
        return invalid(format!("{h} by {w} do not divide into blocks of {s} by {s}"));
    }
    let order = match mode.as_str() {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => return unsupported(format!("mode `{other}`"), "DCR or CRD"),
    };
    let f = Dim::Fixed;
    let elem = cx.elem(0)?;
    let x = cx.b.reshape(x, &[n, f(c), f(h / s), f(s), f(w / s), f(s)]);
    let x = cx.b.transpose(x, &order);
    let y = cx.b.reshape(x, &[n, f(c * s * s), f(h / s), f(w / s)]);
    cx.one(elem, y)
}
