//! Where values are: views of storages, or one number for all elements. Ops that only rearrange (reshape, transpose,
//! broadcast, slice, reverse) give another view of the same storage whenever strides can express it.

use outgrow_kernels::{Literal, View};

/// Where a value is.
#[derive(Clone, Debug)]
pub enum Location {
    /// Elements of a storage; the view's `slot.buffer` is the storage's number.
    View(View),
    /// Every element is this number.
    Splat(Literal),
}

/// The elements of `view` in row-major order under other extents, if strides can express it.
pub fn reshape(view: &View, dims: &[usize]) -> Option<View> {
    let strides = if view.elements() == 0 { vec![0; dims.len()] } else { reshape_strides(view, dims)? };
    Some(View { dims: dims.to_vec(), strides, ..view.clone() })
}

/// Strides for new extents: walks old and new dimensions together in runs of equal products, within which the old
/// dimensions must lie one after the other.
fn reshape_strides(view: &View, dims: &[usize]) -> Option<Vec<isize>> {
    let old: Vec<(usize, isize)> =
        view.dims.iter().copied().zip(view.strides.iter().copied()).filter(|(d, _)| *d != 1).collect();
    let mut strides = vec![0isize; dims.len()];
    let (mut o, mut n) = (0, 0);
    while o < old.len() {
        let (o_start, n_start) = (o, n);
        let mut old_product = old[o].0;
        let mut new_product = *dims.get(n)?;
        while old_product != new_product {
            if old_product < new_product {
                o += 1;
                old_product *= old.get(o)?.0;
            } else {
                n += 1;
                new_product *= *dims.get(n)?;
            }
        }
        let contiguous = (o_start..o).all(|i| old[i].1 == old[i + 1].1 * old[i + 1].0 as isize);
        if !contiguous {
            return None;
        }
        let mut stride = old[o].1;
        for i in (n_start..=n).rev() {
            strides[i] = stride;
            stride *= dims[i] as isize;
        }
        (o, n) = (o + 1, n + 1);
    }
    Some(strides)
}

/// The view with its dimensions in the order of `parts`, each part merged into one dimension, if strides allow it.
pub fn merged(view: &View, parts: &[&[usize]]) -> Option<View> {
    let ordered = view.permuted(&parts.concat());
    let extent = |part: &&[usize]| part.iter().map(|d| view.dims[*d]).product();
    reshape(&ordered, &parts.iter().map(extent).collect::<Vec<usize>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use outgrow_kernels::View;
    use outgrow_tensor::DType;

    #[test]
    fn reshapes_without_copies_where_strides_allow() {
        let view = View::whole(0, DType::F32, [2, 3, 4]);
        let check = |view: &View, dims: &[usize], expected: Option<&[isize]>| {
            assert_eq!(reshape(view, dims).map(|v| v.strides), expected.map(<[isize]>::to_vec));
        };
        check(&view, &[6, 4], Some(&[4, 1]));
        check(&view, &[2, 3, 2, 2], Some(&[12, 4, 2, 1]));
        check(&view, &[24], Some(&[1]));
        check(&view.permuted(&[1, 0, 2]), &[6, 4], None);
        check(&view.permuted(&[1, 0, 2]), &[3, 2, 2, 2], Some(&[4, 12, 2, 1]));
        check(&view.sliced(2, 0, 2, 1), &[6, 2], Some(&[4, 1]));
        check(&view.sliced(2, 0, 2, 1), &[12], None);
        check(&View::whole(0, DType::F32, [1, 1]), &[], Some(&[]));
        check(&View::whole(0, DType::F32, [3]).broadcast(&[2, 3], &[1]), &[2, 1, 3], Some(&[0, 3, 1]));
    }
}
