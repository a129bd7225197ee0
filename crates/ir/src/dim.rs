//! Dimensions: an integer, or an integer multiple of a product of symbols, which stand for extents that are bound when a
//! graph is compiled: B for the batch size, T for the length of a sequence, or any other capital letter.

use std::collections::BTreeMap;
use std::fmt;

/// An extent that is bound later, named by a capital letter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(u8);

impl Symbol {
    /// The batch size.
    pub const BATCH: Self = Self(b'B');
    /// The length of a sequence.
    pub const LENGTH: Self = Self(b'T');

    /// The symbol of this letter, from A to Z.
    pub fn new(letter: char) -> Option<Self> {
        u8::try_from(letter).ok().filter(u8::is_ascii_uppercase).map(Self)
    }

    /// Its letter.
    pub fn letter(self) -> char {
        self.0.into()
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// Most factors in a product of symbols.
const FACTORS_MAX: usize = 7;

/// A product of symbols; each as often as it is a factor, in alphabetical order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbols([u8; FACTORS_MAX]);

impl Symbols {
    /// The product of no symbols.
    pub const NONE: Self = Self([0; FACTORS_MAX]);

    /// The product of these symbols, unless they are too many.
    pub fn product(factors: impl IntoIterator<Item = Symbol>) -> Option<Self> {
        let mut product = Self::NONE;
        for (n, Symbol(letter)) in factors.into_iter().enumerate() {
            *product.0.get_mut(n)? = letter;
        }
        let count = product.factors().count();
        product.0[..count].sort_unstable();
        Some(product)
    }

    /// Its factors.
    pub fn factors(self) -> impl Iterator<Item = Symbol> {
        self.0.into_iter().take_while(|letter| *letter != 0).map(Symbol)
    }

    /// Whether it is the product of none.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// The product of both, unless it has too many factors.
    pub fn times(self, other: Self) -> Option<Self> {
        Self::product(self.factors().chain(other.factors()))
    }

    /// What is left when the factors of `other` are taken out, unless they are not all there.
    pub fn over(self, other: Self) -> Option<Self> {
        let mut left: Vec<Symbol> = self.factors().collect();
        for factor in other.factors() {
            left.swap_remove(left.iter().position(|own| *own == factor)?);
        }
        Self::product(left)
    }
}

impl From<Symbol> for Symbols {
    fn from(Symbol(letter): Symbol) -> Self {
        let mut product = Self::NONE;
        product.0[0] = letter;
        product
    }
}

impl fmt::Debug for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Symbols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.factors().try_for_each(|factor| factor.fmt(f))
    }
}

/// What symbols stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sizes(BTreeMap<Symbol, usize>);

impl Sizes {
    /// The same with one symbol bound, to at least 1.
    #[must_use]
    pub fn with(mut self, symbol: Symbol, extent: usize) -> Self {
        self.0.insert(symbol, extent.max(1));
        self
    }

    /// What a symbol stands for.
    pub fn get(&self, symbol: Symbol) -> Option<usize> {
        self.0.get(&symbol).copied()
    }

    /// Binds the symbols that are not bound yet so that `dims` are `extents`; says whether that can be done. A dimension
    /// with several unbound factors binds none of them.
    pub fn fit(&mut self, dims: &[Dim], extents: &[usize]) -> bool {
        for (dim, extent) in dims.iter().zip(extents) {
            let (times, open) = dim.bind(self).parts();
            let mut factors = open.factors();
            if let (Some(symbol), None) = (factors.next(), factors.next()) {
                self.0.insert(symbol, (extent / times).max(1));
            }
        }
        let bound = dims.iter().map(|dim| dim.bind(self).fixed());
        bound.eq(extents.iter().copied().map(Some))
    }
}

/// A number alone is the batch size.
impl From<usize> for Sizes {
    fn from(batch: usize) -> Self {
        Self::default().with(Symbol::BATCH, batch)
    }
}

impl From<&Sizes> for Sizes {
    fn from(sizes: &Sizes) -> Self {
        sizes.clone()
    }
}

/// The extent of one dimension of a value in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A known extent.
    Fixed(usize),
    /// So many times a product of symbols; never zero times, nor of none.
    Symbolic(Symbols, usize),
}

impl Dim {
    /// The symbolic batch size itself.
    pub const B: Self = Self::symbol(Symbol::BATCH);
    /// The symbolic length of a sequence.
    pub const T: Self = Self::symbol(Symbol::LENGTH);

