//! `neg`: `-x`; integers wrap.

crate::ops::elementwise::unary! {
    /// `-x`; integers wrap.
    Neg, "neg", Numbers,
    float: |x| -x,
    int: i64::wrapping_neg,
    vjp: |b, _, _, g| Some(b.neg(g)),
    sample: SampleInput::float
}

impl Builder {
    /// `-x`; integers wrap.
    pub fn neg(&mut self, x: Value) -> Value {
        self.push(Neg, &[x])
    }
}
