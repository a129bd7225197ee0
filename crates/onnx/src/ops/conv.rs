//! Convolutions in one to three dimensions, and their transposes.

use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, check_window, fixed_dim, invalid, unsupported};
use outgrow_ir::ops::Window;
use outgrow_ir::ops::conv2d::Conv2d;
use outgrow_ir::{Builder, Dim, Value};

pub(super) const RULES: &[Rule] = &[op("Conv", conv), op("ConvTranspose", conv_transpose)];

/// How a window slides over the spatial dimensions.
#[derive(Clone, Debug)]
pub(super) struct Spatial {
    pub size: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Before and after each dimension.
    pub pads: Vec<[usize; 2]>,
    /// Whether the padding is what `auto_pad` says.
    pub auto: bool,
}

fn positive(list: Option<Vec<i64>>, rank: usize, name: &str) -> Result<Vec<usize>, Refusal> {
    let list = list.unwrap_or_else(|| vec![1; rank]);
    let found: Vec<usize> =
        list.iter().filter_map(|n| usize::try_from(*n).ok()).filter(|n| (1..1 << 31).contains(n)).collect();
    if found.len() == rank && list.len() == rank {
        Ok(found)
    } else {
        invalid(format!("`{name}` {list:?} does not fit {rank} dimensions"))
    }
}

/// The attributes of a window of `size` over spatial extents `image`.
pub(super) fn spatial(cx: &mut Cx<'_>, image: &[usize], size: &[usize]) -> Result<Spatial, Refusal> {
    let rank = image.len();
    let strides = positive(cx.int_list("strides")?, rank, "strides")?;
    let dilations = positive(cx.int_list("dilations")?, rank, "dilations")?;
    let given = cx.int_list("pads")?.unwrap_or_else(|| vec![0; 2 * rank]);
    let mut pads = Vec::new();
    let auto = cx.text("auto_pad", "NOTSET")?;
    for i in 0..rank {
        pads.push(match auto.as_str() {
            "NOTSET" | "" => match (given.len() == 2 * rank).then(|| [given[i], given[i + rank]]) {
                Some([low, high]) if (0..1 << 31).contains(&low) && (0..1 << 31).contains(&high) => {
                    [low as usize, high as usize]
                }
                _ => {
                    return unsupported(
                        format!("pads {given:?}"),
                        "a number from 0 up before and after each dimension",
                    );
                }
            },
            "VALID" => [0, 0],
            "SAME_UPPER" | "SAME_LOWER" => {
                let places = image[i].div_ceil(strides[i]);
                let reach = (size[i].saturating_sub(1)).saturating_mul(dilations[i]) + 1;
                let total = (places.saturating_sub(1) * strides[i] + reach).saturating_sub(image[i]);
                let less = total / 2;
                if auto == "SAME_UPPER" { [less, total - less] } else { [total - less, less] }
            }
            other => {
                return unsupported(format!("auto_pad `{other}`"), "NOTSET, VALID, SAME_UPPER or SAME_LOWER");
            }
        });
    }
    let auto = auto.starts_with("SAME");
    Ok(Spatial { size: size.to_vec(), strides, dilations, pads, auto })
}

impl Spatial {
    /// The window over the last two of its dimensions; of one dimension, the height is 1.
    pub fn window(&self) -> Window {
        let n = self.strides.len();
        let at = |v: &[usize], i: usize| if n + i < 2 { 1 } else { v[n + i - 2] };
        let pad = |i: usize| if n + i < 2 { [0, 0] } else { self.pads[n + i - 2] };
        let ([top, bottom], [left, right]) = (pad(0), pad(1));
        Window {
            strides: [at(&self.strides, 0), at(&self.strides, 1)],
            padding: [top, bottom, left, right],
            dilation: [at(&self.dilations, 0), at(&self.dilations, 1)],
        }
    }
}

