//! Images: what is accepted has the size it says, within the limits, and decodes to the same bits again.

use outgrow_transform::image::{SAMPLES_MAX, SIDE_MAX, decode, is_image, resize};

pub fn check(data: &[u8]) {
    let pixels = match decode(data) {
        Ok(pixels) => pixels,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            assert!(is_image(data) || found.code == "data.image.format", "{found}");
            return;
        }
    };
    assert!(is_image(data));
    assert!(matches!(pixels.channels, 1 | 3));
    assert!((1..=SIDE_MAX).contains(&pixels.height) && (1..=SIDE_MAX).contains(&pixels.width));
    assert_eq!(pixels.data.len(), pixels.channels * pixels.height * pixels.width);
    assert!(pixels.data.len() <= SAMPLES_MAX);
    assert_eq!(decode(data).expect("decoding again gives the same"), pixels);
    if pixels.data.len() < 1 << 16 {
        assert_eq!(resize(&pixels, pixels.height, pixels.width), pixels);
        assert_eq!(resize(&pixels, 3, 5).data.len(), pixels.channels * 15);
    }
}
