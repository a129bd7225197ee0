//! `and`: logical conjunction.


crate::ops::elementwise::binary! {
    /// Logical conjunction.
    And, "and", Booleans,
    float: |x, _| x,
    int: |x, y| x & y,
    vjp: |_, _, _, _, _| [None, None],
    sample: |d| [SampleInput::boolean(d), SampleInput::boolean(d)]
}

impl Builder {
    /// Logical conjunction. The operands are broadcast to a common shape.
    pub fn and(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(And, &[x, y])
    }
}