/// `[batch, channels, length]` as `[batch, channels, 1, length]`.
pub(super) fn as_image(b: &mut Builder, x: Value) -> Value {
    let mut dims = b.dims(x);
    dims.insert(2, Dim::Fixed(1));
    b.reshape(x, &dims)
}

/// The opposite of [`as_image`].
pub(super) fn as_row(b: &mut Builder, x: Value) -> Value {
    let mut dims = b.dims(x);
    if dims.len() > 2 {
        dims.remove(2);
    }
    b.reshape(x, &dims)
}

fn spatial_extents(dims: &[Dim]) -> Result<Vec<usize>, Refusal> {
    match dims.get(2..) {
        Some(rest) if (1..=3).contains(&rest.len()) => crate::cx::fixed(rest),
        _ => unsupported(format!("an input of {} dimensions", dims.len()), "one to three spatial dimensions"),
    }
}

/// Checks a kernel against its attribute, and gives its spatial extents.
fn kernel(cx: &mut Cx<'_>, weight: &[Dim], rank: usize) -> Result<Vec<usize>, Refusal> {
    let size = spatial_extents(weight)?;
    let said = cx.int_list("kernel_shape")?;
    let fits = said.is_none_or(|s| s.iter().map(|n| *n as usize).eq(size.iter().copied()));
    if fits && size.len() == rank {
        Ok(size)
    } else {
        invalid("the weights do not have the shape of the kernel")
    }
}

fn conv(cx: &mut Cx<'_>) -> Lowered {
    let (elem, x, weight) = (cx.elem(0)?, cx.float(0)?, cx.float(1)?);
    let bias = cx.opt(2)?;
    let groups = usize::try_from(cx.int("group", 1)?).unwrap_or(0);
    let y = convolved(cx, x, weight, groups)?;
    let y = match bias {
        Some(bias) => {
            let dims = cx.b.dims(y);
            let spread = cx.b.broadcast_axis(bias, &dims, 1);
            cx.b.add(y, spread)
        }
        None => y,
    };
    cx.wrapped(elem, y)
}

/// The convolution that the attributes say.
pub(super) fn convolved(cx: &mut Cx<'_>, x: Value, weight: Value, groups: usize) -> Result<Value, Refusal> {
    let image = spatial_extents(&cx.b.dims(x))?;
    let size = kernel(cx, &cx.b.dims(weight), image.len())?;
    let how = spatial(cx, &image, &size)?;
    let b = &mut *cx.b;
    Ok(match image.len() {
        1 => {
            let (x, weight) = (as_image(b, x), as_image(b, weight));
            let y = b.conv2d(x, weight, how.window(), groups);
            as_row(b, y)
        }
        2 => b.conv2d(x, weight, how.window(), groups),
        _ => conv3d(b, x, weight, &how, groups)?,
    })
}

/// A convolution in three dimensions: for each plane of the kernel a convolution in two, of the planes of the input
/// that it meets, all planes at once as if they were samples.
fn conv3d(b: &mut Builder, x: Value, weight: Value, how: &Spatial, groups: usize) -> Result<Value, Refusal> {
    let padded = b.pad(x, 2, how.pads[0][0], how.pads[0][1], 0, 0.0);
    let dims = b.dims(padded);
    let depth = fixed_dim(&dims, 2)?;
    let reach = (how.size[0] - 1).saturating_mul(how.dilations[0]) + 1;
    if depth < reach {
        return invalid("the kernel is deeper than the padded input");
    }
    let places = (depth - reach) / how.strides[0] + 1;
    check_window(how.size[0])?;
    let mut sum: Option<Value> = None;
    for k in 0..how.size[0] {
        let start = k * how.dilations[0];
        let end = start + (places - 1) * how.strides[0] + 1;
        let planes =
            b.push(outgrow_ir::ops::slice::Slice { axis: 2, start, end, stride: how.strides[0] }, &[padded]);
        let planes = planes_as_samples(b, planes)?;
        let part = b.slice(weight, 2, k, k + 1);
        let mut kernel_dims = b.dims(part);
        kernel_dims.remove(2);
        let part = b.reshape(part, &kernel_dims);
        let y = b.conv2d(planes, part, how.window(), groups);
        sum = Some(sum.map_or(y, |s| b.add(s, y)));
    }
    let Some(y) = sum else { return invalid("the kernel is empty") };
    samples_as_planes(b, y, dims[0], places)
}

