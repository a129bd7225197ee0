//! IDX files: a file that is accepted holds exactly the elements that its bytes spell.

use outgrow_data::source::idx::parse;

pub fn check(data: &[u8]) {
    let tensor = match parse(data) {
        Ok(tensor) => tensor,
        Err(found) => {
            assert!(!found.problem.is_empty(), "a refusal says why");
            return;
        }
    };
    let mut written = vec![0, 0, data[2], tensor.shape().rank() as u8];
    tensor.shape().iter().for_each(|d| written.extend((*d as u32).to_be_bytes()));
    for i in 0..tensor.elements() {
        match data[2] {
            0x08 | 0x09 => written.push(tensor.get_i64(i) as u8),
            0x0b => written.extend((tensor.get_i64(i) as i16).to_be_bytes()),
            0x0c => written.extend((tensor.get_i64(i) as i32).to_be_bytes()),
            0x0d => written.extend(tensor.as_slice::<f32>().expect("elements of f32")[i].to_be_bytes()),
            _ => written.extend(tensor.as_slice::<f64>().expect("elements of f64")[i].to_be_bytes()),
        }
    }
    assert!(written == data);
}
