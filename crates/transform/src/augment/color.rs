//! Changes of colour, on pixels from 0 to 255.

use super::problem;
use outgrow_ir::Diagnostic;
use outgrow_tensor::RngStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By how much colours change at most. The first three are factors drawn from `1 - x` to `1 + x` (at least 0); the hue
/// is shifted by `-x` to `x` of its whole circle. The changes come in this order, each cut to the range of pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColorSpec {
    /// Of the brightness: every pixel is multiplied by the factor.
    pub brightness: f64,
    /// Of the contrast: distances from the image's mean grey are multiplied by the factor.
    pub contrast: f64,
    /// Of the saturation: distances from a pixel's own grey are multiplied by the factor. Colour images only.
    pub saturation: f64,
    /// Of the hue, at most 0.5. Colour images only.
    pub hue: f64,
}

/// Larger factors are taken for a mistake.
const FACTOR_MAX: f64 = 100.0;
/// Weights of red, green and blue in a grey: ITU-R BT.601.
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

impl ColorSpec {
    pub(super) fn check(&self, channels: usize) -> Result<(), Diagnostic> {
        let factors = [self.brightness, self.contrast, self.saturation];
        let sane = factors.iter().all(|x| (0.0..=FACTOR_MAX).contains(x)) && (0.0..=0.5).contains(&self.hue);
        if !sane {
            let text = "a change of colour is out of its range";
            return Err(problem("color", text.into())
                .expected(format!("numbers from 0 to {FACTOR_MAX}, and a hue of at most 0.5")));
        }
        if channels != 3 && (self.saturation > 0.0 || self.hue > 0.0) {
            let text = "grey images have neither saturation nor hue";
            return Err(
                problem("color", text.into()).hint("leave `saturation` and `hue` out, or set channels = 3")
            );
        }
        Ok(())
    }

    /// Changes an image `[channels, plane]`.
    pub(super) fn apply(&self, pixels: &mut [f32], plane: usize, stream: &mut RngStream) {
        // All four are always drawn, so that one does not depend on the others.
        let mut factor = |x: f64| stream.uniform_in((1.0 - x).max(0.0), 1.0 + x) as f32;
        let [brightness, contrast, saturation] =
            [factor(self.brightness), factor(self.contrast), factor(self.saturation)];
        let hue = stream.uniform_in(-self.hue, self.hue) as f32;
        if self.brightness > 0.0 {
            pixels.iter_mut().for_each(|v| *v = cut(*v * brightness));
        }
        if self.contrast > 0.0 {
            let mean = mean_grey(pixels, plane);
            pixels.iter_mut().for_each(|v| *v = cut(mean + (*v - mean) * contrast));
        }
        if self.saturation > 0.0 || self.hue > 0.0 {
            let (red, rest) = pixels.split_at_mut(plane);
            let (green, blue) = rest.split_at_mut(plane);
            for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                let mut rgb = [*r, *g, *b];
                if self.saturation > 0.0 {
                    let grey = grey(rgb);
                    rgb = rgb.map(|v| cut(grey + (v - grey) * saturation));
                }
                if self.hue > 0.0 {
                    rgb = shift_hue(rgb, hue);
                }
                [*r, *g, *b] = rgb;
            }
        }
    }
}

fn cut(v: f32) -> f32 {
    v.clamp(0.0, 255.0)
}

fn grey(rgb: [f32; 3]) -> f32 {
    rgb[0] * GREY[0] + rgb[1] * GREY[1] + rgb[2] * GREY[2]
}

fn mean_grey(pixels: &[f32], plane: usize) -> f32 {
    let sum: f64 = match pixels.len() / plane.max(1) {
        3 => (0..plane).map(|i| f64::from(grey([0, 1, 2].map(|c| pixels[c * plane + i])))).sum(),
        _ => pixels.iter().map(|v| f64::from(*v)).sum(),
    };
    (sum / plane.max(1) as f64) as f32
}

