//! Where pixels go: crops and mirror images.

use super::problem;
use crate::image::resize;
use crate::{ImageInput, Pixels};
use outgrow_ir::Diagnostic;
use outgrow_tensor::RngStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which sides change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Left and right.
    Horizontal,
    /// Top and bottom.
    Vertical,
    /// Both, each for half of the images.
    Both,
}

/// A random part of an image, at the image's size: by `padding` or by `area`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CropSpec {
    /// The image is shifted by up to so many pixels in both directions; what is outside is black.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 4)]
    pub padding: Option<usize>,
    /// The least and the most of its area that is taken and brought to the full size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = serde_json::json!([0.08, 1.0]))]
    pub area: Option<[f64; 2]>,
    /// With `area`: the least and the greatest ratio of width to height; 3/4 to 4/3 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = serde_json::json!([0.75, 1.333]))]
    pub ratio: Option<[f64; 2]>,
}

/// The ratios of width to height when none are given.
const RATIO: [f64; 2] = [3.0 / 4.0, 4.0 / 3.0];
/// How often a part of random area and ratio is drawn before the one in the middle is taken.
const TRIES: usize = 10;
/// Ratios beyond this (or below its inverse) are taken for a mistake.
const RATIO_MAX: f64 = 100.0;

impl CropSpec {
    pub(super) fn check(&self, height: usize, width: usize) -> Result<(), Diagnostic> {
        let fail = |text: String, expected: &str| Err(problem("crop", text).expected(expected.to_owned()));
        if self.padding.is_some() == self.area.is_some() || self.ratio.is_some() && self.area.is_none() {
            return fail(
                "a crop is by padding or by area".into(),
                "{ padding = 4 } or { area = [0.08, 1.0] }",
            );
        }
        if let Some(padding) = self.padding
            && padding > height.min(width)
        {
            let text = format!("a border of {padding} pixels around images of {width} x {height}");
            return fail(text, "at most the image's shorter side");
        }
        if let Some([least, most]) = self.area
            && !(least > 0.0 && least <= most && most <= 1.0)
        {
            return fail(format!("an area of {least} to {most}"), "two rising numbers above 0 and up to 1");
        }
        let [least, most] = self.ratio.unwrap_or(RATIO);
        if !(least >= 1.0 / RATIO_MAX && least <= most && most <= RATIO_MAX) {
            let text = format!("a ratio of {least} to {most}");
            return fail(text, "two rising numbers from 0.01 to 100, such as [0.75, 1.333]");
        }
        Ok(())
    }
}

/// An image as it is seen: shifted over a black border, mirrored, turned upside down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crop {
    height: usize,
    width: usize,
    /// The row of the image that is seen first; negative above it.
    pub top: isize,
    /// The column of the image that is seen first.
    pub left: isize,
    pub mirrored: bool,
    pub upside_down: bool,
}

impl Crop {
    pub fn whole(height: usize, width: usize) -> Self {
        Self { height, width, top: 0, left: 0, mirrored: false, upside_down: false }
    }

    /// Appends `pixel * factor + offset` of what is seen of each channel to `out`.
    pub fn extend(&self, pixels: &[u8], affine: impl Fn(usize) -> (f32, f32), out: &mut Vec<f32>) {
        let Self { height, width, top, left, .. } = *self;
        let plane = height * width;
        if plane == 0 {
            return;
        }
        // Columns of a row that lie outside, before and after those that lie inside.
        let before = left.unsigned_abs().min(width) * usize::from(left < 0);
        let after = left.unsigned_abs().min(width) * usize::from(left > 0);
        for (channel, plane) in pixels.chunks_exact(plane).enumerate() {
            let (factor, offset) = affine(channel);
            for y in 0..height {
                let y = if self.upside_down { height - 1 - y } else { y };
                let row = usize::try_from(y as isize + top).ok().filter(|row| *row < height);
                let start = out.len();
                match row {
                    None => out.resize(start + width, offset),
                    Some(row) => {
                        let row = &plane[row * width..(row + 1) * width];
                        out.resize(start + before, offset);
                        out.extend(
                            row[after..width - before].iter().map(|v| f32::from(*v) * factor + offset),
                        );
                        out.resize(start + width, offset);
                    }
                }
                if self.mirrored {
                    out[start..].reverse();
                }
            }
        }
    }
}

