//! `not`: logical negation.

crate::ops::elementwise::unary! {
    /// Logical negation.
    Not, "not", Booleans,
    float: |x| x,
    int: |x| i64::from(x == 0),
    vjp: |_, _, _, _| None,
    sample: SampleInput::boolean
}

impl Builder {
    /// Logical negation.
    pub fn not(&mut self, x: Value) -> Value {
        self.push(Not, &[x])
    }
}