/// `[n, c, d, h, w]` as `[n·d, c, h, w]`.
pub(super) fn planes_as_samples(b: &mut Builder, x: Value) -> Result<Value, Refusal> {
    let moved = b.transpose(x, &[0, 2, 1, 3, 4]);
    let dims = b.dims(moved);
    match dims.as_slice() {
        [n, d, c, h, w] => match n.times(*d) {
            Some(both) => Ok(b.reshape(moved, &[both, *c, *h, *w])),
            None => invalid("the number of planes overflows"),
        },
        _ => invalid("needs three spatial dimensions"),
    }
}

/// `[n·d, c, h, w]` as `[n, c, d, h, w]`.
pub(super) fn samples_as_planes(b: &mut Builder, y: Value, n: Dim, depth: usize) -> Result<Value, Refusal> {
    let dims = b.dims(y);
    let [_, c, h, w] = dims.as_slice() else { return invalid("the window does not fit the input") };
    let apart = b.reshape(y, &[n, Dim::Fixed(depth), *c, *h, *w]);
    Ok(b.transpose(apart, &[0, 2, 1, 3, 4]))
}

fn conv_transpose(cx: &mut Cx<'_>) -> Lowered {
    let (elem, mut x, mut weight) = (cx.elem(0)?, cx.float(0)?, cx.float(1)?);
    let bias = cx.opt(2)?;
    let groups = usize::try_from(cx.int("group", 1)?).unwrap_or(0);
    let image = spatial_extents(&cx.b.dims(x))?;
    let size = kernel(cx, &cx.b.dims(weight), image.len())?;
    let rank = image.len();
    let mut how = spatial(cx, &image, &size)?;
    let extra = match cx.int_list("output_padding")? {
        Some(list) => list.iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect(),
        None => vec![0; rank],
    };
    let wanted = cx.int_list("output_shape")?;
    if extra.len() != rank || wanted.as_ref().is_some_and(|w| w.len() < rank) {
        return invalid("`output_padding` or `output_shape` does not fit");
    }
    let lower = cx.text("auto_pad", "NOTSET")? == "SAME_LOWER";
    let mut result = Vec::new();
    for i in 0..rank {
        let reach = (size[i] - 1).saturating_mul(how.dilations[i]) + 1;
        let full = image[i]
            .saturating_sub(1)
            .saturating_mul(how.strides[i])
            .saturating_add(reach)
            .saturating_add(extra[i]);
        let asked = match &wanted {
            Some(w) => usize::try_from(w[w.len() - rank + i]).ok(),
            None if how.auto => Some(image[i].saturating_mul(how.strides[i])),
            None => None,
        };
        if let Some(asked) = asked {
            let total = full.saturating_sub(asked);
            let less = total / 2;
            how.pads[i] = if lower { [total - less, less] } else { [less, total - less] };
            result.push((asked, full));
        } else {
            result.push((full.saturating_sub(how.pads[i][0] + how.pads[i][1]), full));
        }
    }
    if rank > 2 {
        return transposed3d(cx, x, weight, bias, &how, &result, groups);
    }
    let b = &mut *cx.b;
    if rank == 1 {
        (x, weight) = (as_image(b, x), as_image(b, weight));
    }
    let extent = |i: usize| if rank + i < 2 { (1, 1) } else { result[rank + i - 2] };
    let y = transposed(b, x, weight, &how.window(), [extent(0), extent(1)], groups)?;
    let y = if rank == 1 { as_row(b, y) } else { y };
    let y = biased(b, y, bias);
    cx.wrapped(elem, y)
}

