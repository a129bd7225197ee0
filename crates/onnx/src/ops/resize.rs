//! Images of another size. Each axis is a product with a matrix of interpolation weights that is known when compiling.

use super::movement::take;
use super::{Rule, op};
use crate::cx::{Cx, Lowered, Refusal, axis, check_constant, fixed_dim, invalid, unsupported};
use outgrow_ir::{Builder, Dim, Value};
use outgrow_tensor::Tensor;

pub(super) const RULES: &[Rule] = &[op("Resize", resize), op("Upsample", upsample)];

/// Largest extent of a resized axis.
const EXTENT_MAX: usize = 1 << 18;

/// How elements between others are computed.
#[derive(Clone, Debug)]
struct Method {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic: f64,
    antialias: bool,
    exclude_outside: bool,
    extrapolation: f64,
}

/// What happens to one axis.
#[derive(Clone, Copy, Debug)]
struct Change {
    axis: usize,
    input: usize,
    output: usize,
    scale: f64,
    /// The part of the input that is shown, for `tf_crop_and_resize`.
    roi: [f64; 2],
}

impl Method {
    /// Where in the input the element `y` of the output lies.
    fn source(&self, c: &Change, y: usize) -> Result<f64, Refusal> {
        let (y, input, width) = (y as f64, c.input as f64, c.scale * c.input as f64);
        Ok(match self.coordinates.as_str() {
            "align_corners" if width == 1.0 => 0.0,
            "align_corners" => y * (input - 1.0) / (width - 1.0),
            "asymmetric" => y / c.scale,
            "tf_crop_and_resize" if width == 1.0 => {
                (c.roi[1] - c.roi[0]) * (input - 1.0) / 2.0 + c.roi[0] * (input - 1.0)
            }
            "tf_crop_and_resize" => {
                y * (c.roi[1] - c.roi[0]) * (input - 1.0) / (width - 1.0) + c.roi[0] * (input - 1.0)
            }
            "pytorch_half_pixel" if width == 1.0 => -0.5,
            "pytorch_half_pixel" | "half_pixel" => (y + 0.5) / c.scale - 0.5,
            "half_pixel_symmetric" => {
                let offset = input / 2.0 * (1.0 - c.output as f64 / width);
                offset + (y + 0.5) / c.scale - 0.5
            }
            other => {
                return unsupported(
                    format!("coordinate_transformation_mode `{other}`"),
                    "half_pixel, half_pixel_symmetric, pytorch_half_pixel, align_corners, asymmetric or tf_crop_and_resize",
                );
            }
        })
    }

