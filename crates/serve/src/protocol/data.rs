//! The `data` of a tensor in JSON: numbers in row-major order, in one array or nested as the shape says. It is known to
//! be JSON already; what is in it is read without recursion and without memory that its own length does not justify.

use outgrow_ir::Diagnostic;
use outgrow_tensor::{DType, Element, Tensor};

/// How to say what is wrong.
struct Place<'a> {
    /// Where the data is in the request, as `inputs[0].data`.
    field: &'a str,
    name: &'static str,
}

impl Place<'_> {
    fn wrong(&self, at: usize, problem: &str, expected: impl Into<String>) -> Diagnostic {
        Diagnostic::new("serve.data", format!("element {at}, counted from 0, {problem}"))
            .item(self.field)
            .expected(expected)
    }
}

/// Reads a tensor.
///
/// # Errors
/// A diagnostic that names the field and the first element that is wrong.
pub fn read(json: &str, dtype: DType, shape: Vec<usize>, field: &str) -> Result<Tensor, Diagnostic> {
    let place = |name| Place { field, name };
    match dtype {
        DType::Bool => read_as(json, shape, &place("BOOL"), |token| match token {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is no truth value"),
        }),
        DType::U8 => read_as(json, shape, &place("UINT8"), integer::<u8>),
        DType::I32 => read_as(json, shape, &place("INT32"), integer::<i32>),
        DType::I64 => read_as(json, shape, &place("INT64"), integer::<i64>),
        DType::F32 => {
            let finite = |x: &f32| x.is_finite();
            read_as(json, shape, &place("FP32"), |token| float(token, finite))
        }
        DType::F64 => {
            let finite = |x: &f64| x.is_finite();
            read_as(json, shape, &place("FP64"), |token| float(token, finite))
        }
        DType::BF16 => Err(Diagnostic::new("serve.data", "floats of 16 bits have no form in JSON")
            .item(field)
            .hint("send them as binary data, with `binary_data_size`")),
    }
}

fn is_number(token: &str) -> bool {
    token.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn integer<T: std::str::FromStr>(token: &str) -> Result<T, &'static str> {
    match token.parse() {
        Ok(number) => Ok(number),
        Err(_) if !is_number(token) => Err("is no number"),
        Err(_) if token.contains(['.', 'e', 'E']) => Err("is no whole number"),
        Err(_) => Err("is out of range"),
    }
}

fn float<T: std::str::FromStr>(token: &str, finite: impl Fn(&T) -> bool) -> Result<T, &'static str> {
    if !is_number(token) {
        return Err("is no number");
    }
    token.parse().ok().filter(finite).ok_or("is out of range")
}

fn read_as<T: Element>(
    json: &str,
    shape: Vec<usize>,
    place: &Place<'_>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Tensor, Diagnostic> {
    let count: usize = shape.iter().product();
    // An element is a digit and a comma at least.
    let mut elements = Vec::with_capacity(count.min(json.len() / 2 + 1));
    let mut nesting = Nesting::new(json, &shape);
    let mut rest = json;
    loop {
        rest = rest.trim_start_matches([' ', '\n', '\r', '\t', ',']);
        let Some(first) = rest.as_bytes().first() else { break };
        let at = elements.len();
        let shaped =
            |nesting: &Nesting<'_>| place.wrong(at, "is not where the shape has it", nesting.expected());
        match first {
            b'[' => nesting.open().then_some(()).ok_or_else(|| shaped(&nesting))?,
            b']' => nesting.close().then_some(()).ok_or_else(|| shaped(&nesting))?,
            b'"' | b'{' => {
                return Err(place.wrong(at, "is no number", format!("an element of {}", place.name)));
            }
            _ => {
                nesting.element().then_some(()).ok_or_else(|| shaped(&nesting))?;
                let end = |byte| matches!(byte, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                let end = rest.bytes().position(end).unwrap_or(rest.len());
                let element = parse(&rest[..end])
                    .map_err(|problem| place.wrong(at, problem, format!("an element of {}", place.name)))?;
                elements.push(element);
                rest = &rest[end..];
                continue;
            }
        }
        rest = &rest[1..];
    }
    let found = elements.len();
    Tensor::new(shape, elements).map_err(|_| {
        Diagnostic::new("serve.data", format!("there are {found} elements"))
            .item(place.field)
            .expected(format!("{count}, by the shape"))
    })
}

/// Where in the nested arrays the reader is.
struct Nesting<'a> {
    /// How many each level holds; one level where all elements stand in one array.
    extents: &'a [usize],
    flat: Option<[usize; 1]>,
    /// How many have come at each level that is open.
    open: Vec<usize>,
    closed: bool,
}

