//! Comparisons, truth values and choice.

use super::arithmetic::pair;
use super::{Rule, op};
use crate::Elem;
use crate::cx::{Cx, Lowered, invalid};
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Builder, Value};

pub(super) const RULES: &[Rule] = &[
    op("And", |cx| logic(cx, Builder::and)),
    op("Equal", |cx| relation(cx, Comparison::Eq)),
    op("Greater", |cx| relation(cx, Comparison::Gt)),
    op("GreaterOrEqual", |cx| relation(cx, Comparison::Ge)),
    op("Less", |cx| relation(cx, Comparison::Lt)),
    op("LessOrEqual", |cx| relation(cx, Comparison::Le)),
    op("Or", |cx| logic(cx, Builder::or)),
    op("Where", choose),
    op("Xor", |cx| relation(cx, Comparison::Ne)),
];

fn relation(cx: &mut Cx<'_>, is: Comparison) -> Lowered {
    let (_, x, y) = pair(cx)?;
    let z = cx.b.compare(is, x, y);
    cx.one(Elem::Bool, z)
}

fn logic(cx: &mut Cx<'_>, f: fn(&mut Builder, Value, Value) -> Value) -> Lowered {
    let (elem, x, y) = pair(cx)?;
    if elem != Elem::Bool {
        return invalid("takes truth values");
    }
    let (x, y) = cx.b.broadcast_together(x, y);
    let z = f(cx.b, x, y);
    cx.one(Elem::Bool, z)
}

fn choose(cx: &mut Cx<'_>) -> Lowered {
    let (elem, condition, x, y) = (cx.elem(1)?, cx.x(0)?, cx.x(1)?, cx.x(2)?);
    if elem != cx.elem(2)? {
        return invalid("chooses between values of two element types");
    }
    let z = cx.b.select(condition, x, y);
    cx.one(elem, z)
}