    /// The cubic convolution kernel (Keys 1981).
    fn cubic(&self, x: f64) -> f64 {
        let (a, x) = (self.cubic, x.abs());
        if x <= 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
        } else {
            0.0
        }
    }

    /// The elements that count for the place `x`, each with its weight; those outside are repeated from the border.
    fn weights(&self, c: &Change, x: f64) -> Result<Vec<(usize, f64)>, Refusal> {
        // The neighbour on the left is the one before, where x falls on an element.
        let base = x.ceil() - 1.0;
        let ratio = x - base;
        let shrink = if self.antialias { c.scale.min(1.0) } else { 1.0 };
        let reach = match self.mode.as_str() {
            "nearest" | "linear" => 1.0,
            "cubic" => 2.0,
            other => return unsupported(format!("mode `{other}`"), "nearest, linear or cubic"),
        };
        let first = (-reach / shrink).floor() + 1.0;
        let last = 1.0 - first;
        if last > 1024.0 {
            return unsupported("shrinks an axis by more than five hundred", "less");
        }
        let weight = |k: f64| match self.mode.as_str() {
            "linear" => (1.0 - ((k - ratio) * shrink).abs()).clamp(0.0, 1.0),
            "cubic" => self.cubic((k - ratio) * shrink),
            _ => {
                let right = match self.nearest.as_str() {
                    _ if ratio == 1.0 => true,
                    "round_prefer_ceil" => ratio >= 0.5,
                    "floor" => false,
                    "ceil" => true,
                    _ => ratio > 0.5,
                };
                f64::from(u8::from((k == 1.0) == right))
            }
        };
        let mut found = Vec::new();
        let mut k = first;
        while k <= last {
            let at = base + k;
            let outside = at < 0.0 || at >= c.input as f64;
            let own = if outside && self.exclude_outside { 0.0 } else { weight(k) };
            found.push((at.clamp(0.0, c.input as f64 - 1.0) as usize, own));
            k += 1.0;
        }
        if self.antialias || self.exclude_outside {
            let sum: f64 = found.iter().map(|(_, w)| w).sum();
            found.iter_mut().for_each(|(_, w)| *w /= sum);
        }
        Ok(found)
    }

    fn apply(&self, b: &mut Builder, x: Value, c: &Change) -> Result<Value, Refusal> {
        if c.output > EXTENT_MAX {
            return unsupported(format!("makes an extent of {}", c.output), format!("at most {EXTENT_MAX}"));
        }
        if self.mode == "nearest" {
            check_constant(&[c.output])?;
            let source = |y: usize| {
                let weights = self.weights(c, self.source(c, y)?)?;
                Ok(weights.iter().find(|(_, w)| *w > 0.0).map_or(0, |(i, _)| *i as i64))
            };
            let indices = (0..c.output).map(source).collect::<Result<Vec<i64>, Refusal>>()?;
            return Ok(take(b, x, c.axis, &indices));
        }
        check_constant(&[c.output, c.input])?;
        let mut matrix = vec![0.0; c.output * c.input];
        let mut outside = vec![false; c.output];
        for y in 0..c.output {
            let at = self.source(c, y)?;
            outside[y] = self.coordinates == "tf_crop_and_resize" && (at < 0.0 || at > c.input as f64 - 1.0);
            if outside[y] {
                continue;
            }
            for (i, w) in self.weights(c, at)? {
                matrix[y * c.input + i] += w;
            }
        }
        let dtype = b.dtype(x);
        let matrix = b.constant(Tensor::from_f64(dtype, [c.output, c.input], |i| matrix[i]));
        let rank = b.rank(x);
        let product = b.dot(x, matrix, (&[], &[]), (&[c.axis], &[1]));
        let mut order: Vec<usize> = (0..rank - 1).collect();
        order.insert(c.axis, rank - 1);
        let mut y = b.transpose(product, &order);
        if self.extrapolation != 0.0 && outside.contains(&true) {
            let dims = b.dims(y);
            let fill =
                Tensor::from_f64(dtype, [c.output], |i| if outside[i] { self.extrapolation } else { 0.0 });
            let fill = b.constant(fill);
            let fill = b.broadcast_axis(fill, &dims, c.axis);
            y = b.add(y, fill);
        }
        Ok(y)
    }
}

