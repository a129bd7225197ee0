//! Sums over a pass over data that several workers may share.

/// Numbers of each batch, which are added up at the end and in the order of the batches only: so sums have the same bits
/// whoever has seen which batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    width: usize,
    /// `[batch, number]` in row-major order.
    numbers: Vec<f64>,
}

impl Tally {
    /// No batches yet, of so many numbers each.
    pub fn new(width: usize) -> Self {
        Self { width, numbers: Vec::new() }
    }

    /// The numbers of one more batch, to be filled in: zeros.
    pub fn batch(&mut self) -> &mut [f64] {
        let start = self.numbers.len();
        self.numbers.resize(start + self.width, 0.0);
        &mut self.numbers[start..]
    }

    /// All numbers, batch by batch.
    pub fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    /// Forgets all batches.
    pub fn clear(&mut self) {
        self.numbers.clear();
    }

    /// What somebody else has said to be [`Tally::numbers`] of the batches that come next; nothing if they are none.
    pub fn extend(&mut self, numbers: &[f64]) -> Option<()> {
        let whole = self.width > 0 && numbers.len().is_multiple_of(self.width);
        whole.then(|| self.numbers.extend_from_slice(numbers))
    }

    /// The sum of each number over all batches.
    pub fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for batch in self.numbers.chunks_exact(self.width.max(1)) {
            sums.iter_mut().zip(batch).for_each(|(sum, number)| *sum += number);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    #[test]
    fn sums_do_not_depend_on_who_has_seen_which_batches() {
        let mut random = RngKey::new(3).stream();
        let batches: Vec<[f64; 3]> = (0..50).map(|_| [(); 3].map(|()| random.normal())).collect();
        let tally = |batches: &[[f64; 3]]| {
            let mut tally = Tally::new(3);
            batches.iter().for_each(|numbers| tally.batch().copy_from_slice(numbers));
            tally
        };
        let whole = tally(&batches);
        for cut in [0, 1, 20, 50] {
            let mut all = tally(&batches[..cut]);
            all.extend(tally(&batches[cut..]).numbers()).unwrap();
            assert_eq!(all.sums(), whole.sums());
        }
        assert_eq!(tally(&[]).sums(), [0.0; 3]);
        assert_eq!(tally(&[]).extend(&[1.0; 4]), None, "no whole number of batches");
    }
}
