//! Cutout (DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with cutout"): a square of each
//! image is blanked, about a place anywhere in it, so that part of the square may lie outside.

use outgrow_tensor::RngStream;

/// Blanks a square of this side in a normalised image `[channels, height, width]`: what is there becomes 0, the mean where
/// images are normalised to that.
pub(super) fn cut_out(image: &mut [f32], [height, width]: [usize; 2], side: usize, stream: &mut RngStream) {
    let mut range = |extent: usize| {
        let centre = stream.below(extent as u64) as usize;
        let from = centre.saturating_sub(side / 2);
        from..(centre + side.div_ceil(2)).min(extent)
    };
    let (rows, columns) = (range(height), range(width));
    for plane in image.chunks_exact_mut((height * width).max(1)) {
        for row in rows.clone() {
            plane[row * width..][columns.clone()].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    /// What is blanked is one square, at most of this side, the same in all channels; and all places come in turn.
    #[test]
    fn one_square_of_all_channels_is_blanked() {
        let (height, width) = (9, 7);
        for side in [1, 2, 3, 5, 100] {
            let mut seen = vec![false; height * width];
            for number in 0..300 {
                let mut image = vec![1.0f32; 2 * height * width];
                cut_out(&mut image, [height, width], side, &mut RngKey::new(number).stream());
                let (first, second) = image.split_at(height * width);
                assert_eq!(first, second);
                let blank: Vec<usize> = (0..first.len()).filter(|i| first[*i] == 0.0).collect();
                let rows = (blank.iter().map(|i| i / width).min().unwrap(), blank.last().unwrap() / width);
                let of_columns = || blank.iter().map(|i| i % width);
                let columns = (of_columns().min().unwrap(), of_columns().max().unwrap());
                let (tall, wide) = (rows.1 - rows.0 + 1, columns.1 - columns.0 + 1);
                assert_eq!(blank.len(), tall * wide);
                assert!(tall <= side && wide <= side, "{tall} by {wide} of {side}");
                blank.iter().for_each(|i| seen[*i] = true);
            }
            assert!(seen.iter().all(|seen| *seen), "side {side}");
        }
    }
}
