//! `sign`: -1, 0 or 1 (NaN stays NaN); no gradient flows.

crate::ops::elementwise::unary! {
    /// -1, 0 or 1 (NaN stays NaN); no gradient flows.
    Sign, "sign", Numbers,
    float: |x| if x == 0.0 || x.is_nan() { x } else { x.signum() },
    int: i64::signum,
    vjp: |_, _, _, _| None,
    sample: SampleInput::float
}

impl Builder {
    /// -1, 0 or 1 (NaN stays NaN); no gradient flows.
    pub fn sign(&mut self, x: Value) -> Value {
        self.push(Sign, &[x])
    }
}
