//! `div`: the quotient; integers truncate, and anything by zero is 0.


crate::ops::elementwise::binary! {
    /// The quotient; integers truncate, and anything by zero is 0.
    Div, "div", Numbers,
    float: |x, y| x / y,
    int: |x, y| if y == 0 { 0 } else { x.wrapping_div(y) },
    vjp: |b, _, y, z, g| {
        let dx = b.div(g, y);
        let dy = b.mul(dx, z);
        [Some(dx), Some(b.neg(dy))]
    },
    sample: |d| [SampleInput::float(d), SampleInput::positive(d)]
}

impl Builder {
    /// The quotient; integers truncate, and anything by zero is 0. The operands are broadcast to a common shape.
    pub fn div(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Div, &[x, y])
    }
}
