//! `min`: the lesser; NaN if either is. At ties the gradient goes to the first.

use crate::ops::compare::Comparison;

crate::ops::elementwise::binary! {
    /// The lesser; NaN if either is. At ties the gradient goes to the first.
    Min, "min", Numbers,
    float: |x, y| if x.is_nan() || x < y { x } else { y },
    int: std::cmp::min,
    vjp: |b, x, y, _, g| {
        let take = b.compare(Comparison::Le, x, y);
        let zero = b.zeros_like(g);
        [Some(b.select(take, g, zero)), Some(b.select(take, zero, g))]
    },
    sample: |d| [SampleInput::float(d), SampleInput::float(d)]
}

impl Builder {
    /// The lesser; NaN if either is. At ties the gradient goes to the first. The operands are broadcast to a common shape.
    pub fn min(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = self.broadcast_together(x, y);
        self.push(Min, &[x, y])
    }
}
