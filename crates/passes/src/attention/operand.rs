//! An operand of attention as another value with its elements in another order: what reshapes and transposes between the
//! two come to.

use super::constants::Constants;
use outgrow_ir::{Builder, Dim, Op, Value};

/// What a dimension of an operand is to attention.
const BATCH: usize = 0;
const TOKENS: usize = 1;
const WIDTH: usize = 2;

/// A value's dimensions, cut into atoms: each dimension of the operand is some of them in a row, and so is each of the base,
/// from which it follows by reshapes and transposes. Dimensions of 1 have none.
#[derive(Debug)]
pub(super) struct Operand {
    /// The value that the operand is an arrangement of.
    pub base: Value,
    /// What the base is multiplied by.
    pub scale: f64,
    extents: Vec<Dim>,
    /// The atoms of each dimension of the base.
    axes: Vec<Vec<usize>>,
    /// The atoms of the batch's dimensions, of the tokens and of the width.
    roles: [Vec<usize>; 3],
}

impl Operand {
    /// A value of these batch dimensions and two more, of which `inner` is the contracted one: the width where
    /// `of_scores` says that it is of the product that scores are, else the tokens. Of that product, multiplications by
    /// numbers are taken out.
    pub fn of(
        constants: &mut Constants<'_>,
        value: Value,
        batch: &[usize],
        inner: usize,
        of_scores: bool,
    ) -> Option<Self> {
        let dims = &constants.graph.ty(value).dims;
        if dims.contains(&Dim::Fixed(0)) {
            return None;
        }
        let mut free = (0..dims.len()).filter(|i| *i != inner && !batch.contains(i));
        let (Some(free), None) = (free.next(), free.next()) else { return None };
        let mut new = Self {
            base: value,
            scale: 1.0,
            extents: Vec::new(),
            axes: vec![Vec::new(); dims.len()],
            roles: [const { Vec::new() }; 3],
        };
        for (axis, dim) in dims.iter().enumerate().filter(|(_, dim)| **dim != Dim::Fixed(1)) {
            new.axes[axis].push(new.extents.len());
            new.extents.push(*dim);
        }
        let (tokens, width) = if of_scores { (free, inner) } else { (inner, free) };
        new.roles = [
            batch.iter().flat_map(|axis| new.axes[*axis].clone()).collect(),
            new.axes[tokens].clone(),
            new.axes[width].clone(),
        ];
        while new.step_back(constants, of_scores).is_some() {}
        Some(new)
    }

    /// Takes what the base is an arrangement of for the base, if it is one.
    fn step_back(&mut self, constants: &mut Constants<'_>, scaled: bool) -> Option<()> {
        let graph = constants.graph;
        let node = graph.node(self.base);
        let before = *node.inputs.first()?;
        let from = graph.ty(before);
        match &node.op {
            Op::Transpose(op) => {
                let mut axes = vec![Vec::new(); from.rank()];
                op.axes.iter().zip(&self.axes).for_each(|(to, atoms)| axes[*to].clone_from(atoms));
                self.axes = axes;
            }
            Op::Reshape(_) => self.axes = self.grouped(self.axes.concat(), &from.dims)?,
            // Only where it puts in dimensions of 1.
            Op::Broadcast(op) => {
                let kept = op.axes.iter().zip(&from.dims).all(|(to, dim)| node.ty.dims[*to] == *dim);
                let one = |axis| op.axes.contains(&axis) || node.ty.dims[axis] == Dim::Fixed(1);
                if !kept || !(0..node.ty.rank()).all(one) {
                    return None;
                }
                self.axes = op.axes.iter().map(|to| self.axes[*to].clone()).collect();
            }
            Op::Cast(_) if from.dtype == node.ty.dtype => {}
            _ if scaled => {
                let (before, by) = constants.scaled(self.base)?;
                (self.base, self.scale) = (before, self.scale * by);
                return Some(());
            }
            _ => return None,
        }
        self.base = before;
        Some(())
    }

    /// Atoms in a row as those of dimensions, cut further where a dimension ends within one.
    fn grouped(&mut self, atoms: Vec<usize>, dims: &[Dim]) -> Option<Vec<Vec<usize>>> {
        let mut left: Vec<usize> = atoms.into_iter().rev().collect();
        let mut groups = Vec::new();
        for dim in dims {
            let (mut rest, mut group) = (*dim, Vec::new());
            while rest != Dim::Fixed(1) {
                let atom = left.pop()?;
                let extent = self.extents[atom];
                rest = match quotient(rest, extent) {
                    Some(rest) => rest,
                    None => {
                        left.push(self.cut(atom, rest, quotient(extent, rest)?));
                        Dim::Fixed(1)
                    }
                };
                group.push(atom);
            }
            groups.push(group);
        }
        left.is_empty().then_some(groups)
    }

