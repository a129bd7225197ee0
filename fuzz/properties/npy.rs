//! NumPy arrays: one that is accepted is written and read back as the same, whole and row by row.

use outgrow_store::npy::{NpyHeader, read_npy, write_npy};

pub fn check(data: &[u8]) {
    let tensor = match read_npy(data) {
        Ok(tensor) => tensor,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            return;
        }
    };
    let again = read_npy(&write_npy(&tensor)).expect("what was written is read");
    assert!(again.same_bits(&tensor));
    let header = NpyHeader::parse(data).expect("the header of an array that was read");
    if tensor.shape().rank() == 0 || tensor.elements() == 0 {
        return;
    }
    let elements = &data[header.data_start..];
    let width = tensor.elements() / header.rows();
    for row in [0, header.rows() / 2, header.rows() - 1] {
        let runs = header.row_runs(row, 1);
        let bytes: Vec<u8> = (0..runs.runs)
            .flat_map(|run| elements[runs.start + run * runs.stride..][..runs.bytes].to_vec())
            .collect();
        let piece = header.of_rows(1).tensor(&bytes).expect("a row of an array that was read");
        let same = |i: usize| piece.get_f64(i).to_bits() == tensor.get_f64(row * width + i).to_bits();
        assert!((0..width).all(same), "row {row}");
    }
}
