//! The functions that statements may call: those whose result follows from their arguments. Elementary functions are
//! those of `libm`, since the platform's differ from machine to machine.

use datafusion::arrow::array::{Array, ArrayRef, Float64Array};
use datafusion::arrow::compute::{binary, unary};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_float64_array;
use datafusion::error::Result;
use datafusion::functions::all_default_functions;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use std::sync::Arc;

/// What an elementary function computes.
enum Formula {
    One(fn(f64) -> f64),
    Two(fn(f64, f64) -> f64),
    /// Of one number, or of a base and a number.
    Either(fn(f64) -> f64, fn(f64, f64) -> f64),
}

/// Names and formulas.
const ELEMENTARY: &[(&str, &[&str], Formula)] = &[
    ("acos", &[], Formula::One(libm::acos)),
    ("acosh", &[], Formula::One(libm::acosh)),
    ("asin", &[], Formula::One(libm::asin)),
    ("asinh", &[], Formula::One(libm::asinh)),
    ("atan", &[], Formula::One(libm::atan)),
    ("atan2", &[], Formula::Two(libm::atan2)),
    ("atanh", &[], Formula::One(libm::atanh)),
    ("cbrt", &[], Formula::One(libm::cbrt)),
    ("cos", &[], Formula::One(libm::cos)),
    ("cosh", &[], Formula::One(libm::cosh)),
    ("cot", &[], Formula::One(|x| 1.0 / libm::tan(x))),
    ("exp", &[], Formula::One(libm::exp)),
    ("ln", &[], Formula::One(libm::log)),
    ("log", &[], Formula::Either(libm::log10, log)),
    ("log10", &[], Formula::One(libm::log10)),
    ("log2", &[], Formula::One(libm::log2)),
    ("power", &["pow"], Formula::Two(libm::pow)),
    ("sin", &[], Formula::One(libm::sin)),
    ("sinh", &[], Formula::One(libm::sinh)),
    ("tan", &[], Formula::One(libm::tan)),
    ("tanh", &[], Formula::One(libm::tanh)),
];

fn log(base: f64, x: f64) -> f64 {
    match base {
        2.0 => libm::log2(x),
        10.0 => libm::log10(x),
        _ => libm::log(x) / libm::log(base),
    }
}

/// Every function that a statement may call on values.
pub fn scalar() -> Vec<Arc<ScalarUDF>> {
    let ours = |name: &str| ELEMENTARY.iter().any(|(known, _, _)| *known == name);
    let theirs = all_default_functions().into_iter().filter(|f| is_stable(f) && !ours(f.name()));
    let elementary = (0..ELEMENTARY.len()).map(|entry| Arc::new(ScalarUDF::from(Elementary::new(entry))));
    theirs.chain(elementary).collect()
}

/// Names of the functions that there are, but that give something else each time.
pub fn unstable() -> Vec<String> {
    let functions = all_default_functions().into_iter().filter(|f| !is_stable(f));
    functions.flat_map(|f| [&[f.name().to_owned()], f.aliases()].concat()).collect()
}

fn is_stable(function: &ScalarUDF) -> bool {
    function.signature().volatility == Volatility::Immutable
}

/// A function of [`ELEMENTARY`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct Elementary {
    entry: usize,
    aliases: Vec<String>,
    signature: Signature,
}

impl Elementary {
    fn new(entry: usize) -> Self {
        let (_, aliases, formula) = &ELEMENTARY[entry];
        let numbers = |n| TypeSignature::Exact(vec![DataType::Float64; n]);
        let takes = match formula {
            Formula::One(_) => numbers(1),
            Formula::Two(_) => numbers(2),
            Formula::Either(..) => TypeSignature::OneOf(vec![numbers(1), numbers(2)]),
        };
        let aliases = aliases.iter().map(|a| (*a).to_owned()).collect();
        Self { entry, aliases, signature: Signature::new(takes, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Elementary {
    fn name(&self) -> &str {
        ELEMENTARY[self.entry].0
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let numbers = arrays.iter().map(|a| as_float64_array(a)).collect::<Result<Vec<_>>>()?;
        let result: Float64Array = match (&ELEMENTARY[self.entry].2, numbers.as_slice()) {
            (Formula::One(f) | Formula::Either(f, _), [x]) => unary(*x, f),
            (Formula::Two(f) | Formula::Either(_, f), [x, y]) => binary(x, y, f)?,
            _ => return datafusion::common::internal_err!("{} takes other arguments", self.name()),
        };
        let result: ArrayRef = Arc::new(result);
        if constant && result.len() == 1 {
            return Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}
