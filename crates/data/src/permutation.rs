//! Pseudo-random permutations that are computed place by place: no list of indexes is kept or shuffled, so any
//! position of any epoch is reached in constant time and memory.

use outgrow_tensor::RngKey;

/// A permutation of `0..n`: a Feistel network over the next power of two, walked until it falls below `n` (Black and
/// Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002, "cycle-walking").
#[derive(Clone, Debug)]
pub struct Permutation {
    n: u64,
    /// Bits of the left and of the right half; the left has one more when their sum is odd.
    bits: [u32; 2],
    keys: [u64; ROUNDS],
}

/// Four rounds are a pseudo-random permutation against chosen plaintexts (Luby and Rackoff, 1988) with ideal round
/// functions; two more make up for short halves. It must be even, so that halves of unequal length return to their
/// places.
const ROUNDS: usize = 6;

impl Permutation {
    /// The permutation of `0..n` under this key.
    pub fn new(key: RngKey, n: u64) -> Self {
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut stream = key.stream();
        Self { n, bits: [bits.div_ceil(2), bits / 2], keys: std::array::from_fn(|_| stream.next_u64()) }
    }

    /// Where position `i` leads; `i` must be below `n`.
    pub fn at(&self, i: u64) -> u64 {
        debug_assert!(i < self.n);
        let mut x = i;
        // The network maps a set of fewer than 2n values onto itself, and the walk stays on the cycle that `i` lies
        // on; it therefore ends, on average after fewer than two steps.
        loop {
            x = self.network(x);
            if x < self.n {
                return x;
            }
        }
    }

    fn network(&self, x: u64) -> u64 {
        let [mut left_bits, mut right_bits] = self.bits;
        let mut left = x >> right_bits;
        let mut right = x & mask(right_bits);
        for key in self.keys {
            let mixed = (left ^ mix(right ^ key)) & mask(left_bits);
            (left, right) = (right, mixed);
            (left_bits, right_bits) = (right_bits, left_bits);
        }
        left << right_bits | right
    }
}

const fn mask(bits: u32) -> u64 {
    (1u64 << bits) - 1
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_reached_once() {
        for n in [1u64, 2, 3, 5, 8, 31, 32, 33, 1000, 4096, 60_000] {
            let permutation = Permutation::new(RngKey::new(n), n);
            let mut seen = vec![false; n as usize];
            for i in 0..n {
                let at = permutation.at(i) as usize;
                assert!(!seen[at], "{n}: {at} twice");
                seen[at] = true;
            }
        }
    }

    /// Over many keys, every element must come first about equally often, and neighbours must not stay together.
    #[test]
    fn orders_look_random() {
        let n = 10;
        let (mut first, mut neighbours) = ([0i32; 10], 0);
        for key in 0..20_000 {
            let permutation = Permutation::new(RngKey::new(7).fold_in(key), n);
            first[permutation.at(0) as usize] += 1;
            neighbours += (1..n).filter(|i| permutation.at(*i) == permutation.at(i - 1) + 1).count();
        }
        // 2000 expected, standard deviation 42; a random order keeps (n-1)/n = 0.9 of them together on average.
        assert!(first.iter().all(|count| (count - 2000).abs() < 220), "{first:?}");
        assert!((neighbours as f64 / 20_000.0 - 0.9).abs() < 0.05, "{neighbours}");
    }
}
