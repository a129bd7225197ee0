//! Named tensors of one element type side by side in one flat vector: parameters, gradients and optimiser state are
//! kept this way, so that an update is one sweep and a norm is a sum over fixed blocks. A flat vector can be cut
//! between these blocks into ranges that are worked on, kept and summed apart, with the bits of the whole.

use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_kernels::SUM_BLOCK;
use outgrow_runtime::collective::runs;
use outgrow_tensor::{DType, Element, Shape, Tensor};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

/// Every tensor begins at a multiple of this many elements: of f32, a cache line.
const ALIGN: usize = 16;

/// One tensor of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its extents.
    pub dims: Vec<usize>,
    /// Its first element in the flat vector.
    pub offset: usize,
    /// Its number of elements.
    pub elements: usize,
}

/// Where named tensors lie in a flat vector of one element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    dtype: DType,
    entries: Vec<Entry>,
    total: usize,
}

impl Layout {
    /// A layout of tensors of `dtype` with these names and extents, in order.
    pub fn new<'a>(dtype: DType, tensors: impl IntoIterator<Item = (&'a str, &'a [usize])>) -> Self {
        let mut layout = Self { dtype, entries: Vec::new(), total: 0 };
        for (name, dims) in tensors {
            let elements = dims.iter().product();
            layout.entries.push(Entry {
                name: name.into(),
                dims: dims.to_vec(),
                offset: layout.total,
                elements,
            });
            layout.total = layout.total.saturating_add(elements.next_multiple_of(ALIGN));
        }
        layout
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The tensors, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The first element of each tensor, by its name.
    pub fn offsets(&self) -> HashMap<&str, usize> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.offset)).collect()
    }

    /// Elements of the flat vector, with the gaps between tensors.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes of the flat vector.
    pub fn bytes(&self) -> u64 {
        (self.total as u64).saturating_mul(self.dtype.bytes() as u64)
    }

    /// The elements of tensor `i`.
    pub fn slice<'a, T: Element>(&self, i: usize, flat: &'a [T]) -> &'a [T] {
        assert_eq!(T::DTYPE, self.dtype, "invariant: a flat vector has its layout's type");
        let entry = &self.entries[i];
        &flat[entry.offset..entry.offset + entry.elements]
    }

    /// The flat vector cut into `parts` ranges of elements, one after the other, that differ by a block of
    /// [`SUM_BLOCK`] elements at most. All but the last end where a block does, so that sums over blocks are those of
    /// the whole vector; where there are fewer blocks than parts, the last ranges are empty.
    pub fn ranges(&self, parts: usize) -> Vec<Range<usize>> {
        block_ranges(self.total, parts)
    }

    /// Which elements of which tensors lie in a range of the flat vector: numbers of tensors, and of their elements.
    pub fn within(&self, range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let first = self.entries.partition_point(|e| e.offset + e.elements <= range.start);
        let reached = self.entries[first..].iter().take_while(move |e| e.offset < range.end);
        reached.enumerate().filter_map(move |(i, entry)| {
            let low = range.start.saturating_sub(entry.offset);
            let high = (range.end - entry.offset).min(entry.elements);
            (low < high).then_some((first + i, low..high))
        })
    }

    /// Checks that tensors of these names, types and extents are those of the layout: every one there, and no other.
    ///
    /// # Errors
    /// A diagnostic for each that is missing, unknown, or of another type or extents.
    pub fn check<'a>(
        &self,
        tensors: impl IntoIterator<Item = (&'a str, DType, &'a Shape)>,
    ) -> Result<(), Diagnostics> {
        let tensors: BTreeMap<&str, (DType, &Shape)> =
            tensors.into_iter().map(|(name, dtype, shape)| (name, (dtype, shape))).collect();
        let mut found = Diagnostics::default();
        for entry in &self.entries {
            match tensors.get(entry.name.as_str()) {
                None => found.push(
                    Diagnostic::new("weights.missing", format!("there is no tensor `{}`", entry.name))
                        .hint("the weights are of another model"),
                ),
                Some((dtype, shape)) if *dtype == self.dtype && shape.dims() == entry.dims => {}
                Some((dtype, shape)) => {
                    let problem = format!("tensor `{}` is {dtype}{shape}", entry.name);
                    let expected = format!("{}{:?}", self.dtype, entry.dims);
                    found.push(Diagnostic::new("weights.shape", problem).expected(expected));
                }
            }
        }
        let names: HashSet<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
        for name in tensors.keys().filter(|name| !names.contains(*name)) {
            let problem = format!("the model has no tensor `{name}`");
            found.push(Diagnostic::new("weights.unknown", problem).hint("the weights are of another model"));
        }
        found.into_result(())
    }
}

