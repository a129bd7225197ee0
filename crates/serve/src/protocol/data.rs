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
        DType::Bool => read_as(json, shape, &place("BOOL"), none, |token| match token {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is no truth value"),
        }),
        DType::U8 => read_as(json, shape, &place("UINT8"), none, integer::<u8>),
        DType::I32 => read_as(json, shape, &place("INT32"), none, integer::<i32>),
        DType::I64 => read_as(json, shape, &place("INT64"), none, integer::<i64>),
        DType::F32 => {
            let finite = |x: &f32| x.is_finite();
            let quick = |bytes: &[u8]| decimal(bytes).and_then(|(x, length)| Some((nearest_f32(x)?, length)));
            read_as(json, shape, &place("FP32"), quick, |token| float(token, finite))
        }
        DType::F64 => {
            let finite = |x: &f64| x.is_finite();
            read_as(json, shape, &place("FP64"), decimal, |token| float(token, finite))
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

/// Powers of ten that doubles hold exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// More digits might not fit into a word of 64 bits.
const DIGITS_MAX: usize = 19;
/// No power of ten that is a double's has a larger exponent, by far.
const EXPONENT_MAX: i32 = 1000;

/// The eight digits that a piece begins with, as a number.
fn eight_digits(bytes: &[u8]) -> Option<u64> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    // '0' to '9' are 0x30 to 0x39: six more than '9' would reach the next half byte.
    let halves = |word: u64| word & (0xf0 * EACH) == 0x30 * EACH;
    if !halves(word) || !halves(word.wrapping_add(6 * EACH)) {
        return None;
    }
    // Neighbours are put together: first digits, then pairs, then fours.
    let digits = word - 0x30 * EACH;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff)
}

/// Reads on a number by the digits that follow, and gives how many there were. Of too many, it loses the first.
fn digits(bytes: &[u8], number: &mut u64) -> usize {
    let mut at = 0;
    while let Some(eight) = eight_digits(&bytes[at..]) {
        *number = number.wrapping_mul(100_000_000).wrapping_add(eight);
        at += 8;
    }
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        *number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    at
}

/// The double that is nearest to the decimal number that a piece begins with, and the number's bytes, where one operation
/// finds it: digits that a double holds exactly and a power of ten that it holds too, whose quotient or product is rounded
/// once (Clinger, "How to read floating point numbers accurately", 1990). Most numbers that people and programs write are
/// such; nothing of others.
fn decimal(bytes: &[u8]) -> Option<(f64, usize)> {
    let negative = bytes.first() == Some(&b'-');
    let (mut at, mut mantissa) = (usize::from(negative), 0);
    let mut count = digits(&bytes[at..], &mut mantissa);
    if count == 0 {
        return None;
    }
    at += count;
    let mut power = 0;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(&bytes[at + 1..], &mut mantissa);
        at += 1 + fraction;
        count += fraction;
        power = -i32::try_from(fraction).ok()?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = bytes.get(at + 1).filter(|byte| matches!(byte, b'+' | b'-'));
        at += 1 + usize::from(sign.is_some());
        let mut exponent = 0;
        let length = digits(&bytes[at..], &mut exponent);
        let exponent =
            i32::try_from(exponent).ok().filter(|n| *n < EXPONENT_MAX && (1..9).contains(&length))?;
        power += if sign == Some(&b'-') { -exponent } else { exponent };
        at += length;
    }
    if count > DIGITS_MAX || mantissa > 1 << f64::MANTISSA_DIGITS {
        return None;
    }
    let by = *POWERS.get(power.unsigned_abs() as usize)?;
    let x = if power < 0 { mantissa as f64 / by } else { mantissa as f64 * by };
    Some((if negative { -x } else { x }, at))
}

