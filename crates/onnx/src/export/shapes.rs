//! Shapes in the model: constants where they can be, computed from the shapes of inputs where they must.

use super::emit::{Emitter, int};
use outgrow_ir::{Diagnostic, Dim, Symbol, Value};

impl Emitter<'_> {
    /// The name of `i64 [1]` with what a symbol stands for.
    fn symbol(&mut self, symbol: Symbol) -> Result<String, Diagnostic> {
        if let Some(name) = self.symbols.get(&symbol) {
            return Ok(name.clone());
        }
        let Some((input, axis, factor)) = self.told_by.get(&symbol).cloned() else {
            return Err(Diagnostic::new(
                "onnx.export",
                format!("no input of the model tells what {symbol} is"),
            )
            .expected("an input with a dimension that is a multiple of it"));
        };
        let ends = vec![int("start", axis as i64), int("end", axis as i64 + 1)];
        let mut name = self.node("Shape", &[input], ends, "");
        if factor > 1 {
            let factor = self.integers(&[factor as i64]);
            name = self.node("Div", &[name, factor], vec![], "");
        }
        self.symbols.insert(symbol, name.clone());
        Ok(name)
    }

    /// The name of `i64 [1]` with an extent.
    pub fn extent(&mut self, dim: Dim) -> Result<String, Diagnostic> {
        let (times, symbols) = dim.parts();
        let mut product = match (times, symbols.factors().next()) {
            (1, Some(_)) => None,
            _ => Some(self.integers(&[times as i64])),
        };
        for symbol in symbols.factors() {
            let factor = self.symbol(symbol)?;
            product = Some(match product {
                Some(product) => self.node("Mul", &[factor, product], vec![], ""),
                None => factor,
            });
        }
        product.ok_or_else(|| Diagnostic::fault("onnx.export", "an extent is something"))
    }

    /// The name of `i64 [rank]` with these extents.
    pub fn shape(&mut self, dims: &[Dim]) -> Result<String, Diagnostic> {
        if let Some(fixed) = dims.iter().map(|d| d.fixed().map(|n| n as i64)).collect::<Option<Vec<_>>>() {
            return Ok(self.integers(&fixed));
        }
        let parts = dims.iter().map(|dim| self.extent(*dim)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.node("Concat", &parts, vec![int("axis", 0)], ""))
    }

    /// A value under other dimensions.
    pub fn reshaped(&mut self, name: String, dims: &[Dim], about: &str) -> Result<String, Diagnostic> {
        let symbolic = dims.iter().filter(|d| d.fixed().is_none()).count();
        let shape = match symbolic {
            // One extent may be left to be found.
            1 if !dims.contains(&Dim::Fixed(0)) => {
                let extents: Vec<i64> = dims.iter().map(|d| d.fixed().map_or(-1, |n| n as i64)).collect();
                self.integers(&extents)
            }
            _ => self.shape(dims)?,
        };
        Ok(self.node("Reshape", &[name, shape], vec![], about))
    }

    /// The dimensions that elementwise operators give for values of these.
    pub fn joined(&self, value: Value, operands: &[Vec<Dim>]) -> Vec<Dim> {
        let rank = operands.iter().map(Vec::len).max().unwrap_or(0);
        let whole = &self.graph.ty(value).dims;
        (0..rank)
            .map(|back| {
                let of = |dims: &Vec<Dim>| dims.len().checked_sub(back + 1).map(|i| dims[i]);
                let repeated = operands.iter().all(|dims| of(dims).is_none_or(|d| d == Dim::Fixed(1)));
                if repeated { Dim::Fixed(1) } else { whole[whole.len() - 1 - back] }
            })
            .rev()
            .collect()
    }
}
