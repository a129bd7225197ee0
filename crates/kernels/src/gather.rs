//! Rows of a table by index, and the sums of rows by index that are its gradient.

use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel};
use crate::number::{Bits16, Factor};
use crate::view::View;
use outgrow_tensor::DType;
use std::ops::Range;

/// Walks the indices in row-major order.
struct Indices<'a> {
    view: &'a View,
    origin: *const u8,
}

impl<'a> Indices<'a> {
    fn new(cx: &Cx<'_>, view: &'a View) -> Self {
        Self { view, origin: cx.origin(view) }
    }

    /// Index number `flat`.
    fn get(&self, flat: usize) -> i64 {
        let offset = offset(flat, &self.view.dims, &self.view.strides);
        // SAFETY: `flat` is below the number of elements of the view, which was checked.
        unsafe {
            match self.view.dtype {
                DType::I32 => i64::from(*self.origin.cast::<i32>().offset(offset)),
                _ => *self.origin.cast::<i64>().offset(offset),
            }
        }
    }

    /// Whether all indices are below `rows`; the first that is not becomes the run's error.
    fn check(&self, cx: &Cx<'_>, rows: usize) -> bool {
        let bad = (0..self.view.elements())
            .map(|i| (i, self.get(i)))
            .find(|&(_, v)| v < 0 || v as u64 >= rows as u64);
        if let Some((position, value)) = bad {
            cx.fault.raise(position, value, rows);
        }
        bad.is_none()
    }
}

/// Elements from the origin to flat position `flat` in row-major order over `dims`.
fn offset(mut flat: usize, dims: &[usize], strides: &[isize]) -> isize {
    let mut offset = 0;
    for (&dim, &stride) in dims.iter().zip(strides).rev() {
        offset += (flat % dim) as isize * stride;
        flat /= dim;
    }
    offset
}

fn check_indices(kernel: &'static str, indices: &View) -> Result<(), KernelError> {
    if !matches!(indices.dtype, DType::I32 | DType::I64) {
        return Err(KernelError::dtype(kernel, "indices", indices.dtype, "i32 or i64"));
    }
    Ok(())
}

/// The part of a view behind its first `leading` dimensions: offsets of its elements in row-major order, as one
/// contiguous run if they are.
#[derive(Debug)]
struct Row {
    width: usize,
    contiguous: bool,
}

impl Row {
    fn new(view: &View, leading: usize) -> Self {
        let rest = View {
            dims: view.dims[leading..].to_vec(),
            strides: view.strides[leading..].to_vec(),
            ..view.clone()
        };
        Self { width: rest.elements(), contiguous: rest.is_row_major() }
    }

    /// Calls `visit(i, offset)` for the elements `range` of the row.
    #[inline(always)]
    fn each(&self, view: &View, leading: usize, range: Range<usize>, mut visit: impl FnMut(usize, isize)) {
        if self.contiguous {
            range.for_each(|i| visit(i, i as isize));
        } else {
            range.for_each(|i| visit(i, offset(i, &view.dims[leading..], &view.strides[leading..])));
        }
    }
}

/// `out[indices..., rest...] = table[index, rest...]`. An index outside the table stops the run with an error.
#[derive(Debug)]
pub struct Gather {
    table: View,
    indices: View,
    out: View,
    from: Row,
    to: Row,
}

impl Gather {
    /// From `table [rows, rest...]` and i32 or i64 `indices` of any extents to `out [indices..., rest...]`.
    ///
    /// # Errors
    /// When extents or element types do not fit.
    pub fn new(table: View, indices: View, out: View) -> Result<Self, KernelError> {
        check_indices("gather", &indices)?;
        let fits = table.rank() > 0 && out.dims == [&indices.dims[..], &table.dims[1..]].concat();
        if !fits || table.dtype != out.dtype {
            return Err(KernelError::operand(
                "gather",
                format!("rows of {table} by {indices} do not give {out}"),
            ));
        }
        let (from, to) = (Row::new(&table, 1), Row::new(&out, indices.rank()));
        Ok(Self { table, indices, out, from, to })
    }

    fn run_as<T: Copy>(&self, cx: &Cx<'_>) {
        let count = self.indices.elements();
        let leading = self.indices.rank();
        cx.parallel(count, self.out.elements() / 4, &|_, range| {
            let indices = Indices::new(cx, &self.indices);
            let (table, out) = (cx.origin(&self.table).cast::<T>(), cx.origin(&self.out).cast::<T>());
            for i in range {
                let row = indices.get(i) as isize * self.table.strides[0];
                let to = offset(i, &self.out.dims[..leading], &self.out.strides[..leading]);
                // SAFETY: all indices were found to be rows of the table; the views were checked; each row of the
                // result is written by one thread.
                unsafe {
                    let (from, to) = (table.offset(row), out.offset(to));
                    if self.from.contiguous && self.to.contiguous {
                        std::ptr::copy_nonoverlapping(from, to, self.from.width);
                        continue;
                    }
                    self.to.each(&self.out, leading, 0..self.to.width, |e, at| {
                        let source = offset(e, &self.table.dims[1..], &self.table.strides[1..]);
                        *to.offset(at) = *from.offset(source);
                    });
                }
            }
        });
    }
}

