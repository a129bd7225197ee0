//! Loop spaces: merging dimensions that all operands walk alike.

/// Merges neighbouring dimensions wherever every operand (given by its strides over `dims`) steps over them as if
/// they were one, and drops those of extent one. The row-major order of elements is kept. Returns the new extents
/// and each operand's strides over them; there is always at least one dimension.
pub(crate) fn collapse(dims: &[usize], operands: &[Vec<isize>]) -> (Vec<usize>, Vec<Vec<isize>>) {
    let mut extents: Vec<usize> = Vec::new();
    let mut strides: Vec<Vec<isize>> = vec![Vec::new(); operands.len()];
    for (d, &dim) in dims.iter().enumerate() {
        if dim == 1 {
            continue;
        }
        let merges = !extents.is_empty()
            && operands
                .iter()
                .zip(&strides)
                .all(|(o, s)| s.last().is_some_and(|&last| o[d].checked_mul(dim as isize) == Some(last)));
        if merges && let Some(extent) = extents.last_mut() {
            *extent *= dim;
            for (o, s) in operands.iter().zip(&mut strides) {
                if let Some(last) = s.last_mut() {
                    *last = o[d];
                }
            }
        } else {
            extents.push(dim);
            for (o, s) in operands.iter().zip(&mut strides) {
                s.push(o[d]);
            }
        }
    }
    if extents.is_empty() {
        extents.push(1);
        strides.iter_mut().for_each(|s| s.push(0));
    }
    (extents, strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_what_all_walk_alike() {
        let row_major = vec![12, 4, 1];
        let rows = vec![4, 0, 1];
        assert_eq!(collapse(&[2, 3, 4], std::slice::from_ref(&row_major)), (vec![24], vec![vec![1]]));
        assert_eq!(
            collapse(&[2, 3, 4], &[row_major.clone(), vec![0; 3]]),
            (vec![24], vec![vec![1], vec![0]])
        );
        assert_eq!(
            collapse(&[2, 3, 4], &[row_major, rows.clone()]),
            (vec![2, 3, 4], vec![vec![12, 4, 1], rows])
        );
        assert_eq!(collapse(&[1, 1], &[vec![7, 9]]), (vec![1], vec![vec![0]]));
        assert_eq!(collapse(&[], &[vec![]]), (vec![1], vec![vec![0]]));
    }
}