/// What tensors are, for [`Layout::check`].
pub(crate) fn kinds(tensors: &BTreeMap<String, Tensor>) -> impl Iterator<Item = (&str, DType, &Shape)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dtype(), tensor.shape()))
}

/// How many blocks of [`SUM_BLOCK`] elements a vector has, the last of which may be shorter.
pub(crate) fn blocks(elements: usize) -> usize {
    elements.div_ceil(SUM_BLOCK)
}

/// The blocks of [`SUM_BLOCK`] elements of a flat vector cut into so many runs, as ranges of its elements.
pub(crate) fn block_ranges(elements: usize, parts: usize) -> Vec<Range<usize>> {
    let element = |block: usize| block.saturating_mul(SUM_BLOCK).min(elements);
    let runs = runs(blocks(elements), parts);
    runs.map(|blocks| element(blocks.start)..element(blocks.end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_tensor::RngKey;

    fn layout() -> Layout {
        Layout::new(DType::F32, [("a", &[3usize][..]), ("b", &[2, 10]), ("c", &[])])
    }

    #[test]
    fn tensors_begin_at_cache_lines() {
        let layout = layout();
        assert_eq!((layout.total(), layout.bytes()), (16 + 32 + 16, 4 * 64));
        let flat: Vec<f32> = (0..64).map(|i| i as f32).collect();
        assert_eq!(layout.slice(1, &flat), &flat[16..36]);
        assert_eq!(Layout::new(DType::BF16, [("a", &[3usize][..])]).bytes(), 32);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let tensor = |dims: &[usize]| Tensor::zeros(DType::F32, dims.to_vec());
        let named =
            |tensors: [(&str, Tensor); 3]| BTreeMap::from(tensors.map(|(name, t)| (name.to_owned(), t)));
        let fits = named([("a", tensor(&[3])), ("b", tensor(&[2, 10])), ("c", tensor(&[]))]);
        assert!(layout().check(kinds(&fits)).is_ok());
        let wrong = named([("b", tensor(&[1])), ("c", Tensor::scalar(1.0f64)), ("d", tensor(&[1]))]);
        let text = layout().check(kinds(&wrong)).unwrap_err().to_string();
        for expected in ["no tensor `a`", "`b` is f32[1]", "f32[2, 10]", "`c` is f64", "no tensor `d`"] {
            assert!(text.contains(expected), "{text}");
        }
    }

    /// Layouts of few and many, tiny and large tensors.
    fn layouts() -> Vec<Layout> {
        let mut random = RngKey::new(4).stream();
        let mut layouts = vec![Layout::new(DType::F32, []), layout()];
        for most in [20, 5_000, 50_000] {
            let dims: Vec<[usize; 1]> = (0..9).map(|_| [random.below(most) as usize]).collect();
            layouts.push(Layout::new(DType::F32, dims.iter().map(|d| ("x", d.as_slice()))));
        }
        layouts
    }

    #[test]
    fn ranges_cover_the_vector_and_are_cut_between_blocks() {
        for layout in layouts() {
            for parts in [1, 2, 3, 7, 64] {
                let ranges = layout.ranges(parts);
                assert_eq!(ranges.len(), parts);
                assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, layout.total()));
                assert!(ranges.windows(2).all(|two| two[0].end == two[1].start));
                let inner = ranges[..parts - 1].iter().map(|range| range.end);
                assert!(inner.clone().all(|end| end % SUM_BLOCK == 0 || end == layout.total()));
                let blocks: Vec<usize> = ranges.iter().map(|range| range.len().div_ceil(SUM_BLOCK)).collect();
                assert!(blocks.iter().max().unwrap() - blocks.iter().min().unwrap() <= 1, "{blocks:?}");
                // Each element of each tensor lies in one range, in order.
                let mut seen = vec![0; layout.entries().len()];
                for (i, elements) in ranges.iter().flat_map(|range| layout.within(range.clone())) {
                    assert_eq!(elements.start, seen[i], "of tensor {i}");
                    seen[i] = elements.end;
                }
                let all: Vec<usize> = layout.entries().iter().map(|e| e.elements).collect();
                assert_eq!(seen, all);
            }
        }
    }
}