/// The float that is nearest to the number that this double is nearest to. Rounding twice is rounding once, unless the
/// double lies in the middle between two floats: the number itself may lie to either side.
fn nearest_f32(x: f64) -> Option<f32> {
    const BELOW: u32 = f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS;
    let is_middle = x.to_bits() & ((1 << BELOW) - 1) == 1 << (BELOW - 1);
    // Floats near zero have fewer digits, and their middles elsewhere.
    let is_usual = x == 0.0 || (f64::from(f32::MIN_POSITIVE)..f64::from(f32::MAX)).contains(&x.abs());
    (is_usual && !is_middle).then_some(x as f32)
}

/// Nothing is read quickly.
fn none<T>(_: &[u8]) -> Option<(T, usize)> {
    None
}

/// Reads elements: by `quick` from the piece that begins with one, where it can and what follows ends the element, and
/// otherwise by `parse`.
fn read_as<T: Element>(
    json: &str,
    shape: Vec<usize>,
    place: &Place<'_>,
    quick: impl Fn(&[u8]) -> Option<(T, usize)>,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<Tensor, Diagnostic> {
    let count: usize = shape.iter().product();
    // An element is a digit and a comma at least.
    let mut elements = Vec::with_capacity(count.min(json.len() / 2 + 1));
    let mut nesting = Nesting::new(json, &shape);
    let mut rest = json;
    loop {
        let between = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b',');
        let skipped = rest.as_bytes().iter().position(|byte| !between(byte)).unwrap_or(rest.len());
        rest = &rest[skipped..];
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
                let is_end = |byte: &u8| matches!(byte, b',' | b']' | b' ' | b'\n' | b'\r' | b'\t');
                let bytes = rest.as_bytes();
                if let Some((element, length)) = quick(bytes)
                    && bytes.get(length).is_none_or(is_end)
                {
                    elements.push(element);
                    rest = &rest[length..];
                    continue;
                }
                let end = bytes.iter().position(is_end).unwrap_or(rest.len());
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
        // The middle between two floats, and what is so close to it that doubles cannot tell.
        for json in ["[1.00000005960464477539062500]", "[1.000000059604644776]", "[1.000000059604644775]"] {
            let text = json.trim_matches(['[', ']']);
            assert_eq!(floats(json, &[1]), Ok(vec![text.parse().unwrap()]), "{json}");
        }
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

    #[test]
    fn short_numbers_are_read_as_long_ones_are() {
        let mut random = 1u64;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let mut short = 0;
        for _ in 0..200_000 {
            let digits = |below: &mut dyn FnMut(u64) -> u64, n: u64| -> String {
                (0..n).map(|_| char::from(b'0' + below(10) as u8)).collect()
            };
            let mut text = ["", "-"][below(2) as usize].to_owned() + &below(1000).to_string();
            if below(4) > 0 {
                let n = 1 + below(18);
                text = format!("{text}.{}", digits(&mut below, n));
            }
            if below(3) == 0 {
                text += [&"e", &"E", &"e+", &"e-"][below(4) as usize];
                text += &below(45).to_string();
            }
            if let Some((x, length)) = decimal(text.as_bytes()) {
                assert_eq!(length, text.len(), "{text}");
                assert_eq!(x.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
                if let Some(y) = nearest_f32(x) {
                    short += 1;
                    assert_eq!(y.to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
                }
            }
        }
        assert!(short > 100_000, "{short}");
        for text in
            ["", "-", ".5", "-.5", "+1", "1e", "1e+", "1e99999", "inf", "12345678901234567890", "1e23"]
        {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
        for (text, expect) in
            [("1..2", (1.0, 2)), ("0x1", (0.0, 1)), ("1-2", (1.0, 1)), ("12345678,", (12_345_678.0, 8))]
        {
            assert_eq!(decimal(text.as_bytes()), Some(expect), "{text}");
            assert!(text.ends_with(',') || floats(&format!("[{text}]"), &[1]).is_err(), "{text}");
        }
        assert_eq!(decimal(b"-0").map(|(x, _)| x.to_bits()), Some((-0.0f64).to_bits()));
    }
}
