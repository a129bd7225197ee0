//! Mean and spread of numbers, by updates that stay exact where the mean is far larger than the spread (Chan, Golub and
//! LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).

/// How many numbers there are, their mean, and the sum of the squares of what they differ from it by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many.
    pub count: f64,
    /// Their mean.
    pub mean: f64,
    /// The sum of squares.
    pub squares: f64,
}

impl Moments {
    /// Adds a number.
    pub fn add(&mut self, value: f64) {
        self.merge(&Self { count: 1.0, mean: value, squares: 0.0 });
    }

    /// Adds what another has seen after this one.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        self.mean += apart * (other.count / count);
        self.squares += other.squares + apart * apart * (self.count * other.count / count);
        self.count = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_moments_of_the_whole() {
        // A mean that is far larger than the spread.
        let numbers: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 7)).collect();
        let of = |numbers: &[f64]| {
            let mut moments = Moments::default();
            numbers.iter().for_each(|x| moments.add(*x));
            moments
        };
        let whole = of(&numbers);
        let mean = numbers.iter().map(|x| x - 1e9).sum::<f64>() / 1000.0;
        let squares: f64 = numbers.iter().map(|x| (x - 1e9 - mean).powi(2)).sum();
        assert!(
            (whole.mean - 1e9 - mean).abs() < 1e-6 && (whole.squares / squares - 1.0).abs() < 1e-6,
            "{whole:?}"
        );
        let mut parts = of(&numbers[..300]);
        parts.merge(&of(&[]));
        parts.merge(&of(&numbers[300..]));
        assert!((parts.squares / squares - 1.0).abs() < 1e-6 && parts.count == 1000.0, "{parts:?}");
    }
}