/// The new extent and the scale of each axis that changes.
fn changes(cx: &mut Cx<'_>, dims: &[Dim]) -> Result<Vec<Change>, Refusal> {
    let old = cx.opset < 11;
    let given = cx.int_list("axes")?.unwrap_or_else(|| (0..dims.len() as i64).collect());
    let at: Vec<usize> = given.iter().map(|a| axis(*a, dims.len())).collect::<Result<_, _>>()?;
    let policy = cx.text("keep_aspect_ratio_policy", "stretch")?;
    let (roi, scales, sizes) = if old { (None, Some(1), None) } else { (Some(1), Some(2), Some(3)) };
    let list = |cx: &Cx<'_>, i: Option<usize>| -> Result<Option<Vec<f64>>, Refusal> {
        let Some(i) = i.filter(|i| cx.has(*i)) else { return Ok(None) };
        let tensor = cx.known(i)?;
        Ok((tensor.elements() > 0).then(|| (0..tensor.elements()).map(|k| tensor.get_f64(k)).collect()))
    };
    // The region matters to one mode alone, and older exporters give nonsense elsewhere.
    let crop = cx.text("coordinate_transformation_mode", "half_pixel")? == "tf_crop_and_resize";
    let roi = if crop { list(cx, roi)? } else { None };
    let (scales, sizes) = (list(cx, scales)?, list(cx, sizes)?);
    let n = at.len();
    if [&scales, &sizes].into_iter().flatten().any(|l| l.len() != n)
        || roi.as_ref().is_some_and(|r| r.len() != 2 * n)
    {
        return invalid("scales, sizes or region do not fit the axes");
    }
    let mut found = Vec::new();
    let ratio = |i: usize, sizes: &[f64]| Ok::<_, Refusal>(sizes[i] / fixed_dim(dims, at[i])? as f64);
    for i in 0..n {
        let unchanged = match (&scales, &sizes) {
            (Some(s), _) => s[i] == 1.0,
            (None, Some(s)) => policy == "stretch" && dims[at[i]].fixed().is_some_and(|d| d as f64 == s[i]),
            (None, None) => return invalid("has neither scales nor sizes"),
        };
        let roi = roi.as_ref().map_or([0.0, 1.0], |r| [r[i], r[i + n]]);
        if unchanged && roi == [0.0, 1.0] {
            continue;
        }
        let input = fixed_dim(dims, at[i])?;
        let (output, scale) = match (&scales, &sizes) {
            (Some(s), _) => ((input as f64 * s[i]).floor(), s[i]),
            (None, Some(s)) => {
                let ratios = (0..n).map(|k| ratio(k, s)).collect::<Result<Vec<_>, _>>()?;
                match policy.as_str() {
                    "stretch" => (s[i], ratios[i]),
                    "not_larger" | "not_smaller" => {
                        let pick = if policy == "not_larger" { f64::min } else { f64::max };
                        let scale = ratios.into_iter().reduce(pick).unwrap_or(1.0);
                        ((scale * input as f64 + 0.5).floor(), scale)
                    }
                    other => {
                        return unsupported(
                            format!("keep_aspect_ratio_policy `{other}`"),
                            "stretch, not_larger or not_smaller",
                        );
                    }
                }
            }
            (None, None) => return invalid("has neither scales nor sizes"),
        };
        if !(scale > 0.0 && (0.0..1e9).contains(&output)) || input == 0 {
            return invalid(format!("an extent of {input} cannot become {output}"));
        }
        found.push(Change { axis: at[i], input, output: output as usize, scale, roi });
    }
    Ok(found)
}

fn resize(cx: &mut Cx<'_>) -> Lowered {
    let (elem, mut x, dims) = (cx.elem(0)?, cx.number(0)?, cx.dims(0)?);
    let old = cx.opset < 11;
    let method = Method {
        mode: cx.text("mode", "nearest")?,
        coordinates: cx
            .text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?,
        nearest: cx.text("nearest_mode", if old { "floor" } else { "round_prefer_floor" })?,
        cubic: cx.real("cubic_coeff_a", -0.75)?,
        antialias: cx.flag("antialias", false)?,
        exclude_outside: cx.flag("exclude_outside", false)?,
        extrapolation: cx.real("extrapolation_value", 0.0)?,
    };
    if method.mode != "nearest" && !elem.is_float() {
        return unsupported("interpolates integers", "a float type, or mode nearest");
    }
    for change in changes(cx, &dims)? {
        x = method.apply(cx.b, x, &change)?;
    }
    cx.wrapped(elem, x)
}

/// What `Resize` was before version 10.
fn upsample(cx: &mut Cx<'_>) -> Lowered {
    let (elem, mut x, dims) = (cx.elem(0)?, cx.number(0)?, cx.dims(0)?);
    let mode = cx.text("mode", "nearest")?;
    let scales: Vec<f64> = match cx.real_list("scales")? {
        Some(list) => list.into_iter().map(f64::from).collect(),
        None => {
            let tensor = cx.known(1)?;
            (0..tensor.elements()).map(|i| tensor.get_f64(i)).collect()
        }
    };
    if scales.len() != dims.len() || (mode != "nearest" && !elem.is_float()) {
        return invalid("the scales or the mode do not fit the input");
    }
    let method = Method {
        mode,
        coordinates: "asymmetric".into(),
        nearest: "floor".into(),
        cubic: -0.75,
        antialias: false,
        exclude_outside: false,
        extrapolation: 0.0,
    };
    for (axis, scale) in scales.into_iter().enumerate().filter(|(_, s)| *s != 1.0) {
        let input = fixed_dim(&dims, axis)?;
        let output = (input as f64 * scale).floor();
        if !(scale > 0.0 && (0.0..1e9).contains(&output)) || input == 0 {
            return invalid(format!("an extent of {input} cannot become {output}"));
        }
        let change = Change { axis, input, output: output as usize, scale, roi: [0.0, 1.0] };
        x = method.apply(cx.b, x, &change)?;
    }
    cx.wrapped(elem, x)
}
