//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011). A key names a stream; every position of it can be computed on its own, so results depend neither on
//! the order of evaluation nor on the number of threads or workers.

/// The key of a random stream. Keys are derived from each other by folding in numbers or names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RngKey(u64);

const MUL: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten rounds of Philox4x32.
#[inline]
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MUL[0]) * u64::from(counter[0]);
        let b = u64::from(MUL[1]) * u64::from(counter[2]);
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

impl RngKey {
    /// The key that starts from a user's seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The key's bits, from which [`RngKey::new`] makes the same key again.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A key that differs for every `(self, data)`.
    pub fn fold_in(self, data: u64) -> Self {
        let r = philox([data as u32, (data >> 32) as u32, 0x6b65_7966, 1], self.halves());
        Self(u64::from(r[0]) | u64::from(r[1]) << 32)
    }

    /// A key that differs for every `(self, name)`.
    pub fn fold_in_name(self, name: &str) -> Self {
        // FNV-1a turns the name into a number; the length is folded in by `fold_in`'s own mixing.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.fold_in(hash)
    }

    /// The four words at position `counter` of the stream.
    #[inline]
    pub fn block(self, counter: u64) -> [u32; 4] {
        philox([counter as u32, (counter >> 32) as u32, 0, 0], self.halves())
    }

    /// The uniform number in `[0, 1)` at position `i`: 24 random bits.
    #[inline]
    pub fn uniform_at(self, i: u64) -> f32 {
        (self.block(i / 4)[(i % 4) as usize] >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A sequential reader of the stream, from its start.
    pub fn stream(self) -> RngStream {
        RngStream { key: self, position: 0, block: [0; 4] }
    }

    const fn halves(self) -> [u32; 2] {
        [self.0 as u32, (self.0 >> 32) as u32]
    }
}

/// Reads a random stream from its start, one number after the other.
#[derive(Clone, Debug)]
pub struct RngStream {
    key: RngKey,
    position: u64,
    block: [u32; 4],
}

impl RngStream {
    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        let lane = (self.position % 4) as usize;
        if lane == 0 {
            self.block = self.key.block(self.position / 4);
        }
        self.position += 1;
        self.block[lane]
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        u64::from(self.next_u32()) | u64::from(self.next_u32()) << 32
    }

    /// A number below `n`, without bias (Lemire, "Fast random integer generation in an interval", 2019).
    /// `n` must not be zero.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a random number below zero was asked for");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= n.wrapping_neg() % n {
                return (product >> 64) as u64;
            }
        }
    }

    /// A uniform number in `[0, 1)` with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    /// A uniform number in `[low, high)`.
    pub fn uniform_in(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A normal number of mean 0 and variance 1 (Box and Muller; the second of each pair is not used, so that the
    /// stream has no hidden state).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the Random123 distribution's `kat_vectors`.
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn moments_and_bounds() {
        let mut stream = RngKey::new(7).fold_in_name("test").stream();
        let n = 100_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..n {
            let x = stream.normal();
            sum += x;
            squares += x * x;
            assert!((0.0..1.0).contains(&stream.uniform()));
            assert!(stream.below(3) < 3);
        }
        assert!((sum / n as f64).abs() < 0.02);
        assert!((squares / n as f64 - 1.0).abs() < 0.03);
    }

    #[test]
    fn keys_differ() {
        let key = RngKey::new(1);
        assert_ne!(key.fold_in(1), key.fold_in(2));
        assert_ne!(key.fold_in_name("a"), key.fold_in_name("b"));
        assert_eq!(key.uniform_at(5), (key.block(1)[1] >> 8) as f32 / 16_777_216.0);
    }
}
