//! Copies between views of different orders, whichever kernel does them, and which of them `Transpose` takes.

mod common;

use common::{Case, Data, indices, position, run_case};
use outgrow_kernels::{ProgramBuilder, Transpose, View, copy};
use outgrow_tensor::{DType, RngKey};

/// Copies `from` to `to` on every path and compares every element, and what lies between them, which stays.
fn check(what: &str, from: &View, to: &View) {
    let mut rng = RngKey::new(17).stream();
    let elements = |view: &View| view.slot.bytes / view.dtype.bytes();
    let data = vec![
        Data::random(from.dtype, elements(from), &mut rng),
        Data::random(to.dtype, elements(to), &mut rng),
    ];
    let build = |b: &mut ProgramBuilder| {
        b.push_boxed(copy(from.clone(), to.clone()).unwrap());
    };
    let results = run_case(&Case { data: data.clone(), build: &build }).unwrap();
    for (path, after) in results {
        let mut expected = data[1].clone();
        for index in indices(&to.dims) {
            expected.set(position(to, &index), data[0].get(position(from, &index)));
        }
        assert!(after[1] == expected, "{what} on {path}");
    }
}

fn whole(buffer: u32, dtype: DType, dims: &[usize]) -> View {
    View::whole(buffer, dtype, dims)
}

#[test]
fn matrices() {
    for dtype in [DType::F32, DType::I32, DType::F64, DType::BF16, DType::U8] {
        for [m, n] in [[1, 9], [7, 8], [8, 8], [9, 31], [16, 16], [17, 64], [65, 70], [130, 3]] {
            let from = whole(0, dtype, &[n, m]).permuted(&[1, 0]);
            let to = whole(1, dtype, &[m, n]);
            let turned = dtype.bytes() == 4 && m >= 8 && n >= 8;
            assert_eq!(Transpose::of(&from, &to).is_some(), turned, "{m} x {n} of {dtype}");
            check(&format!("{m} x {n} of {dtype}"), &from, &to);
        }
    }
}

#[test]
fn more_dimensions_parts_and_repetition() {
    let dtype = DType::F32;
    // Images between their two usual orders, and heads to the front.
    let images = whole(0, dtype, &[2, 9, 10, 12]).permuted(&[0, 3, 1, 2]);
    let plain = whole(1, dtype, &[2, 12, 9, 10]);
    assert!(Transpose::of(&images, &plain).is_some());
    check("channels first", &images, &plain);
    let heads = whole(0, dtype, &[2, 20, 3, 16]).permuted(&[0, 2, 1, 3]);
    check("heads first", &heads, &whole(1, dtype, &[2, 3, 20, 16]));
    let heads = whole(0, dtype, &[2, 20, 3, 16]).permuted(&[0, 2, 3, 1]);
    check("heads first, turned", &heads, &whole(1, dtype, &[2, 3, 16, 20]));
    // A part of a larger matrix, backwards, into a part of another one, between whose elements others stay.
    let from = whole(0, dtype, &[40, 50]).sliced(0, 3, 30, 1).sliced(1, 5, 20, 1).permuted(&[1, 0]);
    let to = whole(1, dtype, &[60, 45]).sliced(0, 1, 20, 2).sliced(1, 9, 30, 1);
    assert!(Transpose::of(&from, &to).is_some());
    check("parts", &from, &to);
    check("parts, backwards", &from.reversed(1), &to);
    check("both backwards", &from.reversed(0).reversed(1), &to);
    // A row that is repeated.
    let from = whole(0, dtype, &[24]).broadcast(&[24, 33], &[0]);
    check("repeated", &from, &whole(1, dtype, &[24, 33]));
}
