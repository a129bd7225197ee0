//! Pooling over height and width: maxima and sums of windows, and the gradient of the maximum.

use crate::error::KernelError;
use crate::kernel::sealed::Sealed;
use crate::kernel::{Cx, Kernel};
use crate::number::{Bits16, Factor};
use crate::path::KernelPath;
use crate::pool_pairs::{GradFn, MaxFn, Planes, pick};
use crate::pool_rows::PlaneRows;
use crate::view::View;
use crate::window::{Window, four};
use outgrow_tensor::DType;

/// What is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The maximum; padding counts as minus infinity. NaN when any element is.
    Max,
    /// The sum; padding counts as zero.
    Sum,
}

/// The maximum or the sum of each window of `x [batch, channels, height, width]`, of a float type.
#[derive(Debug)]
pub struct Pool2d {
    kind: PoolKind,
    x: View,
    y: View,
    size: [usize; 2],
    window: Window,
    pairs: MaxFn,
}

/// Checks the operands of pooling.
fn check(
    kernel: &'static str,
    x: &View,
    y: &View,
    size: [usize; 2],
    window: &Window,
) -> Result<(), KernelError> {
    let (xd, yd) = (four(kernel, x)?, four(kernel, y)?);
    if xd[..2] != yd[..2] {
        return Err(KernelError::operand(kernel, format!("{x} and {y} differ in batch or channels")));
    }
    if !x.dtype.is_float() || x.dtype != y.dtype {
        return Err(KernelError::dtype(kernel, y.to_string(), x.dtype, "one float type for all"));
    }
    window.check(kernel, x, y, size)
}

impl Pool2d {
    /// Pooling by windows of `size` (height, width).
    ///
    /// # Errors
    /// When extents or element types do not fit.
    pub fn new(
        kind: PoolKind,
        x: View,
        y: View,
        size: [usize; 2],
        window: Window,
    ) -> Result<Self, KernelError> {
        check("pool2d", &x, &y, size, &window)?;
        Ok(Self { kind, x, y, size, window, pairs: pick(KernelPath::Portable).0 })
    }

