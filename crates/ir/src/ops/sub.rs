//! `sub`: the difference; integers wrap.


crate::ops::elementwise::binary! {
    /// The difference; integers wrap.
    Sub, "sub", Numbers,
    float: |x, y| x - y,
    int: i64::wrapping_sub,
    vjp: |b, _, _, _, g| [Some(g), Some(b.neg(g))],
    sample: |d| [SampleInput::float(d), SampleInput::float(d)]
}

impl Builder {
    /// The difference; integers wrap. The operands are broadcast to a common shape.
    pub fn sub(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Sub, &[x, y])
    }
}
