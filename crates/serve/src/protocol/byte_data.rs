//! The elements of a tensor of `BYTES`: texts in JSON, or binary data in which each has its length before it.

use bytes::{Buf, Bytes};
use outgrow_ir::{Diagnostic, Problem};

/// The protocol's name of the type.
pub(crate) const BYTES: &str = "BYTES";

fn wrong(field: &str, part: &str, problem: impl Into<String>) -> Problem {
    Diagnostic::new("serve.data", problem).item(format!("{field}.{part}"))
}

/// Texts in JSON, in one array or each in an array of its own.
///
/// # Errors
/// When they are something else, or not as many as the shape has.
pub(super) fn texts(json: &str, shape: &[usize], field: &str) -> Result<Vec<Bytes>, Diagnostic> {
    let flat = serde_json::from_str::<Vec<String>>(json).ok();
    let nested = || serde_json::from_str::<Vec<Vec<String>>>(json).ok().map(|rows| rows.concat());
    let texts = flat.or_else(nested).ok_or_else(|| {
        wrong(field, "data", "the elements are no texts")
            .expected("an array of texts")
            .hint("send what is no text, as images, as binary data, with `binary_data_size`")
    })?;
    counted(texts.into_iter().map(Bytes::from).collect(), shape, field, "data")
}

/// Elements in binary data, all of which are theirs.
///
/// # Errors
/// When a length says more than there is, or they are not as many as the shape has.
pub(crate) fn elements(mut binary: Bytes, shape: &[usize], field: &str) -> Result<Vec<Bytes>, Diagnostic> {
    let part = "parameters.binary_data_size";
    let mut elements = Vec::new();
    while binary.has_remaining() {
        let at = elements.len();
        let length = binary.try_get_u32_le().ok().filter(|length| *length as usize <= binary.len());
        let length = length.ok_or_else(|| {
            wrong(
                field,
                part,
                format!("element {at}, counted from 0, is longer than what is left of the data"),
            )
            .expected("for each element its length as 4 bytes, the least first, and then its bytes")
        })?;
        elements.push(binary.split_to(length as usize));
    }
    counted(elements, shape, field, part)
}

fn counted(elements: Vec<Bytes>, shape: &[usize], field: &str, part: &str) -> Result<Vec<Bytes>, Diagnostic> {
    let count = shape.iter().product::<usize>();
    if elements.len() == count {
        return Ok(elements);
    }
    let problem = format!("there are {} elements", elements.len());
    Err(wrong(field, part, problem).expected(format!("{count}, by the shape")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_in_both_forms() {
        let read = |json: &str, shape: &[usize]| texts(json, shape, "inputs[0]").map_err(|p| p.to_string());
        let expect: Vec<Bytes> = vec!["a".into(), "ä\n".into()];
        assert_eq!(read(r#"["a","\u00e4\n"]"#, &[2]), Ok(expect.clone()));
        assert_eq!(read(r#"[["a"],["ä\n"]]"#, &[2, 1]), Ok(expect));
        for json in ["[1]", "\"a\"", "[null]", "[[[\"a\"]]]"] {
            assert!(read(json, &[1]).unwrap_err().contains("no texts"), "{json}");
        }
        assert!(read("[\"a\"]", &[2]).unwrap_err().contains("there are 1 elements"));
        let binary = |bytes: &'static [u8], shape: &[usize]| {
            elements(Bytes::from_static(bytes), shape, "inputs[0]").map_err(|p| p.to_string())
        };
        let expect = Ok(vec![Bytes::from_static(b"ab"), Bytes::new()]);
        assert_eq!(binary(b"\x02\0\0\0ab\0\0\0\0", &[2, 1]), expect);
        assert_eq!(binary(b"", &[0]), Ok(vec![]));
        for bytes in [&b"\x03\0\0\0ab"[..], b"\x01\0", b"\xff\xff\xff\xff"] {
            assert!(binary(bytes, &[1]).unwrap_err().contains("element 0"), "{bytes:?}");
        }
        assert!(binary(b"\0\0\0\0", &[2]).unwrap_err().contains("there are 1 elements"));
    }
}
