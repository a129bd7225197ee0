//! `log`: the natural logarithm.

crate::ops::elementwise::unary! {
    /// The natural logarithm.
    Log, "log", Floats,
    float: libm::log,
    int: |x| x,
    vjp: |b, x, _, g| Some(b.div(g, x)),
    sample: SampleInput::positive
}

impl Builder {
    /// The natural logarithm.
    pub fn log(&mut self, x: Value) -> Value {
        self.push(Log, &[x])
    }
}
