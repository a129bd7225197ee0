//! Decodes and resizes images. Sizes are checked before anything is allocated, and every step has the same bits on
//! every machine: decoders run without machine-specific instructions.

use crate::memory_budget::{MemoryBudget, Share};
use crate::{Pixels, Value};
use outgrow_ir::{Diagnostic, shielded};
use std::io::Cursor;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Largest number of rows or columns of an image.
pub const SIDE_MAX: usize = 1 << 14;
/// Largest number of samples of a decoded image.
pub const SAMPLES_MAX: usize = 1 << 28;

/// What all threads together may decode into at a time. An image that takes more is decoded alone.
static DECODING: MemoryBudget = MemoryBudget::new(512 << 20);

/// What an image is decoded for, which says what it takes beside its own pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room<'a> {
    budget: &'a MemoryBudget,
    /// The channels that are wanted, if not those of the file.
    channels: Option<usize>,
    /// The width that it will be resized to, 0 when it will not.
    resized_width: usize,
}

impl Room<'static> {
    /// In the budget that all threads share.
    pub fn new(channels: Option<usize>, resized_width: usize) -> Self {
        Self { budget: &DECODING, channels, resized_width }
    }
}

impl<'a> Room<'a> {
    /// Waits for the memory of an image whose decoder takes `decoder_bytes` for each pixel, and gives `channels`.
    fn take(&self, decoder_bytes: usize, channels: usize, height: usize, width: usize) -> Share<'a> {
        let converted = self.channels.filter(|wanted| *wanted != channels).unwrap_or(0);
        let pixels = height.saturating_mul(width);
        let resizing = height.saturating_mul(self.resized_width).saturating_mul(size_of::<f32>());
        self.budget.take(pixels.saturating_mul(decoder_bytes + converted).saturating_add(resizing))
    }
}

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

/// Whether a file's content looks like an image that [`decode`] takes.
pub fn is_image(file: &[u8]) -> bool {
    file.starts_with(PNG) || file.starts_with(JPEG) || is_webp(file)
}

/// A RIFF container of the form `WEBP`.
fn is_webp(file: &[u8]) -> bool {
    file.starts_with(b"RIFF") && file.get(8..12) == Some(b"WEBP")
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

fn broken(what: &str, why: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::new("data.image.broken", format!("the {what} image cannot be decoded: {why}"))
        .hint("the image is cut short or damaged")
}

/// Decodes a PNG, JPEG or WebP file into grey or red, green, blue; transparency is left out, 16-bit samples are cut to
/// 8, and of an animation the first frame is taken.
///
/// # Errors
/// A diagnostic for content that is neither, is damaged, or has an absurd size.
pub fn decode(file: &[u8]) -> Result<Pixels, Diagnostic> {
    decode_within(file, &Room::new(None, 0)).map(|(pixels, _)| pixels)
}

/// The same, with the share of the memory that the image has, to be held as long as the image is.
fn decode_within<'a>(file: &[u8], room: &Room<'a>) -> Result<(Pixels, Share<'a>), Diagnostic> {
    if file.starts_with(PNG) {
        return guarded("PNG", || decode_png(file, room));
    }
    if file.starts_with(JPEG) {
        return guarded("JPEG", || decode_jpeg(file, room));
    }
    if is_webp(file) {
        return guarded("WebP", || decode_webp(file, room));
    }
    Err(Diagnostic::new("data.image.format", "the image is neither a PNG, a JPEG nor a WebP file")
        .expected("a file that begins like a PNG, JPEG or WebP file"))
}

/// Outside input must not end the process, whatever a decoder thinks of it.
fn guarded<T>(what: &str, decode: impl Fn() -> Result<T, Diagnostic>) -> Result<T, Diagnostic> {
    shielded(decode).unwrap_or_else(|| Err(broken(what, "the decoder gave up")))
}