    fn run_as<T: Factor>(&self, cx: &Cx<'_>)
    where
        T::Sum: PartialOrd + From<f32>,
    {
        let places = [self.y.dims[2], self.y.dims[3]];
        each_plane(cx, &self.y, self.size, &|plane| {
            let (from, to) = (plane_start(cx, &self.x, plane), plane_start(cx, &self.y, plane));
            for h in 0..places[0] {
                for w in 0..places[1] {
                    let max = self.kind == PoolKind::Max;
                    let mut result: T::Sum = (if max { f32::NEG_INFINITY } else { 0.0 }).into();
                    self.window.each(&self.x, self.size, h, w, |offset| {
                        // SAFETY: an element of the checked view's plane.
                        let value = unsafe { *from.cast::<T>().offset(offset) }.to_sum();
                        if !max {
                            result = T::plus(result, value);
                        } else if value > result || !is_number(value) {
                            result = value;
                        }
                    });
                    let at = h as isize * self.y.strides[2] + w as isize * self.y.strides[3];
                    // SAFETY: an element of the checked view's plane, which one thread works on.
                    unsafe { *to.cast::<T>().offset(at) = T::from_sum(result) };
                }
            }
        });
    }
}

impl Pool2d {
    fn run_rows(&self, cx: &Cx<'_>, rows: PlaneRows) {
        let [height, width] = [self.y.dims[2], self.y.dims[3]];
        let reach = plane_elements(&self.x);
        each_plane(cx, &self.y, self.size, &|plane| {
            // SAFETY: the elements from the first to the last of the checked view's plane.
            let x =
                unsafe { std::slice::from_raw_parts(plane_start(cx, &self.x, plane).cast::<f32>(), reach) };
            if self.kind == PoolKind::Max && rows.is_pairs() {
                let planes = Planes { places: [height, width], extents: [self.x.dims[2], self.x.dims[3]] };
                // SAFETY: the checked view's plane, whose rows follow each other, and which one thread works on; the
                // program's builder found the path supported.
                unsafe {
                    let to = plane_start(cx, &self.y, plane).cast::<f32>();
                    return (self.pairs)(&planes, x, std::slice::from_raw_parts_mut(to, height * width));
                }
            }
            for h in 0..height {
                let to = plane_start(cx, &self.y, plane).cast::<f32>();
                // SAFETY: a contiguous row of the checked view's plane, which one thread works on.
                let out = unsafe {
                    let start = to.offset(h as isize * self.y.strides[2]);
                    std::slice::from_raw_parts_mut(start, width)
                };
                match self.kind {
                    PoolKind::Max => rows.max(x, h, out),
                    PoolKind::Sum => rows.sum(x, h, out),
                }
            }
        });
    }
}

/// Elements from the first to the last of a plane with contiguous rows.
fn plane_elements(view: &View) -> usize {
    if view.elements() == 0 { 0 } else { (view.dims[2] - 1) * view.strides[2] as usize + view.dims[3] }
}

/// Whether a value is not NaN.
#[inline(always)]
fn is_number<S: PartialOrd>(value: S) -> bool {
    value.partial_cmp(&value).is_some()
}

impl Window {
    /// Calls `visit` with the offset, from its plane's start, of every element of `x` under the window at place
    /// `(h, w)`, in row-major order.
    #[inline(always)]
    fn each(&self, x: &View, size: [usize; 2], h: usize, w: usize, mut visit: impl FnMut(isize)) {
        for i in 0..size[0] {
            let Some(row) = self.source(0, x.dims[2], h, i) else { continue };
            for j in 0..size[1] {
                let Some(column) = self.source(1, x.dims[3], w, j) else { continue };
                visit(row as isize * x.strides[2] + column as isize * x.strides[3]);
            }
        }
    }
}

/// Calls `run([batch, channel])` for every plane of the images, divided over the threads.
fn each_plane(cx: &Cx<'_>, y: &View, size: [usize; 2], run: &(dyn Fn([usize; 2]) + Sync)) {
    let cost = y.elements().saturating_mul(size[0] * size[1]);
    cx.parallel(y.dims[0] * y.dims[1], cost, &|_, range| {
        range.for_each(|plane| run([plane / y.dims[1], plane % y.dims[1]]));
    });
}

/// The first element of a plane.
fn plane_start(cx: &Cx<'_>, view: &View, [batch, channel]: [usize; 2]) -> *mut u8 {
    let offset = batch as isize * view.strides[0] + channel as isize * view.strides[1];
    cx.origin(view).wrapping_offset(offset * view.dtype.bytes() as isize)
}

impl Sealed for Pool2d {}

impl Kernel for Pool2d {
    fn name(&self) -> &'static str {
        "pool2d"
    }
    fn prepare(&mut self, path: KernelPath) {
        self.pairs = pick(path).0;
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.x]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.y]
    }
    fn flops(&self) -> u64 {
        (self.y.elements() * self.size[0] * self.size[1]) as u64
    }
    fn run(&self, cx: &Cx<'_>) {
        let rows = PlaneRows::new(&self.x, &[&self.y], self.size, &self.window);
        if let Some(rows) = rows.filter(|_| self.x.dtype == DType::F32) {
            return self.run_rows(cx, rows);
        }
        match self.x.dtype {
            DType::F64 => self.run_as::<f64>(cx),
            DType::BF16 => self.run_as::<Bits16>(cx),
            _ => self.run_as::<f32>(cx),
        }
    }
}

/// The gradient of the maximum over windows: each window's gradient goes to its first maximum in row-major order
/// (the first NaN, if there is one).
#[derive(Debug)]
pub struct MaxPool2dGrad {
    x: View,
    dy: View,
    dx: View,
    size: [usize; 2],
    window: Window,
    pairs: GradFn,
}

impl MaxPool2dGrad {
    /// From the pooling's input `x` and the gradient `dy` of its result to the gradient `dx` of its input.
    ///
    /// # Errors
    /// When extents or element types do not fit.
    pub fn new(x: View, dy: View, dx: View, size: [usize; 2], window: Window) -> Result<Self, KernelError> {
        check("max_pool2d_grad", &x, &dy, size, &window)?;
        if dx.dims != x.dims || dx.dtype != x.dtype {
            return Err(KernelError::operand("max_pool2d_grad", format!("{dx} is not like {x}")));
        }
        Ok(Self { x, dy, dx, size, window, pairs: pick(KernelPath::Portable).1 })
    }

