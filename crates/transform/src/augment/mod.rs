//! Augmentation: images as training sees them, changed at random in ways that leave their class as it is.
//!
//! Each sample has a key of its own, made from the seed, the epoch and the sample's place in it, and each kind of change
//! draws from a stream of its own under that key. What becomes of a sample hence depends neither on threads or workers
//! nor on which other changes are asked for.

mod color;
mod cutout;
mod geometry;
mod mix;

pub use color::ColorSpec;
pub use geometry::{CropSpec, Flip};
pub use mix::{Mix, Share};

use crate::ImageInput;
use geometry::Crop;
use outgrow_ir::{Diagnostic, Problem};
use outgrow_tensor::RngKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How training images are changed at random. Each part can be left out; they are applied in the order in which they
/// are listed here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AugmentSpec {
    /// Cuts a random part out of each image: `{ padding = 4 }` shifts it by up to so many pixels over a black border;
    /// `{ area = [0.08, 1.0] }` takes a random part of its area and brings it back to the full size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = serde_json::json!({"padding": 4}))]
    pub crop: Option<CropSpec>,
    /// Mirrors half of the images: `horizontal` (left and right change places), `vertical`, or `both` (each for half of
    /// them).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flip: Option<Flip>,
    /// Changes the colours: `{ brightness = 0.4, contrast = 0.4, saturation = 0.4, hue = 0.1 }`, each up to so much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = serde_json::json!({"brightness": 0.4, "contrast": 0.4}))]
    pub color: Option<ColorSpec>,
    /// Blanks a square of each image, of a side of so many pixels, about a place anywhere in it (DeVries and Taylor 2017).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 8)]
    pub cutout: Option<usize>,
    /// Blends each image with another one of its batch, and their classes alike (Zhang et al. 2018): the share is
    /// Beta(a, a) distributed with this `a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 0.2)]
    pub mixup: Option<f64>,
    /// Puts a rectangle of another image of the batch into each image, and its class in proportion to the area (Yun et
    /// al. 2019): the area is Beta(a, a) distributed with this `a`. With `mixup` as well, each sample gets one of the
    /// two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(example = 1.0)]
    pub cutmix: Option<f64>,
}

/// The largest `a` of a Beta(a, a): beyond it every share is one half.
const ALPHA_MAX: f64 = 1000.0;

impl AugmentSpec {
    /// Checks the numbers, for images of this input.
    ///
    /// # Errors
    /// A diagnostic that names the key.
    pub fn check(&self, image: &ImageInput) -> Result<(), Diagnostic> {
        if let Some(crop) = &self.crop {
            crop.check(image.height, image.width)?;
        }
        if let Some(color) = &self.color {
            color.check(image.channels)?;
        }
        if let Some(side) = self.cutout
            && !(1..=2 * image.height.max(image.width)).contains(&side)
        {
            return Err(problem("cutout", format!("`cutout` of {side} pixels")).expected(format!(
                "a side from 1 to {}, twice that of the images",
                2 * image.height.max(image.width)
            )));
        }
        for (name, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if let Some(alpha) = alpha
                && !(alpha > 0.0 && alpha <= ALPHA_MAX)
            {
                return Err(problem(name, format!("`{name}` of {alpha}"))
                    .expected(format!("a number above 0 and at most {ALPHA_MAX}")));
            }
        }
        Ok(())
    }

    /// Whether samples are mixed with others, so that a target is a share of several classes.
    pub fn mixes(&self) -> bool {
        self.mixup.is_some() || self.cutmix.is_some()
    }

    /// How samples are mixed, if they are.
    pub fn mix(&self) -> Option<Mix> {
        self.mixes().then_some(Mix { mixup: self.mixup, cutmix: self.cutmix })
    }
}

fn problem(key: &str, text: String) -> Problem {
    Diagnostic::new("data.augment", text).item(format!("data.augment.{key}"))
}

/// Changes and normalises single images. Mixing comes after, on a whole batch: see [`Mix`].
#[derive(Clone, Debug)]
pub struct Augmenter {
    spec: AugmentSpec,
    image: ImageInput,
}

impl Augmenter {
    /// For images of this input.
    ///
    /// # Errors
    /// As [`AugmentSpec::check`].
    pub fn new(spec: &AugmentSpec, image: &ImageInput) -> Result<Self, Diagnostic> {
        spec.check(image)?;
        Ok(Self { spec: spec.clone(), image: image.clone() })
    }