/// The colour with its hue turned by `by` of the whole circle, by way of hue, chroma and value (Smith 1978).
fn shift_hue(rgb: [f32; 3], by: f32) -> [f32; 3] {
    let value = rgb[0].max(rgb[1]).max(rgb[2]);
    let chroma = value - rgb[0].min(rgb[1]).min(rgb[2]);
    if chroma <= 0.0 {
        return rgb;
    }
    let [r, g, b] = rgb;
    // In sixths of the circle.
    let sixths = if value == r {
        (g - b) / chroma
    } else if value == g {
        2.0 + (b - r) / chroma
    } else {
        4.0 + (r - g) / chroma
    };
    let turned = sixths + 6.0 * by;
    // A channel is at the full value within one sixth to each side of its place, and falls to the lowest over another.
    [5.0, 3.0, 1.0].map(|place| {
        let k = wrap(place + turned);
        cut(value - chroma * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// Into 0 to 6.
fn wrap(sixths: f32) -> f32 {
    let wrapped = sixths - 6.0 * libm::floorf(sixths / 6.0);
    if wrapped < 6.0 { wrapped } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    fn check_hue(rgb: [f32; 3], by: f32, expected: [f32; 3]) {
        let turned = shift_hue(rgb, by);
        let near = turned.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(near, "{rgb:?} by {by}: {turned:?}, expected {expected:?}");
    }

    #[test]
    fn hues_turn() {
        check_hue([200.0, 10.0, 10.0], 0.0, [200.0, 10.0, 10.0]);
        check_hue([200.0, 10.0, 10.0], 1.0 / 3.0, [10.0, 200.0, 10.0]);
        check_hue([200.0, 10.0, 10.0], -1.0 / 3.0, [10.0, 10.0, 200.0]);
        check_hue([200.0, 10.0, 10.0], 0.5, [10.0, 200.0, 200.0]);
        check_hue([10.0, 100.0, 200.0], 0.0, [10.0, 100.0, 200.0]);
        check_hue([77.0; 3], 0.3, [77.0; 3]);
        for (r, g, b) in [(1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (2.0, 3.0, 1.0), (2.0, 1.0, 3.0), (9.0, 9.0, 1.0)]
        {
            let back = shift_hue(shift_hue([r, g, b], 0.2), -0.2);
            check_hue(back, 0.0, [r, g, b]);
        }
    }

    #[test]
    fn changes_do_what_their_names_say() {
        let stream = || RngKey::new(3).stream();
        let image = [10.0f32, 200.0, 50.0, 60.0, 90.0, 30.0];
        let change = |spec: ColorSpec| {
            let mut pixels = image;
            spec.apply(&mut pixels, 2, &mut stream());
            pixels
        };
        assert_eq!(change(ColorSpec::default()), image);
        let brighter = change(ColorSpec { brightness: 0.5, ..ColorSpec::default() });
        let factor = brighter[0] / image[0];
        assert!((0.5..1.5).contains(&factor) && (brighter[2] - image[2] * factor).abs() < 1e-3);
        let grey_of = |p: &[f32; 6]| mean_grey(p, 2);
        // Neither of these moves the mean grey, as long as nothing is cut.
        for spec in [
            ColorSpec { contrast: 0.1, ..ColorSpec::default() },
            ColorSpec { saturation: 0.1, ..ColorSpec::default() },
        ] {
            let changed = change(spec);
            assert_ne!(changed, image);
            assert!((grey_of(&changed) - grey_of(&image)).abs() < 1e-2, "{spec:?}: {changed:?}");
        }
        let turned = change(ColorSpec { hue: 0.5, ..ColorSpec::default() });
        for i in 0..2 {
            let range = |p: &[f32; 6]| {
                [p[i], p[i + 2], p[i + 4]].into_iter().fold((255f32, 0f32), |(a, b), v| (a.min(v), b.max(v)))
            };
            let ((a, b), (c, d)) = (range(&turned), range(&image));
            assert!((a - c).abs() < 1e-3 && (b - d).abs() < 1e-3, "value and chroma stay");
        }
    }
}
