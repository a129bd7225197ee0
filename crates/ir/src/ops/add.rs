//! `add`: the sum; integers wrap.


crate::ops::elementwise::binary! {
    /// The sum; integers wrap.
    Add, "add", Numbers,
    float: |x, y| x + y,
    int: i64::wrapping_add,
    vjp: |_, _, _, _, g| [Some(g), Some(g)],
    sample: |d| [SampleInput::float(d), SampleInput::float(d)]
}

impl Builder {
    /// The sum; integers wrap. The operands are broadcast to a common shape.
    pub fn add(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Add, &[x, y])
    }
}