fn decode_png<'a>(file: &[u8], room: &Room<'a>) -> Result<(Pixels, Share<'a>), Diagnostic> {
    let limits = png::Limits { bytes: SAMPLES_MAX };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), limits);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| broken("PNG", e))?;
    let (height, width) = (reader.info().height as usize, reader.info().width as usize);
    let (color, _) = reader.output_color_type();
    let (samples, channels) = match color {
        png::ColorType::Grayscale => (1, 1),
        png::ColorType::GrayscaleAlpha => (2, 1),
        png::ColorType::Rgb => (3, 3),
        png::ColorType::Rgba => (4, 3),
        png::ColorType::Indexed => return Err(broken("PNG", "its palette was not expanded")),
    };
    check_size(channels, height, width)?;
    let planes = if samples == 1 { 0 } else { channels };
    let share = room.take(samples + planes, channels, height, width);
    let mut interleaved = vec![0; height * width * samples];
    if reader.output_buffer_size() != Some(interleaved.len()) {
        return Err(broken("PNG", "its rows have an unexpected length"));
    }
    reader.next_frame(&mut interleaved).map_err(|e| broken("PNG", e))?;
    Ok((planar(interleaved, samples, channels, height, width), share))
}

fn decode_jpeg<'a>(file: &[u8], room: &Room<'a>) -> Result<(Pixels, Share<'a>), Diagnostic> {
    let options = DecoderOptions::default()
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .set_strict_mode(true)
        .set_use_unsafe(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|e| broken("JPEG", e))?;
    let Some((width, height)) = decoder.dimensions() else { return Err(broken("JPEG", "it has no size")) };
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let (channels, space) = if grey { (1, ColorSpace::Luma) } else { (3, ColorSpace::RGB) };
    check_size(channels, height, width)?;
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    // A progressive file's coefficients are in memory as well, in 16 bits each.
    let share = room.take(4 * channels, channels, height, width);
    let mut interleaved = vec![0; channels * height * width];
    if decoder.output_buffer_size() != Some(interleaved.len()) {
        return Err(broken("JPEG", "its colours are of a kind that is not supported"));
    }
    decoder.decode_into(&mut interleaved).map_err(|e| broken("JPEG", e))?;
    Ok((planar(interleaved, channels, channels, height, width), share))
}

fn decode_webp<'a>(file: &[u8], room: &Room<'a>) -> Result<(Pixels, Share<'a>), Diagnostic> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(file)).map_err(|e| broken("WebP", e))?;
    let (width, height) = decoder.dimensions();
    let (height, width) = (height as usize, width as usize);
    check_size(3, height, width)?;
    decoder.set_memory_limit(SAMPLES_MAX);
    let samples = if decoder.has_alpha() { 4 } else { 3 };
    // The decoder has a frame of its own, of at most four bytes for each pixel.
    let share = room.take(samples + 3 + 4, 3, height, width);
    let mut interleaved = vec![0; height * width * samples];
    if decoder.output_buffer_size() != Some(interleaved.len()) {
        return Err(broken("WebP", "its rows have an unexpected length"));
    }
    decoder.read_image(&mut interleaved).map_err(|e| broken("WebP", e))?;
    Ok((planar(interleaved, samples, 3, height, width), share))
}

/// From `[height, width, samples]` to `[channels, height, width]`; further samples are left out.
fn planar(interleaved: Vec<u8>, samples: usize, channels: usize, height: usize, width: usize) -> Pixels {
    if samples == 1 {
        return Pixels { channels, height, width, data: interleaved };
    }
    let mut data = Vec::with_capacity(channels * height * width);
    for channel in 0..channels {
        data.extend(interleaved.iter().skip(channel).step_by(samples));
    }
    Pixels { channels, height, width, data }
}

/// The pixels of a value with 1 or 3 channels, or as many as the image has; colour becomes grey by the weights of
/// ITU-R BT.601.
///
/// # Errors
/// A diagnostic for a value that is no image, or cannot be decoded.
pub fn pixels(value: &Value, channels: Option<usize>) -> Result<Pixels, Diagnostic> {
    pixels_within(value, &Room::new(channels, 0)).map(|(pixels, _)| pixels)
}

