//! Least squares of a few unknown numbers that cannot be negative.

/// The `x` for which the sum of `((a · x - b) / b)²` over the rows `(a, b)` is the least, with no number below zero: one
/// that would be is taken for zero, and the others are found anew. What the rows say nothing about is zero.
pub fn least_squares<const N: usize>(rows: &[([f64; N], f64)]) -> [f64; N] {
    let mut used = [true; N];
    loop {
        let found = solve(rows, used);
        let lowest = (0..N).filter(|i| used[*i]).min_by(|a, b| found[*a].total_cmp(&found[*b]));
        match lowest {
            Some(i) if found[i] < 0.0 => used[i] = false,
            _ => return found,
        }
    }
}

/// The same without a bound, with the numbers that are not used at zero: the normal equations, by elimination.
fn solve<const N: usize>(rows: &[([f64; N], f64)], used: [bool; N]) -> [f64; N] {
    // The numbers differ by many orders of magnitude: in units of their own they do not.
    let mut unit = [0.0f64; N];
    let rows = rows.iter().filter(|(_, b)| *b > 0.0);
    for (a, b) in rows.clone() {
        (0..N).for_each(|i| unit[i] = unit[i].max((a[i] / b).abs()));
    }
    let used: Vec<usize> = (0..N).filter(|i| used[*i] && unit[*i] > 0.0).collect();
    let n = used.len();
    // The last column is the right side.
    let mut matrix = vec![vec![0.0; n + 1]; n];
    for (a, b) in rows {
        let scaled: Vec<f64> = used.iter().map(|i| a[*i] / b / unit[*i]).chain([1.0]).collect();
        for (line, left) in matrix.iter_mut().zip(&scaled) {
            line.iter_mut().zip(&scaled).for_each(|(sum, right)| *sum += left * right);
        }
    }
    for column in 0..n {
        let pivot = (column..n).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()));
        matrix.swap(column, pivot.unwrap_or(column));
        let line = matrix[column].clone();
        if line[column].abs() < 1e-14 {
            continue;
        }
        for (_, other) in matrix.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = other[column] / line[column];
            other.iter_mut().zip(&line).for_each(|(x, y)| *x -= factor * y);
        }
    }
    let mut found = [0.0; N];
    for (line, (row, i)) in used.iter().enumerate().map(|(row, i)| (&matrix[row], (row, *i))) {
        if line[row].abs() >= 1e-14 {
            found[i] = line[n] / line[row] / unit[i];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_through_points_of_all_sizes() {
        let rows: Vec<_> = [8.0, 1e3, 1e5, 1e8].map(|m| ([1.0, m], 1e-6 + m * 2e-10)).to_vec();
        let [constant, slope] = least_squares(&rows);
        assert!((constant / 1e-6 - 1.0).abs() < 1e-9 && (slope / 2e-10 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_negative_and_errors_are_relative() {
        // The best line would begin below zero.
        let [constant, slope] = least_squares(&[([1.0, 1.0], 1.0), ([1.0, 2.0], 3.0)]);
        assert_eq!(constant, 0.0);
        // The minimum of (s - 1)² + (2 s / 3 - 1)².
        assert!((slope - 15.0 / 13.0).abs() < 1e-12, "{slope}");
        assert_eq!(least_squares(&[([1.0, 0.0], 2.0)]), [2.0, 0.0]);
        assert_eq!(least_squares::<3>(&[]), [0.0; 3]);
    }
}
