//! Regions: composites that keep what they were built as, so that a backend can run one as a whole. A region says which
//! composite it is, with its attributes, and what it makes of which values; the nodes marked with it are one way to do so.

use crate::ops::Window;
use crate::{Attr, AttrReader, Builder, Graph, Value, nn};
use std::sync::Arc;

/// The number of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u32);

/// A composite that was built from primitives.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Which composite: the name of a file in `nn`, as `softmax`.
    pub kind: String,
    /// Its attributes, by their names.
    pub attrs: Vec<(String, Attr)>,
    /// What it is made of, in the composite's own order.
    pub operands: Vec<Value>,
    /// What it makes of them. After simplification, a result may stand before an operand.
    pub results: Vec<Value>,
    /// Where it comes from.
    pub origin: Arc<str>,
    /// The region around it.
    pub parent: Option<RegionId>,
}

/// The attributes of one kind of composite.
pub trait Composite: Sized {
    /// The kind.
    const KIND: &'static str;

    /// The attributes as the text form has them.
    fn attrs(&self) -> Vec<(&'static str, Attr)>;

    /// Reads them back.
    ///
    /// # Errors
    /// A sentence on what is missing or wrong.
    fn parse(attrs: &mut AttrReader) -> Result<Self, String>;
}

/// An attribute of a composite, by the name of its field.
pub(crate) trait Attribute: Sized {
    fn write(&self, name: &'static str, attrs: &mut Vec<(&'static str, Attr)>);
    fn read(name: &str, attrs: &mut AttrReader) -> Result<Self, String>;
}

macro_rules! attributes {
    ($($ty:ty, $from:expr, $read:ident;)*) => {
        $(impl Attribute for $ty {
            fn write(&self, name: &'static str, attrs: &mut Vec<(&'static str, Attr)>) {
                attrs.push((name, $from(*self)));
            }
            fn read(name: &str, attrs: &mut AttrReader) -> Result<Self, String> {
                attrs.$read(name)
            }
        })*
    };
}

attributes! {
    usize, Attr::int, int;
    f64, Attr::Float, number;
    bool, Attr::flag, flag;
    [usize; 2], |pair: [usize; 2]| Attr::list(&pair), array;
}

/// A window has names of its own.
impl Attribute for Window {
    fn write(&self, _: &'static str, attrs: &mut Vec<(&'static str, Attr)>) {
        attrs.extend(self.attrs());
    }
    fn read(_: &str, attrs: &mut AttrReader) -> Result<Self, String> {
        Self::parse(attrs)
    }
}

/// Declares the attributes of a kind of composite.
macro_rules! composite {
    (
        $(#[$doc:meta])*
        $name:ident = $kind:literal { $($(#[$about:meta])* $field:ident: $ty:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$about])* pub $field: $ty,)*
        }

        impl $crate::Composite for $name {
            const KIND: &'static str = $kind;
            fn attrs(&self) -> Vec<(&'static str, $crate::Attr)> {
                let mut attrs = Vec::new();
                $($crate::region::Attribute::write(&self.$field, stringify!($field), &mut attrs);)*
                attrs
            }
            fn parse(attrs: &mut $crate::AttrReader) -> Result<Self, String> {
                Ok(Self { $($field: $crate::region::Attribute::read(stringify!($field), attrs)?,)* })
            }
        }
    };
}
pub(crate) use composite;

/// What a composite makes.
pub trait Results {
    /// Its values, in the composite's own order.
    fn values(&self) -> Vec<Value>;
}

impl Results for Value {
    fn values(&self) -> Vec<Value> {
        vec![*self]
    }
}

impl Region {
    /// The attributes of a composite, if it is one of that kind.
    ///
    /// # Errors
    /// A sentence on what is missing or wrong.
    pub fn as_kind<C: Composite>(&self) -> Option<Result<C, String>> {
        (self.kind == C::KIND).then(|| {
            let mut attrs = AttrReader::new(self.attrs.clone());
            let composite = C::parse(&mut attrs)?;
            attrs.finish()?;
            Ok(composite)
        })
    }

    /// Whether it has the attributes of its kind; a kind that is not known may have any.
    pub(crate) fn check(&self) -> Result<(), String> {
        nn::TYPED.iter().find_map(|check| check(self)).unwrap_or(Ok(()))
    }
}

impl Graph {
    /// Every composite of a kind, with its attributes.
    pub fn composites<C: Composite>(&self) -> impl Iterator<Item = (C, &Region)> {
        self.regions.iter().filter_map(|region| Some((region.as_kind::<C>()?.ok()?, region)))
    }
}

impl Builder {
    /// Runs `build` with its nodes marked as one composite of this kind, made of `operands`.
    pub fn composite<T: Results>(
        &mut self,
        kind: &str,
        operands: &[Value],
        build: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.region(kind, Vec::new(), operands, build)
    }

    /// The same with attributes.
    pub fn composite_of<C: Composite, T: Results>(
        &mut self,
        composite: &C,
        operands: &[Value],
        build: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let attrs = composite.attrs().into_iter().map(|(name, attr)| (name.to_owned(), attr));
        self.region(C::KIND, attrs.collect(), operands, build)
    }
}
