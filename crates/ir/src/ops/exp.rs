//! `exp`: the exponential function.

crate::ops::elementwise::unary! {
    /// The exponential function.
    Exp, "exp", Floats,
    float: libm::exp,
    int: |x| x,
    vjp: |b, _, y, g| Some(b.mul(g, y)),
    sample: SampleInput::float
}

impl Builder {
    /// The exponential function.
    pub fn exp(&mut self, x: Value) -> Value {
        self.push(Exp, &[x])
    }
}
