//! `sin`: the sine.

crate::ops::elementwise::unary! {
    /// The sine.
    Sin, "sin", Floats,
    float: libm::sin,
    int: |x| x,
    vjp: |b, x, _, g| {
        let cos = b.cos(x);
        Some(b.mul(g, cos))
    },
    sample: SampleInput::float
}

impl Builder {
    /// The sine.
    pub fn sin(&mut self, x: Value) -> Value {
        self.push(Sin, &[x])
    }
}