fn biased(b: &mut Builder, y: Value, bias: Option<Value>) -> Value {
    match bias {
        Some(bias) => {
            let dims = b.dims(y);
            let spread = b.broadcast_axis(bias, &dims, 1);
            b.add(y, spread)
        }
        None => y,
    }
}

/// The transposed convolution: the gradient by the input of the convolution whose result `x` is. It is computed
/// without padding, on `full` extents, and then cut (or, where more is asked for, extended by zeros).
fn transposed(
    b: &mut Builder,
    x: Value,
    weight: Value,
    window: &Window,
    extents: [(usize, usize); 2],
    groups: usize,
) -> Result<Value, Refusal> {
    let full = [extents[0].1, extents[1].1];
    let conv = Conv2d { window: Window { padding: [0; 4], ..window.clone() }, groups, result: None };
    let mut y = b.conv2d_grad_input(x, weight, conv, reached(b, x, weight, window)?);
    for (i, (asked, _)) in extents.into_iter().enumerate() {
        let own = fixed_dim(&b.dims(y), 2 + i)?;
        y = b.pad(y, 2 + i, 0, full[i].saturating_sub(own), 0, 0.0);
        let low = window.padding[2 * i];
        let have = full[i].max(own);
        if low + asked > have {
            y = b.pad(y, 2 + i, 0, low + asked - have, 0, 0.0);
        }
        y = b.slice(y, 2 + i, low, low + asked);
    }
    Ok(y)
}

/// The smallest image whose convolution has the extents of `x`.
fn reached(b: &Builder, x: Value, weight: Value, window: &Window) -> Result<[usize; 2], Refusal> {
    let (dims, kernel) = (b.dims(x), b.dims(weight));
    let mut image = [0; 2];
    for (i, extent) in image.iter_mut().enumerate() {
        let (n, k) = (fixed_dim(&dims, 2 + i)?, fixed_dim(&kernel, 2 + i)?);
        if n == 0 || k == 0 {
            return invalid("an extent is 0");
        }
        *extent = (n - 1).saturating_mul(window.strides[i]) + (k - 1).saturating_mul(window.dilation[i]) + 1;
    }
    Ok(image)
}

/// In three dimensions: each plane of the kernel spreads every plane of the input to one place along the depth.
fn transposed3d(
    cx: &mut Cx<'_>,
    x: Value,
    weight: Value,
    bias: Option<Value>,
    how: &Spatial,
    result: &[(usize, usize)],
    groups: usize,
) -> Lowered {
    let (elem, dims) = (cx.elem(0)?, cx.b.dims(x));
    let b = &mut *cx.b;
    let depth = fixed_dim(&dims, 2)?;
    let planes = planes_as_samples(b, x)?;
    let (asked, full) = result[0];
    check_window(how.size[0])?;
    let mut sum: Option<Value> = None;
    for k in 0..how.size[0] {
        let part = b.slice(weight, 2, k, k + 1);
        let mut kernel_dims = b.dims(part);
        kernel_dims.remove(2);
        let part = b.reshape(part, &kernel_dims);
        let y = transposed(b, planes, part, &how.window(), [result[1], result[2]], groups)?;
        let y = samples_as_planes(b, y, dims[0], depth)?;
        let low = k * how.dilations[0];
        let span = (depth.max(1) - 1) * how.strides[0] + 1;
        let y = b.pad(y, 2, low, full.saturating_sub(low + span), how.strides[0] - 1, 0.0);
        sum = Some(sum.map_or(y, |s| b.add(s, y)));
    }
    let Some(y) = sum else { return invalid("the kernel is empty") };
    let low = how.pads[0][0];
    let y = b.pad(y, 2, 0, (low + asked).saturating_sub(full), 0, 0.0);
    let y = b.slice(y, 2, low, low + asked);
    let y = biased(b, y, bias);
    cx.wrapped(elem, y)
}
