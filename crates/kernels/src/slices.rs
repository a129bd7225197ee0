//! Plain functions on slices that trainers use outside programs.

/// Elements that are summed one task at a time, and the unit at which sums over parameters may be cut.
pub const SUM_BLOCK: usize = 4096;
/// The sum of `values` by a fixed binary tree over neighbours: (0 + 1) + (2 + 3) and so on.
pub fn tree_sum(values: &[f64]) -> f64 {
    match values {
        [] => 0.0,
        [one] => *one,
        _ => {
            let (low, high) = values.split_at(values.len().next_power_of_two() / 2);
            tree_sum(low) + tree_sum(high)
        }
    }
}

/// Whether no element is infinite or NaN.
pub fn all_finite(x: &[f32]) -> bool {
    // Whole blocks without an early exit are vector code; the exit between blocks stops early on bad data.
    x.chunks(SUM_BLOCK).all(|block| block.iter().fold(true, |ok, v| ok & v.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_neighbours() {
        assert_eq!(tree_sum(&[]), 0.0);
        assert_eq!(tree_sum(&[1e16, 1.0, -1e16, 1.0, 3.0]), (1e16 + 1.0) + (-1e16 + 1.0) + 3.0);
    }

    #[test]
    fn finds_what_is_not_finite() {
        let mut x = vec![1.0; 10_000];
        assert!(all_finite(&x));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            x[9_999] = bad;
            assert!(!all_finite(&x));
        }
        assert!(all_finite(&[]));
    }
}