/// The same, with the share of the memory that a decoded image has, to be held as long as the image is.
pub(crate) fn pixels_within<'a>(
    value: &Value,
    room: &Room<'a>,
) -> Result<(Pixels, Option<Share<'a>>), Diagnostic> {
    match value {
        Value::Pixels(pixels) => {
            Ok((with_channels(pixels.clone(), room.channels.unwrap_or(pixels.channels)), None))
        }
        Value::Encoded(file) => {
            let (pixels, share) = decode_within(file, room)?;
            let channels = room.channels.unwrap_or(pixels.channels);
            Ok((with_channels(pixels, channels), Some(share)))
        }
        Value::Missing => Err(Diagnostic::new("data.missing-value", "the image is missing")
            .hint("drop such records with `{ drop_missing = … }` in `clean`")),
        other => {
            Err(Diagnostic::new("data.wrong-kind", format!("{} instead of an image", other.kind_name()))
                .expected("the bytes of a PNG, JPEG or WebP file"))
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

/// The image at another size, by a triangle filter that covers every source pixel when shrinking (what is commonly
/// called antialiased bilinear), first along the rows, then along the columns.
pub fn resize(pixels: &Pixels, height: usize, width: usize) -> Pixels {
    let Pixels { channels, height: from_height, width: from_width, .. } = *pixels;
    let across = Weights::new(from_width, width);
    let down = Weights::new(from_height, height);
    let mut data = Vec::with_capacity(channels * height * width);
    for plane in pixels.data.chunks_exact(from_height * from_width) {
        let mut rows = Vec::with_capacity(from_height * width);
        for row in plane.chunks_exact(from_width) {
            rows.extend(across.each().map(|(first, weights)| {
                weights.iter().zip(&row[first..]).map(|(w, v)| w * f32::from(*v)).sum::<f32>()
            }));
        }
        for (first, weights) in down.each() {
            for x in 0..width {
                let column = rows[first * width + x..].iter().step_by(width);
                let value: f32 = weights.iter().zip(column).map(|(w, v)| w * v).sum();
                data.push((value + 0.5) as u8);
            }
        }
    }
    Pixels { channels, height, width, data }
}

/// For each place of a resized line, where its source pixels begin, and their weights.
struct Weights(Vec<(usize, Vec<f32>)>);

impl Weights {
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        // The filter reaches one pixel to each side, measured in the coarser of the two grids.
        let reach = scale.max(1.0);
        let weights = |i: usize| {
            let center = (i as f64 + 0.5) * scale;
            let first = ((center - reach + 0.5).max(0.0)) as usize;
            let last = ((center + reach + 0.5) as usize).clamp(first + 1, from);
            let raw: Vec<f64> =
                (first..last).map(|j| (1.0 - (j as f64 + 0.5 - center).abs() / reach).max(0.0)).collect();
            let sum: f64 = raw.iter().sum();
            (first, raw.iter().map(|w| (w / sum) as f32).collect())
        };
        Self((0..to).map(weights).collect())
    }

    fn each(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.0.iter().map(|(first, weights)| (*first, weights.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(color: png::ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        file
    }

    #[test]
    #[allow(clippy::type_complexity)]
    fn every_kind_of_png_decodes() {
        use png::{BitDepth, ColorType};
        let cases: [(ColorType, BitDepth, &[u8], usize, &[u8]); 6] = [
            (ColorType::Grayscale, BitDepth::Eight, &[1, 2], 1, &[1, 2]),
            (ColorType::Grayscale, BitDepth::One, &[0b0100_0000], 1, &[0, 255]),
            (ColorType::Grayscale, BitDepth::Sixteen, &[1, 99, 2, 99], 1, &[1, 2]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, &[1, 0, 2, 0], 1, &[1, 2]),
            (ColorType::Rgb, BitDepth::Eight, &[1, 2, 3, 4, 5, 6], 3, &[1, 4, 2, 5, 3, 6]),
            (ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 0, 4, 5, 6, 0], 3, &[1, 4, 2, 5, 3, 6]),
        ];
        for (color, depth, data, channels, expect) in cases {
            let file = png(color, depth, data);
            let pixels = decode(&file).unwrap_or_else(|d| panic!("{color:?} {depth:?}: {d}"));
            assert_eq!((pixels.channels, pixels.data.as_slice()), (channels, expect), "{color:?} {depth:?}");
            for cut in 0..file.len() - 12 {
                assert!(decode(&file[..cut]).is_err(), "{color:?} cut to {cut}");
            }
        }
    }

    /// Files of 2 x 2 pixels, three red and the last blue, written by libwebp: lossless, and lossless with an alpha
    /// channel that is left out.
    #[test]
    fn webp_decodes() {
        let cases: [&[u8]; 2] =
            [include_bytes!("../tests/red.webp"), include_bytes!("../tests/red_alpha.webp")];
        for file in cases {
            let pixels = decode(file).unwrap();
            assert_eq!((pixels.channels, pixels.height, pixels.width), (3, 2, 2));
            assert_eq!(pixels.data, [255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255]);
            for cut in 0..file.len() - 4 {
                assert!(decode(&file[..cut]).is_err(), "cut to {cut}");
            }
        }
        let lossy = decode(include_bytes!("../tests/grey_lossy.webp")).unwrap();
        assert_eq!((lossy.channels, lossy.height, lossy.width), (3, 16, 16));
        assert!(lossy.data.iter().all(|v| v.abs_diff(128) < 4));
    }

    #[test]
    fn absurd_sizes_are_refused_before_they_are_allocated() {
        let mut file = png(png::ColorType::Rgb, png::BitDepth::Eight, &[0; 6]);
        file[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        assert!(decode(&file).is_err());
        assert!(check_size(3, 0, 4).is_err() && check_size(2, 4, 4).is_err() && check_size(1, 1, 1).is_ok());
        assert!(check_size(1, SIDE_MAX, SIDE_MAX).is_ok() && check_size(3, SIDE_MAX, SIDE_MAX).is_err());
        assert_eq!(decode(b"GIF89a").unwrap_err().code, "data.image.format");
    }

    /// What an image takes is asked for before it is decoded, and held until it is done with.
    #[test]
    fn images_are_decoded_within_the_budget() {
        use std::sync::mpsc::{RecvTimeoutError, channel};
        let file = png(png::ColorType::Rgb, png::BitDepth::Eight, &[1, 2, 3, 4, 5, 6]);
        let alone = decode(&file).unwrap();
        // Two pixels take twelve bytes in all, two more as grey, and four for each row and column when resized.
        for (channels, resized_width, bytes) in [(None, 0, 12), (Some(1), 0, 14), (None, 5, 32)] {
            let budget = MemoryBudget::new(bytes);
            let room = Room { budget: &budget, channels, resized_width };
            let (sender, done) = channel();
            std::thread::scope(|scope| {
                let taken = budget.take(1);
                scope.spawn(|| sender.send(decode_within(&file, &room).map(|(pixels, _)| pixels)));
                let early = done.recv_timeout(std::time::Duration::from_millis(30));
                assert_eq!(early, Err(RecvTimeoutError::Timeout), "it did not wait");
                drop(taken);
                assert_eq!(done.recv().unwrap().unwrap(), alone);
            });
            // With a byte less it is larger than the budget, and goes alone.
            let small = MemoryBudget::new(bytes - 1);
            let room = Room { budget: &small, ..room };
            assert_eq!(decode_within(&file, &room).unwrap().0, alone);
            // A file that cannot be decoded gives back what it took.
            assert!(decode_within(&file[..file.len() - 20], &room).is_err());
            drop(small.take(bytes));
        }
    }

    #[test]
    fn resizing_keeps_constants_and_averages() {
        let flat = Pixels { channels: 3, height: 5, width: 7, data: vec![9; 105] };
        for (height, width) in [(1, 1), (3, 20), (5, 7), (11, 2)] {
            let resized = resize(&flat, height, width);
            assert_eq!(resized.data, vec![9; 3 * height * width]);
        }
        let ramp = Pixels { channels: 1, height: 1, width: 4, data: vec![0, 100, 200, 40] };
        assert_eq!(resize(&ramp, 1, 4), ramp);
        assert_eq!(resize(&ramp, 1, 8).data, [0, 25, 75, 125, 175, 160, 80, 40]);
    }

    #[test]
    fn colour_becomes_grey_and_back() {
        let colour = Pixels { channels: 3, height: 1, width: 1, data: vec![255, 0, 0] };
        let grey = pixels(&Value::Pixels(colour), Some(1)).unwrap();
        assert_eq!(grey.data, [76]);
        assert_eq!(pixels(&Value::Pixels(grey), Some(3)).unwrap().data, [76; 3]);
    }
}
