//! `mul`: the product; integers wrap.


crate::ops::elementwise::binary! {
    /// The product; integers wrap.
    Mul, "mul", Numbers,
    float: |x, y| x * y,
    int: i64::wrapping_mul,
    vjp: |b, x, y, _, g| [Some(b.mul(g, y)), Some(b.mul(g, x))],
    sample: |d| [SampleInput::float(d), SampleInput::float(d)]
}

impl Builder {
    /// The product; integers wrap. The operands are broadcast to a common shape.
    pub fn mul(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Mul, &[x, y])
    }
}