/// A part of random area and ratio within the bounds, at the image's size (the "Inception crop" of Szegedy et al. 2015,
/// with the fallback that is usual: the largest part in the middle whose ratio is within the bounds).
pub(super) fn resized_part(
    pixels: &[u8],
    image: &ImageInput,
    stream: &mut RngStream,
    area: [f64; 2],
    ratio: Option<[f64; 2]>,
) -> Vec<u8> {
    let ImageInput { channels, height, width, .. } = *image;
    let [top, left, part_height, part_width] = part([height, width], stream, area, ratio.unwrap_or(RATIO));
    let mut data = Vec::with_capacity(channels * part_height * part_width);
    for plane in pixels.chunks_exact((height * width).max(1)) {
        for row in plane.chunks_exact(width).skip(top).take(part_height) {
            data.extend_from_slice(&row[left..left + part_width]);
        }
    }
    resize(&Pixels { channels, height: part_height, width: part_width, data }, height, width).data
}

/// First row, first column, rows and columns of the part.
fn part([height, width]: [usize; 2], stream: &mut RngStream, area: [f64; 2], ratio: [f64; 2]) -> [usize; 4] {
    let whole = (height * width) as f64;
    let log = ratio.map(libm::log);
    for _ in 0..TRIES {
        let area = whole * stream.uniform_in(area[0], area[1]);
        let ratio = libm::exp(stream.uniform_in(log[0], log[1]));
        let rows = libm::round(libm::sqrt(area / ratio)) as usize;
        let columns = libm::round(libm::sqrt(area * ratio)) as usize;
        if (1..=height).contains(&rows) && (1..=width).contains(&columns) {
            let top = stream.below((height - rows + 1) as u64) as usize;
            let left = stream.below((width - columns + 1) as u64) as usize;
            return [top, left, rows, columns];
        }
    }
    let now = width as f64 / height as f64;
    let rows = if now < ratio[0] { libm::round(width as f64 / ratio[0]) as usize } else { height };
    let columns = if now > ratio[1] { libm::round(height as f64 * ratio[1]) as usize } else { width };
    let (rows, columns) = (rows.clamp(1, height), columns.clamp(1, width));
    [(height - rows) / 2, (width - columns) / 2, rows, columns]
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    /// What is seen of rows `abc` and `def`.
    fn seen(top: isize, left: isize, mirrored: bool, upside_down: bool) -> String {
        let mut out = Vec::new();
        let crop = Crop { height: 2, width: 3, top, left, mirrored, upside_down };
        crop.extend(b"abcdef", |_| (1.0, 0.0), &mut out);
        let letter = |v: &f32| if *v == 0.0 { '.' } else { *v as u8 as char };
        out.chunks(3).map(|row| row.iter().map(letter).collect::<String>()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parts_of_an_image() {
        let cases = [
            (seen(0, 0, false, false), "abc def"),
            (seen(1, 0, false, false), "def ..."),
            (seen(-1, 0, false, false), "... abc"),
            (seen(0, 1, false, false), "bc. ef."),
            (seen(0, -2, false, false), "..a ..d"),
            (seen(2, 3, false, false), "... ..."),
            (seen(0, 0, true, false), "cba fed"),
            (seen(0, 0, false, true), "def abc"),
            // First cut out, then mirrored.
            (seen(0, 1, true, false), ".cb .fe"),
            (seen(1, 0, false, true), "... def"),
        ];
        for (is, expected) in cases {
            assert_eq!(is, expected);
        }
    }

    #[test]
    fn parts_have_the_area_and_ratio_that_are_asked_for() {
        for key in 0..500 {
            let mut stream = RngKey::new(key).stream();
            let [top, left, rows, columns] = part([100, 150], &mut stream, [0.2, 0.5], [0.5, 2.0]);
            assert!(top + rows <= 100 && left + columns <= 150);
            let (area, ratio) = ((rows * columns) as f64 / 15_000.0, columns as f64 / rows as f64);
            assert!((0.19..0.51).contains(&area) && (0.48..2.1).contains(&ratio), "{rows} x {columns}");
        }
        // A part of all the area and of a ratio that the image does not have is the largest one in the middle.
        assert_eq!(part([100, 40], &mut RngKey::new(0).stream(), [1.0, 1.0], [1.0, 1.0]), [30, 0, 40, 40]);
        assert_eq!(part([1, 1], &mut RngKey::new(0).stream(), [0.01, 0.02], RATIO), [0, 0, 1, 1]);
    }
}
