//! NumPy arrays: every element type there and back, what NumPy writes byte by byte, and files that lie.

use outgrow_store::npy::{NpyHeader, read_npy, write_npy};
use outgrow_tensor::{DType, Tensor};

/// A file with this dictionary for a header.
fn file(dictionary: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{dictionary}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn every_type_and_rank_round_trips() {
    for dtype in DType::ALL.into_iter().filter(|d| *d != DType::BF16) {
        for dims in [&[][..], &[3], &[2, 3], &[0, 4], &[1, 2, 3, 1]] {
            let tensor = Tensor::from_f64(dtype, dims, |i| i as f64);
            let bytes = write_npy(&tensor);
            assert!(read_npy(&bytes).unwrap().same_bits(&tensor), "{dtype} {dims:?}");
            let header = NpyHeader::parse(&bytes).unwrap();
            assert_eq!(header.data_start % 64, 0, "elements are aligned as NumPy aligns them");
        }
    }
    let bf16 = Tensor::from_f64(DType::BF16, [2], |i| i as f64 + 0.5);
    assert_eq!(read_npy(&write_npy(&bf16)).unwrap(), Tensor::vector(vec![0.5f32, 1.5]));
}

#[test]
fn other_widths_and_orders_are_read() {
    let cases: [(&str, &str, &[u8], Tensor); 8] = [
        ("|i1", "(2,)", &[0xff, 3], Tensor::vector(vec![-1i32, 3])),
        ("<i2", "(2,)", &[0xff, 0xff, 3, 0], Tensor::vector(vec![-1i32, 3])),
        ("<u2", "(1,)", &[0xff, 0xff], Tensor::vector(vec![65535i32])),
        ("<u4", "(1,)", &[0xff; 4], Tensor::vector(vec![4_294_967_295i64])),
        ("<f2", "(2,)", &[0, 0x3c, 1, 0], Tensor::vector(vec![1.0f32, 5.960_464_5e-8])),
        (">i4", "(1,)", &[0, 0, 1, 2], Tensor::vector(vec![258i32])),
        (">f4", "(1,)", &[0xc0, 0, 0, 0], Tensor::vector(vec![-2.0f32])),
        (">i8", "()", &[0xff; 8], Tensor::scalar(-1i64)),
    ];
    for (descr, shape, data, expected) in cases {
        let bytes =
            file(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"), data);
        assert_eq!(read_npy(&bytes).unwrap(), expected, "{descr}");
    }
    let columns = file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }", &[1, 4, 2, 5, 3, 6]);
    assert_eq!(read_npy(&columns).unwrap(), Tensor::new([2, 3], vec![1u8, 2, 3, 4, 5, 6]).unwrap());
}

#[test]
fn files_that_lie_get_diagnostics() {
    let good = write_npy(&Tensor::vector(vec![1.0f32, 2.0]));
    for end in 0..good.len() {
        assert!(read_npy(&good[..end]).is_err(), "cut at {end}");
    }
    let head = "'fortran_order': False";
    for (dictionary, data, expect) in [
        (format!("{{'descr': '<c8', {head}, 'shape': (1,)}}"), 8, "`<c8` has no tensor"),
        (format!("{{'descr': [('a', '<f4')], {head}, 'shape': (1,)}}"), 4, "records"),
        (format!("{{'descr': '<f4', {head}, 'shape': (4611686018427387904, 16)}}"), 0, "too large"),
        (format!("{{'descr': '<f4', {head}, 'shape': (0, 4611686018427387904, 16)}}"), 0, "too large"),
        (format!("{{'descr': '<f4', {head}, 'shape': (1000000000000,)}}"), 8, "where the header says"),
        (format!("{{'descr': '<f4', {head}, 'shape': (-1,)}}"), 4, "no extent"),
        (format!("{{'descr': '<f4', {head}, 'shape': ({})}}", "1,".repeat(65)), 4, "more than 64"),
        (format!("{{'descr': '<f4', {head}}}"), 4, "no `shape`"),
        ("{'descr': '<f4', 'fortran_order': 3, 'shape': ()}".into(), 4, "neither True nor False"),
    ] {
        let error = read_npy(&file(&dictionary, &vec![0; data])).unwrap_err();
        assert!(error.to_string().contains(expect), "{error} for {dictionary}");
    }
    assert!(read_npy(b"PK\x03\x04").unwrap_err().to_string().contains("no NumPy array"));
}
