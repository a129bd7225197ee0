//! Normalisation of stored 8-bit pixels into `f32`, done while a batch is made.

use outgrow_ir::Diagnostic;
use serde::{Deserialize, Serialize};

/// `(pixel * scale - mean[channel]) / deviation[channel]`, as one multiplication and one addition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PixelNorm {
    /// Factor for the raw pixel, 0 to 255; 1/255 brings it to 0 to 1.
    pub scale: f64,
    /// Taken off the scaled pixel, one per channel.
    pub mean: Vec<f64>,
    /// Divides what remains, one per channel.
    pub deviation: Vec<f64>,
}

impl PixelNorm {
    /// Brings pixels to 0 to 1.
    pub fn unit(channels: usize) -> Self {
        Self { scale: 1.0 / 255.0, mean: vec![0.0; channels], deviation: vec![1.0; channels] }
    }

    /// Leaves pixels as 0 to 255.
    pub fn none(channels: usize) -> Self {
        Self { scale: 1.0, ..Self::unit(channels) }
    }

    /// Checks that there are numbers for `channels` channels and that none is useless.
    pub fn check(&self, channels: usize) -> Result<(), Diagnostic> {
        let fail = |what: String| {
            Err(Diagnostic::new("data.normalize", what).item("data.normalize").expected(format!(
                "`mean` and `std` with {channels} finite numbers each, and `std` and `scale` not zero"
            )))
        };
        if self.mean.len() != channels || self.deviation.len() != channels {
            return fail(format!(
                "normalisation has {} means and {} standard deviations for {channels} channels",
                self.mean.len(),
                self.deviation.len()
            ));
        }
        let usable = |v: &f64| v.is_finite() && *v != 0.0;
        if !usable(&self.scale)
            || !self.mean.iter().all(|m| m.is_finite())
            || !self.deviation.iter().all(usable)
        {
            return fail("normalisation has a number that cannot be used".into());
        }
        Ok(())
    }

    /// Factor and offset of `channel`.
    pub fn affine(&self, channel: usize) -> (f32, f32) {
        let deviation = self.deviation[channel];
        ((self.scale / deviation) as f32, (-self.mean[channel] / deviation) as f32)
    }

    /// Normalises whole images `[…, channels, height, width]` from `pixels` onto the end of `out`; `plane` is
    /// `height * width`.
    pub fn extend(&self, pixels: &[u8], plane: usize, out: &mut Vec<f32>) {
        let channels = self.mean.len();
        if plane == 0 {
            return;
        }
        for (i, values) in pixels.chunks_exact(plane).enumerate() {
            let (factor, offset) = self.affine(i % channels);
            out.extend(values.iter().map(|v| f32::from(*v) * factor + offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_each_channel_by_its_own_numbers() {
        let norm = PixelNorm { scale: 0.5, mean: vec![1.0, 0.0], deviation: vec![2.0, 0.25] };
        norm.check(2).unwrap();
        assert!(norm.check(3).is_err());
        let mut out = Vec::new();
        norm.extend(&[2, 4, 6, 8], 2, &mut out);
        assert_eq!(out, [0.0, 0.5, 12.0, 16.0]);
        assert!(PixelNorm { deviation: vec![0.0], ..PixelNorm::unit(1) }.check(1).is_err());
    }
}
