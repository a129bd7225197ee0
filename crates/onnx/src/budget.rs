//! How many messages a file may hold. A message of two bytes in a file becomes a struct of hundreds in memory, so they
//! are counted before anything is decoded.

use outgrow_ir::Diagnostic;

/// Most messages of one file; a model of ten thousand nodes has about a hundred thousand.
const MESSAGES_MAX: usize = 1 << 20;
/// Deepest nesting of messages.
const DEPTH_MAX: usize = 64;

/// A kind of message: the fields that hold messages, and of which kind.
struct Kind(&'static [(u64, &'static Kind)]);

static LEAF: Kind = Kind(&[]);
static TENSOR: Kind = Kind(&[(13, &LEAF)]);
static SHAPE: Kind = Kind(&[(1, &LEAF)]);
static TENSOR_TYPE: Kind = Kind(&[(2, &SHAPE)]);
static TYPE: Kind = Kind(&[(1, &TENSOR_TYPE)]);
static VALUE_INFO: Kind = Kind(&[(2, &TYPE)]);
static ATTRIBUTE: Kind = Kind(&[(5, &TENSOR), (6, &GRAPH)]);
static NODE: Kind = Kind(&[(5, &ATTRIBUTE)]);
static GRAPH: Kind =
    Kind(&[(1, &NODE), (5, &TENSOR), (11, &VALUE_INFO), (12, &VALUE_INFO), (13, &VALUE_INFO)]);
static FUNCTION: Kind = Kind(&[(7, &NODE), (9, &LEAF), (11, &ATTRIBUTE)]);
static MODEL: Kind = Kind(&[(7, &GRAPH), (8, &LEAF), (14, &LEAF), (25, &FUNCTION)]);

fn bad(problem: &str) -> Diagnostic {
    Diagnostic::new("onnx.file", problem).expected("an ONNX model")
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn skip(bytes: &mut &[u8], count: usize) -> Option<()> {
    *bytes = bytes.get(count..)?;
    Some(())
}

fn count(kind: &Kind, mut bytes: &[u8], depth: usize, left: &mut usize) -> Result<(), Diagnostic> {
    if depth > DEPTH_MAX {
        return Err(bad("the file nests too deeply"));
    }
    let cut = || bad("the file ends within a field, or is no ONNX model");
    while !bytes.is_empty() {
        let tag = varint(&mut bytes).ok_or_else(cut)?;
        match tag & 7 {
            0 => varint(&mut bytes).map(|_| ()),
            1 => skip(&mut bytes, 8),
            5 => skip(&mut bytes, 4),
            2 => {
                let length = varint(&mut bytes).and_then(|n| usize::try_from(n).ok()).ok_or_else(cut)?;
                let field = bytes.get(..length).ok_or_else(cut)?;
                if let Some((_, inner)) = kind.0.iter().find(|(number, _)| *number == tag >> 3) {
                    *left = left.checked_sub(1).ok_or_else(|| bad("the file has too many parts"))?;
                    count(inner, field, depth + 1, left)?;
                }
                skip(&mut bytes, length)
            }
            _ => None,
        }
        .ok_or_else(cut)?;
    }
    Ok(())
}

/// Refuses files that would take far more memory than they are long.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Diagnostic> {
    count(&MODEL, bytes, 0, &mut { MESSAGES_MAX })
}