    /// Appends an image `u8 [channels, height, width]`, changed as `key` has it and normalised, to `out`.
    pub fn extend(&self, pixels: &[u8], key: RngKey, out: &mut Vec<f32>) {
        let ImageInput { height, width, .. } = self.image;
        let cropped;
        let (mut view, mut pixels) = (Crop::whole(height, width), pixels);
        if let Some(crop) = &self.spec.crop {
            let mut stream = key.fold_in_name("crop").stream();
            if let Some(padding) = crop.padding {
                let mut shift = || stream.below(2 * padding as u64 + 1) as isize - padding as isize;
                (view.top, view.left) = (shift(), shift());
            }
            if let Some(area) = crop.area {
                cropped = geometry::resized_part(pixels, &self.image, &mut stream, area, crop.ratio);
                pixels = &cropped;
            }
        }
        if let Some(flip) = self.spec.flip {
            let mut stream = key.fold_in_name("flip").stream();
            let mut coin = || stream.next_u32() >> 31 == 1;
            let (across, down) = (coin(), coin());
            view.mirrored = across && flip != Flip::Vertical;
            view.upside_down = down && flip != Flip::Horizontal;
        }
        let start = out.len();
        match &self.spec.color {
            None => view.extend(pixels, |channel| self.image.normalize.affine(channel), out),
            Some(color) => {
                view.extend(pixels, |_| (1.0, 0.0), out);
                let plane = height * width;
                color.apply(&mut out[start..], plane, &mut key.fold_in_name("color").stream());
                for (channel, values) in out[start..].chunks_exact_mut(plane.max(1)).enumerate() {
                    let (factor, offset) = self.image.normalize.affine(channel);
                    values.iter_mut().for_each(|v| *v = *v * factor + offset);
                }
            }
        }
        if let Some(side) = self.spec.cutout {
            let mut stream = key.fold_in_name("cutout").stream();
            cutout::cut_out(&mut out[start..], [height, width], side, &mut stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PixelNorm;

    fn image(channels: usize, height: usize, width: usize) -> ImageInput {
        let normalize = PixelNorm { scale: 0.5, mean: vec![1.0; channels], deviation: vec![2.0; channels] };
        ImageInput { column: 0, channels, height, width, resize: false, normalize }
    }

    fn spec(json: &str) -> AugmentSpec {
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"))
    }

    fn run(json: &str, image: &ImageInput, pixels: &[u8], key: u64) -> Vec<f32> {
        let mut out = vec![-7.0];
        Augmenter::new(&spec(json), image).unwrap().extend(pixels, RngKey::new(key), &mut out);
        assert_eq!(out.len(), 1 + pixels.len(), "{json}");
        assert_eq!(out[0], -7.0, "what was there stays");
        out.split_off(1)
    }

    #[test]
    fn without_changes_it_is_the_normalisation() {
        let image = image(3, 2, 2);
        let pixels: Vec<u8> = (0..12).map(|i| i * 20).collect();
        let mut plain = Vec::new();
        image.normalize.extend(&pixels, 4, &mut plain);
        assert_eq!(run("{}", &image, &pixels, 5), plain);
    }

    #[test]
    fn each_change_draws_from_its_own_stream() {
        let image = image(3, 8, 8);
        let pixels: Vec<u8> = (0..192).map(|i| (i * 7 % 256) as u8).collect();
        // Whether an image is mirrored does not depend on whether it is cropped as well: with a crop over no border,
        // the two are the same.
        let mut mirrored = 0;
        for key in 0..64 {
            let flip = run(r#"{"flip": "horizontal"}"#, &image, &pixels, key);
            let both = run(r#"{"flip": "horizontal", "crop": {"padding": 0}}"#, &image, &pixels, key);
            assert_eq!(flip, both);
            mirrored += u32::from(flip != run("{}", &image, &pixels, key));
        }
        assert!((20..=44).contains(&mirrored), "{mirrored} of 64 are mirrored");
    }

    #[test]
    fn everything_at_once_stays_within_the_pixels_range() {
        let json = r#"{"flip": "both", "crop": {"area": [0.1, 1.0]},
            "color": {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}}"#;
        let image = ImageInput { normalize: PixelNorm::none(3), ..image(3, 9, 7) };
        let pixels: Vec<u8> = (0..189).map(|i| (i * 37 % 256) as u8).collect();
        let first = run(json, &image, &pixels, 0);
        for key in 0..200 {
            let values = run(json, &image, &pixels, key);
            assert!(values.iter().all(|v| (0.0..=255.0).contains(v)), "{key}: {values:?}");
            assert_eq!(values, run(json, &image, &pixels, key), "the same key gives the same image");
            assert!(key == 0 || values != first, "key {key} gives the image of key 0");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let check = |json: &str, channels, item: &str| {
            let error = spec(json).check(&image(channels, 8, 8)).unwrap_err();
            assert_eq!(error.place.item.as_deref(), Some(item), "{json}: {error}");
        };
        check(r#"{"crop": {"padding": 9}}"#, 3, "data.augment.crop");
        check(r#"{"crop": {}}"#, 3, "data.augment.crop");
        check(r#"{"crop": {"padding": 1, "area": [0.1, 0.5]}}"#, 3, "data.augment.crop");
        check(r#"{"crop": {"area": [0.5, 0.1]}}"#, 3, "data.augment.crop");
        check(r#"{"crop": {"area": [0.0, 0.1]}}"#, 3, "data.augment.crop");
        check(r#"{"crop": {"area": [0.1, 0.2], "ratio": [2, 1]}}"#, 3, "data.augment.crop");
        check(r#"{"color": {"hue": 0.6}}"#, 3, "data.augment.color");
        check(r#"{"color": {"brightness": -1}}"#, 3, "data.augment.color");
        check(r#"{"color": {"hue": 0.1}}"#, 1, "data.augment.color");
        check(r#"{"mixup": 0}"#, 3, "data.augment.mixup");
        check(r#"{"cutmix": 1e9}"#, 3, "data.augment.cutmix");
    }
}
