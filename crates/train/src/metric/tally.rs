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

    /// The numbers of the newest batch.
    ///
    /// # Panics
    /// When there is none.
    pub fn last(&mut self) -> &mut [f64] {
        let start = self.numbers.len() - self.width;
        &mut self.numbers[start..]
    }

    /// The numbers of each batch.
    pub fn batches(&self) -> impl Iterator<Item = &[f64]> {
        self.numbers.chunks_exact(self.width.max(1))
    }

    /// All numbers, batch by batch.
    pub fn numbers(&self) -> &[f64] {
        &self.numbers
    }

    /// Becomes what several say to be their [`Tally::numbers`], one after the other; nothing if they are no whole batches.
    pub fn merge(&mut self, all: &[Vec<f64>]) -> Option<()> {
        self.numbers.clear();
        let whole = |numbers: &Vec<f64>| numbers.len().is_multiple_of(self.width.max(1));
        all.iter().all(whole).then(|| all.iter().for_each(|numbers| self.numbers.extend(numbers)))
    }

    /// The sum of each number over all batches.
    pub fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for batch in self.batches() {
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
            let parts = [&batches[..cut], &batches[cut..]].map(|part| tally(part).numbers().to_vec());
            let mut all = tally(&batches[..3]);
            all.merge(&parts).unwrap();
            assert_eq!(all.sums(), whole.sums());
        }
        assert_eq!(tally(&[]).sums(), [0.0; 3]);
        assert_eq!(tally(&[]).merge(&[vec![1.0; 4]]), None, "no whole number of batches");
    }
}
