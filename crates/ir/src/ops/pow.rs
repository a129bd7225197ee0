//! `pow`: `x` to the power of `y`, as IEEE 754's `pow`. The gradient by `y` counts only where `x > 0`.

use crate::ops::compare::Comparison;

crate::ops::elementwise::binary! {
    /// `x` to the power of `y`, as IEEE 754's `pow`. The gradient by `y` counts only where `x > 0`.
    Pow, "pow", Floats,
    float: libm::pow,
    int: |x, _| x,
    vjp: |b, x, y, z, g| {
        let one = b.add_scalar(y, -1.0);
        let lower = b.pow(x, one);
        let slope = b.mul(y, lower);
        let log = b.log(x);
        let growth = b.mul(z, log);
        let zero = b.zeros_like(x);
        let positive = b.compare(Comparison::Gt, x, zero);
        let growth = b.select(positive, growth, zero);
        [Some(b.mul(g, slope)), Some(b.mul(g, growth))]
    },
    sample: |d| [SampleInput::positive(d), SampleInput::float(d)]
}

impl Builder {
    /// `x` to the power of `y`, as IEEE 754's `pow`. The gradient by `y` counts only where `x > 0`. The operands are broadcast to a common shape.
    pub fn pow(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Pow, &[x, y])
    }
}
