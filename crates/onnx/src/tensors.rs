//! Tensors of the file format: elements in typed fields, raw bytes or a file beside the model.

use crate::Elem;
use crate::external::ExternalData;
use crate::proto::TensorProto;
use half::f16;
use outgrow_ir::Diagnostic;
use outgrow_tensor::Tensor;

/// Most elements of one tensor: 2^31, the largest that 32-bit positions address.
pub const ELEMENTS_MAX: usize = 1 << 31;

/// A tensor with ONNX's own element type.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxTensor {
    /// The type in the file.
    pub elem: Elem,
    /// The elements, in the type that carries them.
    pub tensor: Tensor,
}

fn bad(name: &str, problem: impl Into<String>) -> Diagnostic {
    Diagnostic::new("onnx.tensor", problem)
        .item(format!("tensor `{name}`"))
        .hint("the file is damaged, or was not written by an exporter: export the model again")
}

/// The extents as numbers, when their product stays below the limit.
pub(crate) fn extents(dims: &[i64]) -> Option<Vec<usize>> {
    let dims = dims.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<Vec<_>>>()?;
    // An empty dimension must not hide absurd ones from code that multiplies some of them.
    let product = dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))?;
    (product <= ELEMENTS_MAX && dims.len() <= 64).then_some(dims)
}

impl OnnxTensor {
    /// Reads a tensor of the format.
    ///
    /// # Errors
    /// When its type is not supported, or the elements that are there do not fit its extents.
    pub fn read(proto: &TensorProto, external: &dyn ExternalData) -> Result<Self, Diagnostic> {
        let name = &proto.name;
        let elem = Elem::of(proto.data_type).ok_or_else(|| {
            let problem = format!("element type {} is not supported", proto.data_type);
            Diagnostic::new("onnx.unsupported-type", problem)
                .item(format!("tensor `{name}`"))
                .expected(Elem::names())
        })?;
        let dims = extents(&proto.dims)
            .ok_or_else(|| bad(name, format!("extents {:?} are negative or too large", proto.dims)))?;
        let count: usize = dims.iter().product();
        let tensor = if proto.data_location == 1 {
            let bytes = external_bytes(proto, external, count * elem.bytes())?;
            from_raw(elem, &dims, &bytes)
        } else if let Some(raw) = &proto.raw_data {
            from_raw(elem, &dims, raw)
        } else {
            from_fields(elem, &dims, proto)
        };
        let tensor = tensor.ok_or_else(|| bad(name, format!("its data are not {count} elements")))?;
        Ok(Self { elem, tensor })
    }
}

fn external_bytes(
    proto: &TensorProto,
    external: &dyn ExternalData,
    expected: usize,
) -> Result<Vec<u8>, Diagnostic> {
    let entry = |key: &str| proto.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| bad(&proto.name, format!("`{key}` of its external data is no number: `{text}`"))),
    };
    let location =
        entry("location").ok_or_else(|| bad(&proto.name, "its external data have no `location`"))?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if length.is_some_and(|n| n != expected as u64) {
        return Err(bad(&proto.name, format!("its external data are not {expected} bytes")));
    }
    let read = external.read(location, offset, Some(expected as u64));
    read.map_err(|d| d.item(format!("tensor `{}`", proto.name)))
}

fn from_raw(elem: Elem, dims: &[usize], raw: &[u8]) -> Option<Tensor> {
    let count: usize = dims.iter().product();
    if raw.len() != count.checked_mul(elem.bytes())? {
        return None;
    }
    let two = |i: usize| u16::from_le_bytes([raw[2 * i], raw[2 * i + 1]]);
    let four = |i: usize| u32::from_le_bytes([raw[4 * i], raw[4 * i + 1], raw[4 * i + 2], raw[4 * i + 3]]);
    let carrier = elem.dtype();
    Some(match elem {
        Elem::F16 => Tensor::from_f64(carrier, dims, |i| f16::from_bits(two(i)).to_f64()),
        Elem::BF16 => Tensor::from_f64(carrier, dims, |i| half::bf16::from_bits(two(i)).to_f64()),
        Elem::I8 => Tensor::from_i64(carrier, dims, |i| i64::from(raw[i] as i8)),
        Elem::I16 => Tensor::from_i64(carrier, dims, |i| i64::from(two(i) as i16)),
        Elem::U16 => Tensor::from_i64(carrier, dims, |i| i64::from(two(i))),
        Elem::U32 => Tensor::from_i64(carrier, dims, |i| i64::from(four(i))),
        Elem::U64 => carried(Tensor::from_le_bytes(carrier, dims, raw).ok()?)?,
        _ => Tensor::from_le_bytes(carrier, dims, raw).ok()?,
    })
}

/// u64 is carried as i64, which ends at 2^63 - 1.
fn carried(tensor: Tensor) -> Option<Tensor> {
    let fits = tensor.as_slice::<i64>().is_ok_and(|v| v.iter().all(|x| *x >= 0));
    fits.then_some(tensor)
}

fn from_fields(elem: Elem, dims: &[usize], proto: &TensorProto) -> Option<Tensor> {
    let count: usize = dims.iter().product();
    let carrier = elem.dtype();
    let ints = &proto.int32_data;
    let check = |length: usize| (length == count).then_some(());
    Some(match elem {
        Elem::F32 => {
            check(proto.float_data.len()).map(|()| Tensor::new(dims, proto.float_data.clone()))?.ok()?
        }
        Elem::F64 => {
            check(proto.double_data.len()).map(|()| Tensor::new(dims, proto.double_data.clone()))?.ok()?
        }
        Elem::I64 => {
            check(proto.int64_data.len()).map(|()| Tensor::new(dims, proto.int64_data.clone()))?.ok()?
        }
        Elem::U32 | Elem::U64 => {
            check(proto.uint64_data.len())?;
            let longs = &proto.uint64_data;
            if longs.iter().any(|x| *x > elem.range().1 as u64) {
                return None;
            }
            Tensor::from_i64(carrier, dims, |i| longs[i] as i64)
        }
        Elem::F16 | Elem::BF16 => {
            check(ints.len())?;
            let value = |bits: i32| match elem {
                Elem::F16 => f16::from_bits(bits as u16).to_f64(),
                _ => half::bf16::from_bits(bits as u16).to_f64(),
            };
            Tensor::from_f64(carrier, dims, |i| value(ints[i]))
        }
        _ => {
            check(ints.len())?;
            Tensor::from_i64(carrier, dims, |i| i64::from(ints[i]))
        }
    })
}
