//! `abs`: the absolute value; its derivative at 0 is 0.

crate::ops::elementwise::unary! {
    /// The absolute value; its derivative at 0 is 0.
    Abs, "abs", Numbers,
    float: f64::abs,
    int: i64::wrapping_abs,
    vjp: |b, x, _, g| {
        let sign = b.sign(x);
        Some(b.mul(g, sign))
    },
    sample: SampleInput::positive
}

impl Builder {
    /// The absolute value; its derivative at 0 is 0.
    pub fn abs(&mut self, x: Value) -> Value {
        self.push(Abs, &[x])
    }
}
