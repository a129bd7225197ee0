//! `tanh`: the hyperbolic tangent.

crate::ops::elementwise::unary! {
    /// The hyperbolic tangent.
    Tanh, "tanh", Floats,
    float: libm::tanh,
    int: |x| x,
    vjp: |b, _, y, g| {
        let square = b.mul(y, y);
        let slope = b.one_minus(square);
        Some(b.mul(g, slope))
    },
    sample: SampleInput::float
}

impl Builder {
    /// The hyperbolic tangent.
    pub fn tanh(&mut self, x: Value) -> Value {
        self.push(Tanh, &[x])
    }
}