    fn run_as<T: Factor>(&self, cx: &Cx<'_>)
    where
        T::Sum: PartialOrd,
    {
        let (rows, columns) = (self.x.dims[2], self.x.dims[3]);
        let relative = |view: &View, row: usize, column: usize| {
            row as isize * view.strides[2] + column as isize * view.strides[3]
        };
        each_plane(cx, &self.dy, self.size, &|plane| {
            let x = plane_start(cx, &self.x, plane).cast::<T>();
            let dy = plane_start(cx, &self.dy, plane).cast::<T>();
            let dx = plane_start(cx, &self.dx, plane).cast::<T>();
            for row in 0..rows {
                for column in 0..columns {
                    // SAFETY: an element of the checked view's plane, which one thread works on.
                    unsafe { *dx.offset(relative(&self.dx, row, column)) = T::from_sum(T::ZERO) };
                }
            }
            for h in 0..self.dy.dims[2] {
                for w in 0..self.dy.dims[3] {
                    let mut best: Option<(T::Sum, isize)> = None;
                    for i in 0..self.size[0] {
                        let Some(row) = self.window.source(0, rows, h, i) else { continue };
                        for j in 0..self.size[1] {
                            let Some(column) = self.window.source(1, columns, w, j) else { continue };
                            // SAFETY: an element of the checked view's plane.
                            let value = unsafe { *x.offset(relative(&self.x, row, column)) }.to_sum();
                            let better =
                                best.is_none_or(|(b, _)| value > b || (!is_number(value) && is_number(b)));
                            if better {
                                best = Some((value, relative(&self.dx, row, column)));
                            }
                        }
                    }
                    if let Some((_, at)) = best {
                        // SAFETY: elements of the checked views' planes, which one thread works on.
                        unsafe {
                            let gradient = (*dy.offset(relative(&self.dy, h, w))).to_sum();
                            *dx.offset(at) = T::from_sum(T::plus((*dx.offset(at)).to_sum(), gradient));
                        }
                    }
                }
            }
        });
    }
}

impl MaxPool2dGrad {
    fn run_rows(&self, cx: &Cx<'_>, rows: PlaneRows) {
        let [height, width] = [self.dy.dims[2], self.dy.dims[3]];
        let (reach, pitch) = (plane_elements(&self.x), self.dx.strides[2] as usize);
        each_plane(cx, &self.dy, self.size, &|plane| {
            // SAFETY: the elements from the first to the last of the checked views' planes; those of `dx` overlap
            // neither of the others, and one thread works on them.
            let (x, dx) = unsafe {
                (
                    std::slice::from_raw_parts(plane_start(cx, &self.x, plane).cast::<f32>(), reach),
                    std::slice::from_raw_parts_mut(
                        plane_start(cx, &self.dx, plane).cast::<f32>(),
                        plane_elements(&self.dx),
                    ),
                )
            };
            if rows.is_pairs() {
                let planes = Planes { places: [height, width], extents: [self.x.dims[2], self.x.dims[3]] };
                let from = plane_start(cx, &self.dy, plane).cast::<f32>();
                // SAFETY: the checked view's plane, whose rows follow each other; the program's builder found the path
                // supported.
                unsafe {
                    let dy = std::slice::from_raw_parts(from, height * width);
                    return (self.pairs)(&planes, x, dy, dx);
                }
            }
            for row in 0..self.dx.dims[2] {
                dx[row * pitch..][..self.dx.dims[3]].fill(0.0);
            }
            for h in 0..height {
                let from = plane_start(cx, &self.dy, plane).cast::<f32>();
                // SAFETY: a contiguous row of the checked view's plane.
                let dy = unsafe {
                    std::slice::from_raw_parts(from.offset(h as isize * self.dy.strides[2]), width)
                };
                let top = h * rows.strides[0];
                rows.max_grad(&x[top * rows.pitch..], dy, &mut dx[top * pitch..], pitch);
            }
        });
    }
}

impl Sealed for MaxPool2dGrad {}

impl Kernel for MaxPool2dGrad {
    fn name(&self) -> &'static str {
        "max_pool2d_grad"
    }
    fn prepare(&mut self, path: KernelPath) {
        self.pairs = pick(path).1;
    }
    fn reads(&self) -> Vec<&View> {
        vec![&self.x, &self.dy]
    }
    fn writes(&self) -> Vec<&View> {
        vec![&self.dx]
    }
    fn flops(&self) -> u64 {
        (self.dy.elements() * self.size[0] * self.size[1]) as u64
    }
    fn run(&self, cx: &Cx<'_>) {
        let rows = PlaneRows::new(&self.x, &[&self.dy, &self.dx], self.size, &self.window);
        if let Some(rows) = rows.filter(|rows| rows.inside && self.x.dtype == DType::F32) {
            return self.run_rows(cx, rows);
        }
        match self.x.dtype {
            DType::F64 => self.run_as::<f64>(cx),
            DType::BF16 => self.run_as::<Bits16>(cx),
            _ => self.run_as::<f32>(cx),
        }
    }
}
