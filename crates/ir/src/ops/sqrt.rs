//! `sqrt`: the square root.

crate::ops::elementwise::unary! {
    /// The square root.
    Sqrt, "sqrt", Floats,
    float: f64::sqrt,
    int: |x| x,
    vjp: |b, _, y, g| {
        let twice = b.add(y, y);
        Some(b.div(g, twice))
    },
    sample: SampleInput::positive
}

impl Builder {
    /// The square root.
    pub fn sqrt(&mut self, x: Value) -> Value {
        self.push(Sqrt, &[x])
    }
}