    /// A symbol itself.
    pub const fn symbol(Symbol(letter): Symbol) -> Self {
        let mut product = [0; FACTORS_MAX];
        product[0] = letter;
        Self::Symbolic(Symbols(product), 1)
    }

    /// So many times a product of symbols.
    pub fn multiple(times: usize, symbols: Symbols) -> Self {
        if times == 0 || symbols.is_none() { Self::Fixed(times) } else { Self::Symbolic(symbols, times) }
    }

    /// The number and the symbols of which it is the product.
    pub fn parts(self) -> (usize, Symbols) {
        match self {
            Self::Fixed(n) => (n, Symbols::NONE),
            Self::Symbolic(symbols, times) => (times, symbols),
        }
    }

    /// The same with these symbols bound; saturating.
    #[must_use]
    pub fn bind(self, sizes: &Sizes) -> Self {
        let (mut times, symbols) = self.parts();
        let open = symbols.factors().filter(|symbol| {
            let extent = sizes.get(*symbol);
            times = times.saturating_mul(extent.unwrap_or(1));
            extent.is_none()
        });
        let open = Symbols::product(open).unwrap_or_default();
        Self::multiple(times, open)
    }

    /// The extent where every symbol is 1.
    pub fn unit(self) -> usize {
        self.parts().0
    }

    /// The extent, when it depends on no symbol.
    pub fn fixed(self) -> Option<usize> {
        match self {
            Self::Fixed(n) => Some(n),
            Self::Symbolic(..) => None,
        }
    }

    /// The product of two dimensions, unless it overflows or has too many symbols.
    pub fn times(self, other: Self) -> Option<Self> {
        let ((m, own), (n, others)) = (self.parts(), other.parts());
        if m == 0 || n == 0 {
            return Some(Self::Fixed(0));
        }
        Some(Self::multiple(m.checked_mul(n)?, own.times(others)?))
    }

    /// The product of dimensions, or nothing on overflow.
    pub fn product(dims: &[Self]) -> Option<Self> {
        dims.iter().try_fold(Self::Fixed(1), |product, dim| product.times(*dim))
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::Fixed(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Symbolic(symbols, 1) => symbols.fmt(f),
            Self::Symbolic(symbols, times) => write!(f, "{times}{symbols}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Symbol = Symbol(b'S');

    #[test]
    fn products_bind_symbol_by_symbol() {
        let (b, t) = (Dim::B, Dim::T);
        let tokens = Dim::product(&[b, t, Dim::Fixed(6)]).unwrap();
        assert_eq!(tokens.to_string(), "6BT");
        assert_eq!(tokens, Dim::product(&[t, Dim::Fixed(3), b, Dim::Fixed(2)]).unwrap());
        let sizes = Sizes::from(5);
        assert_eq!(tokens.bind(&sizes).to_string(), "30T");
        assert_eq!(tokens.bind(&sizes.with(Symbol::LENGTH, 7)), Dim::Fixed(210));
        assert_eq!((tokens.unit(), tokens.fixed(), b.times(Dim::Fixed(0))), (6, None, Some(Dim::Fixed(0))));
        assert_eq!(Dim::product(&[t; 7]).unwrap().to_string(), "TTTTTTT");
        assert_eq!(Dim::product(&[t; 8]), None);
        assert_eq!(Dim::Fixed(usize::MAX).times(Dim::multiple(2, t.parts().1)), None);
        let (square, single) = (t.times(t).unwrap().parts().1, Symbols::from(Symbol::LENGTH));
        assert_eq!((square.over(single), single.over(square)), (Some(single), None));
    }

    #[test]
    fn sizes_are_found_from_shapes() {
        let dims = [Dim::B, Dim::multiple(2, Symbols::from(S)), Dim::Fixed(3)];
        let mut sizes = Sizes::default();
        assert!(sizes.fit(&dims, &[4, 10, 3]));
        assert_eq!((sizes.get(Symbol::BATCH), sizes.get(S)), (Some(4), Some(5)));
        assert!(sizes.fit(&[Dim::B.times(Dim::symbol(S)).unwrap()], &[20]));
        for wrong in [&[5, 10, 3][..], &[4, 10, 2], &[4, 10], &[4, 12, 3]] {
            assert!(!sizes.clone().fit(&dims, wrong), "{wrong:?}");
        }
        for wrong in [&[4, 11, 3][..], &[4, 0, 3]] {
            assert!(!Sizes::from(4).fit(&dims, wrong), "{wrong:?}");
        }
    }
}
