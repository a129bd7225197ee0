//! Small pictures of samples, embedded in the page as PNG in `data:` URIs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The most pixels of an embedded picture.
const MAX_PIXELS: usize = 1 << 20;

/// A picture of 8-bit samples, `[height, width, channels]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap {
    /// 1 for grey, 3 for red, green, blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height * width * channels` samples, row by row.
    pub data: Vec<u8>,
}

impl Bitmap {
    /// A picture from planes, `[channels, height, width]`.
    pub fn from_planes(channels: usize, height: usize, width: usize, planes: &[u8]) -> Self {
        let area = height * width;
        let sample = |i: usize| planes.get((i % channels) * area + i / channels).copied().unwrap_or(0);
        Self { channels, height, width, data: (0..area * channels).map(sample).collect() }
    }

    /// The picture as a `data:` URI; nothing when its parts do not agree.
    pub fn data_uri(&self) -> Option<String> {
        let colour = match self.channels {
            1 => png::ColorType::Grayscale,
            3 => png::ColorType::Rgb,
            _ => return None,
        };
        let pixels =
            self.height.checked_mul(self.width).filter(|pixels| (1..=MAX_PIXELS).contains(pixels))?;
        if self.data.len() != pixels * self.channels {
            return None;
        }
        let mut file = Vec::new();
        let mut encoder =
            png::Encoder::new(&mut file, u32::try_from(self.width).ok()?, u32::try_from(self.height).ok()?);
        encoder.set_color(colour);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&self.data).ok()?;
        writer.finish().ok()?;
        Some(format!("data:image/png;base64,{}", STANDARD.encode(&file)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_encoded_and_bad_ones_left_out() {
        let good = Bitmap::from_planes(3, 1, 2, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(good.data, [1, 3, 5, 2, 4, 6]);
        assert!(good.data_uri().is_some_and(|uri| uri.starts_with("data:image/png;base64,iVBORw0KGgo")));
        for (channels, height, width, length) in
            [(2, 1, 1, 2), (1, 0, 0, 0), (1, 2, 2, 3), (1, usize::MAX, 2, 1)]
        {
            assert_eq!(Bitmap { channels, height, width, data: vec![0; length] }.data_uri(), None);
        }
    }
}