impl<'a> Nesting<'a> {
    fn new(json: &str, shape: &'a [usize]) -> Self {
        let inner = json.trim_start().strip_prefix('[').map(str::trim_start).unwrap_or_default();
        let flat = !inner.starts_with('[');
        // A level that is not there has no bound: what is missing or too much is said by their number.
        let flat = flat.then_some([usize::MAX]);
        Self { extents: shape, flat, open: Vec::new(), closed: false }
    }

    fn extents(&self) -> &[usize] {
        self.flat.as_ref().map_or(self.extents, |flat| flat.as_slice())
    }

    /// One more at the innermost level that is open.
    fn one_more(&mut self) -> bool {
        let level = self.open.len();
        let Some(count) = self.open.last_mut() else { return !self.closed };
        *count += 1;
        let count = *count;
        level <= self.extents().len() && count <= self.extents()[level - 1]
    }

    fn open(&mut self) -> bool {
        let fits = self.one_more() && self.open.len() < self.extents().len();
        self.open.push(0);
        fits
    }

    fn close(&mut self) -> bool {
        let level = self.open.len();
        let count = self.open.pop();
        self.closed = self.open.is_empty();
        self.flat.is_some() || (level > 0 && count == self.extents().get(level - 1).copied())
    }

    fn element(&mut self) -> bool {
        self.open.len() == self.extents().len() && self.one_more()
    }

    fn expected(&self) -> String {
        format!("one array of all elements, or arrays nested as the shape {:?}", self.extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(json: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        read(json, DType::F32, shape.to_vec(), "inputs[0].data")
            .map(|tensor| tensor.into_vec().unwrap())
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn flat_and_nested_are_the_same() {
        let expect = Ok(vec![1.0, -2.5, 3e2, 0.0, 5.0, 6.0]);
        for json in ["[1,-2.5,3e2,0,5,6]", " [ [1, -2.5 ,3E+2] ,\n[0,5,6 ]] ", "[1,-2.5,300.0,0.0,5,6.000]"] {
            assert_eq!(floats(json, &[2, 3]), expect, "{json}");
        }
        assert_eq!(floats("[[[1],[-2.5],[3e2]],[[0],[5],[6]]]", &[2, 3, 1]), expect);
        assert_eq!((floats("[]", &[0, 3]), floats("[7]", &[])), (Ok(vec![]), Ok(vec![7.0])));
        assert_eq!(floats("[[],[]]", &[2, 0]), Ok(vec![]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (json, shape, expect) in [
            ("[1,2]", &[3][..], "inputs[0].data: there are 2 elements [serve.data]\n  expected: 3"),
            ("[1,2,3,4]", &[3], "there are 4 elements"),
            ("[[1,2],[3]]", &[2, 2], "element 3, counted from 0, is not where the shape has it"),
            ("[[1,2],[3,4],[5,6]]", &[2, 2], "element 4"),
            ("[[1,2]]", &[2, 2], "element 2"),
            ("[[1],2]", &[2, 1], "element 1"),
            ("[1,[2]]", &[2, 1], "element 1"),
            ("[[[1]],[[2]]]", &[2, 1], "element 0"),
            ("[[1,2,3],[4]]", &[2, 2], "element 2"),
            ("7", &[1], "element 0"),
            ("[1,null]", &[2], "element 1, counted from 0, is no number"),
            ("[1,true]", &[2], "element 1, counted from 0, is no number"),
            ("[1,\"2\"]", &[2], "is no number"),
            ("[1,{}]", &[2], "is no number"),
            ("[1e39]", &[1], "element 0, counted from 0, is out of range"),
        ] {
            let found = floats(json, shape).unwrap_err();
            assert!(found.contains(expect), "{json}: {found}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(floats(&deep, &[1, 1]).unwrap_err().contains("is not where the shape has it"));
    }

    #[test]
    fn numbers_are_read_as_what_they_are() {
        // Through a double, this would be rounded twice, to the next number.
        let json = "[1.00000017881393432617187499]";
        assert_eq!(floats(json, &[1]), Ok(vec![1.000_000_1]));
        let of = |dtype, json: &str| read(json, dtype, vec![1], "x").map_err(|p| p.problem);
        assert_eq!(of(DType::I64, "[9223372036854775807]").unwrap().get_i64(0), i64::MAX);
        assert_eq!(of(DType::Bool, "[true]").unwrap().get_i64(0), 1);
        for (dtype, json, expect) in [
            (DType::U8, "[256]", "out of range"),
            (DType::U8, "[-1]", "out of range"),
            (DType::I32, "[1.0]", "no whole number"),
            (DType::I32, "[2147483648]", "out of range"),
            (DType::Bool, "[1]", "no truth value"),
            (DType::BF16, "[1]", "no form in JSON"),
        ] {
            let found = of(dtype, json).unwrap_err();
            assert!(found.contains(expect), "{json}: {found}");
        }
    }
}
