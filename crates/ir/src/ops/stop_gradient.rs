//! `stop_gradient`: the identity, through which no gradient flows.

crate::ops::elementwise::unary! {
    /// The identity, through which no gradient flows.
    StopGradient, "stop_gradient", Anything,
    float: |x| x,
    int: |x| x,
    vjp: |_, _, _, _| None,
    sample: SampleInput::float
}

impl Builder {
    /// The identity, through which no gradient flows.
    pub fn stop_gradient(&mut self, x: Value) -> Value {
        self.push(StopGradient, &[x])
    }
}