    /// Cuts an atom in two, of which the second gets a new number.
    fn cut(&mut self, atom: usize, first: Dim, second: Dim) -> usize {
        let new = self.extents.len();
        self.extents[atom] = first;
        self.extents.push(second);
        for atoms in self.axes.iter_mut().chain(&mut self.roles) {
            if let Some(at) = atoms.iter().position(|a| *a == atom) {
                atoms.insert(at + 1, new);
            }
        }
        new
    }

    /// Cuts the atoms of the batches of two operands until they have the same extents, if they can be.
    pub fn align(x: &mut Self, y: &mut Self) -> Option<()> {
        for i in 0.. {
            let (a, b) = match (x.roles[BATCH].get(i), y.roles[BATCH].get(i)) {
                (Some(a), Some(b)) => (*a, *b),
                (None, None) => break,
                _ => return None,
            };
            let (m, n) = (x.extents[a], y.extents[b]);
            if m == n {
                continue;
            }
            match (quotient(m, n), quotient(n, m)) {
                (Some(rest), _) => x.cut(a, n, rest),
                (None, Some(rest)) => y.cut(b, m, rest),
                (None, None) => return None,
            };
        }
        Some(())
    }

    /// How many atoms of the batch come before the tokens in the base, so that no element of it needs to move; more
    /// where the others are not all known.
    pub fn batch_before_tokens(&self) -> usize {
        let batch = &self.roles[BATCH];
        let known =
            batch.iter().rposition(|atom| self.extents[*atom].fixed().is_none()).map_or(0, |at| at + 1);
        let order = self.axes.concat();
        let Some(tokens) = self.roles[TOKENS].first().and_then(|t| order.iter().position(|a| a == t)) else {
            return batch.len();
        };
        let before = order[..tokens].iter().filter(|atom| batch.contains(atom)).count();
        let first = batch[..before].iter().all(|atom| order[..tokens].contains(atom));
        if first { before.max(known) } else { batch.len() }
    }

    /// The extents of the batch's atoms.
    pub fn batch_extents(&self) -> Vec<Dim> {
        self.extents_of(&self.roles[BATCH])
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> Option<Dim> {
        Dim::product(&self.extents_of(&self.roles[TOKENS]))
    }

    /// Elements of a token in one head.
    pub fn width(&self) -> Option<Dim> {
        Dim::product(&self.extents_of(&self.roles[WIDTH]))
    }

    fn extents_of(&self, atoms: &[usize]) -> Vec<Dim> {
        atoms.iter().map(|atom| self.extents[*atom]).collect()
    }

    /// The operand as `[batch, tokens, heads, width]`, of which the first `cut` atoms of the batch are the batch, without
    /// its scale.
    pub fn build(&self, b: &mut Builder, base: Value, cut: usize) -> Value {
        let (order, batch) = (self.axes.concat(), &self.roles[BATCH]);
        let parts = [&batch[..cut], &self.roles[TOKENS], &batch[cut..], &self.roles[WIDTH]];
        let wanted = parts.concat();
        let place = |atom: &usize| order.iter().position(|a| a == atom).unwrap_or_default();
        let moved: Vec<usize> = wanted.iter().map(place).collect();
        let product = |part: &[usize]| Dim::product(&self.extents_of(part));
        let Some(dims) = parts.into_iter().map(product).collect::<Option<Vec<Dim>>>() else {
            return b.error("the dimensions of attention overflow");
        };
        if moved.is_sorted() {
            return b.reshape(base, &dims);
        }
        let atoms = b.reshape(base, &self.extents_of(&order));
        let atoms = b.transpose(atoms, &moved);
        b.reshape(atoms, &dims)
    }
}

/// A dimension over another, if that divides it.
fn quotient(dim: Dim, by: Dim) -> Option<Dim> {
    let ((m, symbols), (n, others)) = (dim.parts(), by.parts());
    (n != 0 && m % n == 0).then(|| symbols.over(others).map(|rest| Dim::multiple(m / n, rest)))?
}
