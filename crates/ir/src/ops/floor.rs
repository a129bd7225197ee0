//! `floor`: the largest integer not above; no gradient flows.

crate::ops::elementwise::unary! {
    /// The largest integer not above; no gradient flows.
    Floor, "floor", Floats,
    float: f64::floor,
    int: |x| x,
    vjp: |_, _, _, _| None,
    sample: SampleInput::float
}

impl Builder {
    /// The largest integer not above; no gradient flows.
    pub fn floor(&mut self, x: Value) -> Value {
        self.push(Floor, &[x])
    }
}
