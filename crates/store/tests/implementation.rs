//! The format's own implementation of safetensors beside the one here: each reads what the other writes, and whatever
//! is accepted here is accepted there, as the same tensors.

use outgrow_store::safetensors::{parse, to_bytes};
use outgrow_tensor::{DType, RngKey, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;

fn every_type() -> BTreeMap<String, Tensor> {
    let shapes: [&[usize]; 4] = [&[], &[3], &[2, 5], &[0, 4]];
    let tensor = |dtype: DType, shape: &[usize]| {
        let name = format!("layer.{dtype}.{}", shape.len());
        (name, Tensor::from_f64(dtype, shape, |i| i as f64 % 2.0))
    };
    DType::ALL.into_iter().flat_map(|dtype| shapes.map(|shape| tensor(dtype, shape))).collect()
}

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned()), ("ö\n".to_owned(), "\"".to_owned())])
}

fn their_type(dtype: DType) -> Dtype {
    match dtype {
        DType::Bool => Dtype::BOOL,
        DType::U8 => Dtype::U8,
        DType::I32 => Dtype::I32,
        DType::I64 => Dtype::I64,
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        DType::F64 => Dtype::F64,
    }
}

/// Whether the other implementation reads these tensors from the file, each with the same type, shape and bytes.
fn reads(file: &[u8], tensors: &BTreeMap<String, Tensor>) -> bool {
    let Ok(theirs) = safetensors::SafeTensors::deserialize(file) else { return false };
    let same = |(name, view): (String, TensorView<'_>)| {
        tensors.get(&name).is_some_and(|own| {
            view.dtype() == their_type(own.dtype())
                && view.shape() == own.shape().dims()
                // Any byte but 0 is read as true here.
                && (own.dtype() == DType::Bool || view.data() == &*own.le_bytes())
        })
    };
    theirs.len() == tensors.len() && theirs.tensors().into_iter().all(same)
}

#[test]
fn it_reads_what_is_written_here() {
    let tensors = every_type();
    assert!(reads(&to_bytes(&tensors, &metadata()).unwrap(), &tensors));
    assert!(reads(&to_bytes(&BTreeMap::new(), &BTreeMap::new()).unwrap(), &BTreeMap::new()));
}

#[test]
fn what_it_writes_is_read_here() {
    let tensors = every_type();
    fn view<'a>((name, tensor): (&'a String, &'a Tensor)) -> (&'a String, TensorView<'a>) {
        let dims = tensor.shape().dims().to_vec();
        (name, TensorView::new(their_type(tensor.dtype()), dims, tensor.as_bytes()).unwrap())
    }
    let file =
        safetensors::serialize(tensors.iter().map(view), Some(metadata().into_iter().collect())).unwrap();
    let read = parse(file).unwrap();
    assert_eq!((read.tensors, read.metadata), (tensors, metadata()));
}

/// Random changes of a file: what one of them may refuse the other may not take for other tensors.
#[test]
fn whatever_is_accepted_here_is_accepted_there() {
    let valid = to_bytes(&every_type(), &metadata()).unwrap();
    let header = 8 + u64::from_le_bytes(valid[..8].try_into().unwrap()) as usize;
    let digits: Vec<usize> = (8..header).filter(|at| valid[*at].is_ascii_digit()).collect();
    let mut random = RngKey::new(12).stream();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut file = valid.clone();
        for _ in 0..1 + random.below(3) {
            // Mostly a digit of an extent or an offset becomes another one, so that some files stay valid.
            match random.below(4) {
                0 => file[random.below(header as u64) as usize] = random.next_u32() as u8,
                _ => file[digits[random.below(digits.len() as u64) as usize]] = b'0' + random.below(10) as u8,
            }
        }
        if let Ok(read) = parse(file.clone()) {
            accepted += 1;
            assert!(reads(&file, &read.tensors), "{}", String::from_utf8_lossy(&file[..header]));
        }
    }
    assert!(accepted > 1000, "{accepted}");
}
