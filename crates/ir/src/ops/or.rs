//! `or`: logical disjunction.


crate::ops::elementwise::binary! {
    /// Logical disjunction.
    Or, "or", Booleans,
    float: |x, _| x,
    int: |x, y| x | y,
    vjp: |_, _, _, _, _| [None, None],
    sample: |d| [SampleInput::boolean(d), SampleInput::boolean(d)]
}

impl Builder {
    /// Logical disjunction. The operands are broadcast to a common shape.
    pub fn or(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Or, &[x, y])
    }
}
