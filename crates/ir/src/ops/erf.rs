//! `erf`: the error function; its derivative is `2 / sqrt(pi) * exp(-x^2)`.

crate::ops::elementwise::unary! {
    /// The error function; its derivative is `2 / sqrt(pi) * exp(-x^2)`.
    Erf, "erf", Floats,
    float: libm::erf,
    int: |x| x,
    vjp: |b, x, _, g| {
        let square = b.mul(x, x);
        let minus = b.neg(square);
        let bell = b.exp(minus);
        let slope = b.mul_scalar(bell, std::f64::consts::FRAC_2_SQRT_PI);
        Some(b.mul(g, slope))
    },
    sample: SampleInput::float
}

impl Builder {
    /// The error function; its derivative is `2 / sqrt(pi) * exp(-x^2)`.
    pub fn erf(&mut self, x: Value) -> Value {
        self.push(Erf, &[x])
    }
}
