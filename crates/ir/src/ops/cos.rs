//! `cos`: the cosine.

crate::ops::elementwise::unary! {
    /// The cosine.
    Cos, "cos", Floats,
    float: libm::cos,
    int: |x| x,
    vjp: |b, x, _, g| {
        let sin = b.sin(x);
        let minus = b.neg(sin);
        Some(b.mul(g, minus))
    },
    sample: SampleInput::float
}

impl Builder {
    /// The cosine.
    pub fn cos(&mut self, x: Value) -> Value {
        self.push(Cos, &[x])
    }
}
