//! Samples mixed with others of their batch.

use outgrow_tensor::{RngKey, RngStream};

/// How samples are mixed. Each is mixed with the next one of its batch, the last with the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// The parameter of Beta(a, a) from which the share of a blend is drawn.
    pub mixup: Option<f64>,
    /// The parameter of Beta(a, a) from which the part of the area that stays is drawn.
    pub cutmix: Option<f64>,
}

/// What one sample becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// `own * image + (1 - own) * other`.
    Blend {
        /// The sample's own share.
        own: f32,
    },
    /// The other image within rows `top..bottom` and columns `left..right`, the own one elsewhere.
    Patch {
        /// First row.
        top: usize,
        /// Past the last row.
        bottom: usize,
        /// First column.
        left: usize,
        /// Past the last column.
        right: usize,
        /// The sample's own share of the area.
        own: f32,
    },
}

impl Share {
    /// The sample's own share of its class.
    pub fn own(&self) -> f32 {
        match self {
            Self::Blend { own } | Self::Patch { own, .. } => *own,
        }
    }

    /// Mixes `other` into `image`, both `[channels, height, width]`.
    pub fn apply(&self, image: &mut [f32], other: &[f32], [height, width]: [usize; 2]) {
        match *self {
            Self::Blend { own } => {
                image.iter_mut().zip(other).for_each(|(a, b)| *a = own * *a + (1.0 - own) * *b);
            }
            Self::Patch { top, bottom, left, right, .. } => {
                let plane = (height * width).max(1);
                for (image, other) in image.chunks_exact_mut(plane).zip(other.chunks_exact(plane)) {
                    for y in top..bottom {
                        let row = y * width + left..y * width + right;
                        image[row.clone()].copy_from_slice(&other[row]);
                    }
                }
            }
        }
    }
}

impl Mix {
    /// What becomes of the sample of this key, an image of `height` by `width`.
    pub fn share(&self, key: RngKey, [height, width]: [usize; 2]) -> Share {
        let mut stream = key.fold_in_name("mix").stream();
        let coin = stream.next_u32() >> 31 == 1;
        match (self.mixup, self.cutmix) {
            (Some(alpha), None) => Share::Blend { own: beta(&mut stream, alpha) as f32 },
            (Some(alpha), Some(_)) if coin => Share::Blend { own: beta(&mut stream, alpha) as f32 },
            (_, Some(alpha)) => {
                // The patch has the image's shape, and a middle anywhere in it; what lies outside is cut off.
                let side = libm::sqrt(1.0 - beta(&mut stream, alpha));
                let mut span = |extent: usize| {
                    let (half, middle) = (side * extent as f64 / 2.0, stream.uniform() * extent as f64);
                    let edge = |at: f64| libm::round(at.clamp(0.0, extent as f64)) as usize;
                    (edge(middle - half), edge(middle + half))
                };
                let ((top, bottom), (left, right)) = (span(height), span(width));
                let patch = (bottom - top) * (right - left);
                let own = 1.0 - patch as f64 / ((height * width).max(1)) as f64;
                Share::Patch { top, bottom, left, right, own: own as f32 }
            }
            (None, None) => Share::Blend { own: 1.0 },
        }
    }
}

/// A number from Beta(a, a): `x / (x + y)` of two numbers from Gamma(a). By their logarithms, since for a small `a` both
/// are often too small for a number.
fn beta(stream: &mut RngStream, alpha: f64) -> f64 {
    let (x, y) = (log_gamma(stream, alpha), log_gamma(stream, alpha));
    1.0 / (1.0 + libm::exp(y - x))
}

/// The logarithm of a number from Gamma(a, 1): Marsaglia and Tsang, "A simple method for generating gamma variables",
/// 2000; below 1 by `Gamma(a) = Gamma(a + 1) * U^(1/a)`.
fn log_gamma(stream: &mut RngStream, alpha: f64) -> f64 {
    if alpha < 1.0 {
        let u = 1.0 - stream.uniform();
        return log_gamma(stream, alpha + 1.0) + libm::log(u) / alpha;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = stream.normal();
        let v = 1.0 + c * x;
        let u = 1.0 - stream.uniform();
        if v > 0.0 {
            let v = v * v * v;
            if libm::log(u) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return libm::log(d * v);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 1/2 and variance 1 / (4 (2a + 1)), within four standard errors.
    #[test]
    fn beta_has_its_mean_and_variance() {
        for alpha in [0.05_f64, 0.2, 1.0, 3.5, 400.0] {
            let mut stream = RngKey::new(9).fold_in(alpha.to_bits()).stream();
            let n = 20_000;
            let draws: Vec<f64> = (0..n).map(|_| beta(&mut stream, alpha)).collect();
            assert!(draws.iter().all(|v| (0.0..=1.0).contains(v)));
            let mean = draws.iter().sum::<f64>() / f64::from(n);
            let variance = draws.iter().map(|v| (v - 0.5).powi(2)).sum::<f64>() / f64::from(n);
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 4.0 * (expected / f64::from(n)).sqrt(), "{alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "{alpha}: variance {variance}, not {expected}");
        }
    }

    #[test]
    fn shares_are_of_the_pixels_that_stay() {
        let mix = Mix { mixup: None, cutmix: Some(1.0) };
        let mut sizes = std::collections::BTreeSet::new();
        for key in 0..200 {
            let share = mix.share(RngKey::new(key), [6, 10]);
            let mut image = vec![0.0; 120];
            share.apply(&mut image, &[1.0; 120], [6, 10]);
            let stay = image.iter().filter(|v| **v == 0.0).count() as f32 / 120.0;
            assert!((stay - share.own()).abs() < 1e-6, "{share:?}: {stay} of the pixels stay");
            sizes.insert((stay * 60.0) as u32);
        }
        assert!(sizes.len() > 20, "patches are of many sizes: {sizes:?}");
        let blend = Share::Blend { own: 0.25 };
        let mut image = [4.0, 8.0];
        blend.apply(&mut image, &[0.0, 4.0], [1, 2]);
        assert_eq!(image, [1.0, 5.0]);
    }

    #[test]
    fn with_both_each_gets_one_of_the_two() {
        let mix = Mix { mixup: Some(0.2), cutmix: Some(1.0) };
        let blends =
            (0..400).filter(|k| matches!(mix.share(RngKey::new(*k), [8, 8]), Share::Blend { .. })).count();
        assert!((150..250).contains(&blends), "{blends} of 400 are blended");
    }
}