impl Sealed for Gather {}

impl Kernel for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.table, &self.indices]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.out]
    }
    fn flops(&self) -> u64 {
        0
    }
    fn bytes(&self) -> u64 {
        (self.indices.elements() * self.indices.dtype.bytes()
            + 2 * self.out.elements() * self.out.dtype.bytes()) as u64
    }
    fn run(&self, cx: &Cx<'_>) {
        if self.from.width == 0 || !Indices::new(cx, &self.indices).check(cx, self.table.dims[0]) {
            return;
        }
        match self.table.dtype.bytes() {
            1 => self.run_as::<u8>(cx),
            2 => self.run_as::<u16>(cx),
            4 => self.run_as::<u32>(cx),
            _ => self.run_as::<u64>(cx),
        }
    }
}

/// `out[r, rest...]` is the sum, in order of the indices, of the updates whose index is `r`; in bf16, each addition is
/// rounded. An index outside `out` stops the run with an error.
#[derive(Debug)]
pub struct ScatterAdd {
    indices: View,
    updates: View,
    out: View,
    from: Row,
    to: Row,
}

/// Columns that a task of `ScatterAdd` sums.
const SCATTER_COLUMNS: usize = 64;

impl ScatterAdd {
    /// From i32 or i64 `indices` of any extents and `updates [indices..., rest...]` to `out [rows, rest...]`.
    ///
    /// # Errors
    /// When extents or element types do not fit; `bool` cannot be summed.
    pub fn new(indices: View, updates: View, out: View) -> Result<Self, KernelError> {
        check_indices("scatter_add", &indices)?;
        let fits = out.rank() > 0 && updates.dims == [&indices.dims[..], &out.dims[1..]].concat();
        if !fits || updates.dtype != out.dtype || out.dtype == DType::Bool {
            let what = format!("sums of {updates} by {indices} do not give {out}");
            return Err(KernelError::operand("scatter_add", what));
        }
        let (from, to) = (Row::new(&updates, indices.rank()), Row::new(&out, 1));
        Ok(Self { indices, updates, out, from, to })
    }

    fn run_as<T: Factor>(&self, cx: &Cx<'_>) {
        let count = self.indices.elements();
        let leading = self.indices.rank();
        let width = self.to.width;
        let cost = self.updates.elements() / 2 + self.out.elements() / 8;
        cx.parallel(width.div_ceil(SCATTER_COLUMNS), cost, &|_, range| {
            let indices = Indices::new(cx, &self.indices);
            let (updates, out) = (cx.origin(&self.updates).cast::<T>(), cx.origin(&self.out).cast::<T>());
            let columns = range.start * SCATTER_COLUMNS..(range.end * SCATTER_COLUMNS).min(width);
            // SAFETY: all indices were found to be rows of the result; the views were checked; each column of the
            // result is written by one thread.
            unsafe {
                for row in 0..self.out.dims[0] {
                    let to = out.offset(row as isize * self.out.strides[0]);
                    self.to
                        .each(&self.out, 1, columns.clone(), |_, at| *to.offset(at) = T::from_sum(T::ZERO));
                }
                for i in 0..count {
                    let to = out.offset(indices.get(i) as isize * self.out.strides[0]);
                    let from = updates.offset(offset(
                        i,
                        &self.updates.dims[..leading],
                        &self.updates.strides[..leading],
                    ));
                    self.to.each(&self.out, 1, columns.clone(), |e, at| {
                        let source = if self.from.contiguous {
                            e as isize
                        } else {
                            offset(e, &self.updates.dims[leading..], &self.updates.strides[leading..])
                        };
                        *to.offset(at) =
                            T::from_sum(T::plus((*to.offset(at)).to_sum(), (*from.offset(source)).to_sum()));
                    });
                }
            }
        });
    }
}

impl Sealed for ScatterAdd {}

impl Kernel for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.indices, &self.updates]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.out]
    }
    fn flops(&self) -> u64 {
        self.updates.elements() as u64
    }
    fn run(&self, cx: &Cx<'_>) {
        if self.to.width == 0 || !Indices::new(cx, &self.indices).check(cx, self.out.dims[0]) {
            return;
        }
        match self.out.dtype {
            DType::Bool | DType::U8 => self.run_as::<u8>(cx),
            DType::I32 => self.run_as::<i32>(cx),
            DType::I64 => self.run_as::<i64>(cx),
            DType::BF16 => self.run_as::<Bits16>(cx),
            DType::F32 => self.run_as::<f32>(cx),
            DType::F64 => self.run_as::<f64>(cx),
        }
    }
}
