//! Fusion groups to block programs.

use super::location::Location;
use super::lower::Lowering;
use super::ops::unsupported;
use super::storage::Make;
use outgrow_ir::ops::compare::Comparison;
use outgrow_ir::{Diagnostics, Op, Value};
use outgrow_kernels::{BinaryOp, CompareOp, Instr, Map, Reduce, ReduceOp, ReduceSpec, Reg, UnaryOp, View};
use std::collections::HashMap;

/// A block program being written.
#[derive(Default)]
struct Code {
    instrs: Vec<Instr>,
    inputs: Vec<View>,
    registers: HashMap<Value, Reg>,
}

impl Code {
    fn push(&mut self, instr: Instr) -> Reg {
        if let Instr::Const(_) = instr
            && let Some(reg) = self.instrs.iter().position(|i| *i == instr)
        {
            return reg;
        }
        self.instrs.push(instr);
        self.instrs.len() - 1
    }

    /// The register that holds a value: computed before, loaded or a constant.
    fn operand(&mut self, lowering: &Lowering<'_>, value: Value) -> Reg {
        if let Some(reg) = self.registers.get(&value) {
            return *reg;
        }
        let reg = match lowering.place(value) {
            Location::Splat(number) => self.push(Instr::Const(number)),
            Location::View(view) => {
                let known = self.inputs.iter().position(|v| *v == view);
                let input = known.unwrap_or_else(|| {
                    self.inputs.push(view);
                    self.inputs.len() - 1
                });
                self.push(Instr::Load(input))
            }
        };
        self.registers.insert(value, reg);
        reg
    }

    /// Computes an elementwise node.
    fn node(&mut self, lowering: &Lowering<'_>, value: Value) -> Result<(), Diagnostics> {
        let node = lowering.graph.node(value);
        let args: Vec<Reg> = node.inputs.iter().map(|v| self.operand(lowering, *v)).collect();
        let unary = |op| Instr::Unary(op, args[0]);
        let binary = |op| Instr::Binary(op, args[0], args[1]);
        let instr = match &node.op {
            Op::Neg(_) => unary(UnaryOp::Neg),
            Op::Abs(_) => unary(UnaryOp::Abs),
            Op::Exp(_) => unary(UnaryOp::Exp),
            Op::Log(_) => unary(UnaryOp::Log),
            Op::Sqrt(_) => unary(UnaryOp::Sqrt),
            Op::Tanh(_) => unary(UnaryOp::Tanh),
            Op::Erf(_) => unary(UnaryOp::Erf),
            Op::Sin(_) => unary(UnaryOp::Sin),
            Op::Cos(_) => unary(UnaryOp::Cos),
            Op::Floor(_) => unary(UnaryOp::Floor),
            Op::Sign(_) => unary(UnaryOp::Sign),
            Op::Not(_) => unary(UnaryOp::Not),
            Op::Add(_) => binary(BinaryOp::Add),
            Op::Sub(_) => binary(BinaryOp::Sub),
            Op::Mul(_) => binary(BinaryOp::Mul),
            Op::Div(_) => binary(BinaryOp::Div),
            Op::Max(_) => binary(BinaryOp::Max),
            Op::Min(_) => binary(BinaryOp::Min),
            Op::Pow(_) => binary(BinaryOp::Pow),
            Op::And(_) => binary(BinaryOp::And),
            Op::Or(_) => binary(BinaryOp::Or),
            Op::Compare(c) => Instr::Compare(relation(c.is), args[0], args[1]),
            Op::Select(_) => Instr::Select(args[0], args[1], args[2]),
            Op::Cast(c) => Instr::Cast(args[0], c.dtype),
            Op::Iota(i) => Instr::Iota { dim: i.axis, dtype: i.dtype },
            Op::StopGradient(_) => {
                self.registers.insert(value, args[0]);
                return Ok(());
            }
            _ => return Err(unsupported(node)),
        };
        let reg = self.push(instr);
        self.registers.insert(value, reg);
        Ok(())
    }
}

fn relation(is: Comparison) -> CompareOp {
    match is {
        Comparison::Eq => CompareOp::Eq,
        Comparison::Ne => CompareOp::Ne,
        Comparison::Lt => CompareOp::Lt,
        Comparison::Le => CompareOp::Le,
        Comparison::Gt => CompareOp::Gt,
        Comparison::Ge => CompareOp::Ge,
    }
}

fn reduction(op: &Op) -> Option<(ReduceOp, &[usize])> {
    match op {
        Op::ReduceSum(r) => Some((ReduceOp::Sum, &r.axes)),
        Op::ReduceMax(r) => Some((ReduceOp::Max, &r.axes)),
        _ => None,
    }
}

impl Lowering<'_> {
    /// Lowers a fusion group.
    pub fn group(&mut self, nodes: &[Value]) -> Result<(), Diagnostics> {
        let exported: Vec<Value> = nodes.iter().copied().filter(|v| self.exported[v.index()]).collect();
        match nodes.iter().find(|v| reduction(&self.graph.node(**v).op).is_some()) {
            Some(first) => self.reduce_group(nodes, *first, &exported),
            None => self.map_group(nodes, &exported),
        }
    }

    fn map_group(&mut self, nodes: &[Value], exported: &[Value]) -> Result<(), Diagnostics> {
        let dims = self.dims(nodes[0]);
        let mut code = Code::default();
        nodes.iter().try_for_each(|v| code.node(self, *v))?;
        let registers: Vec<Reg> = exported.iter().map(|v| code.registers[v]).collect();
        let writes: Vec<View> = exported.iter().map(|v| self.result(*v)).collect();
        let instrs = code.instrs;
        let make: Make = Box::new(move |reads, writes| {
            let outputs = registers.into_iter().zip(writes).collect();
            Ok(Box::new(Map::new(&dims, &instrs, reads, outputs)?))
        });
        self.emit("map", code.inputs, writes, true, make);
        Ok(())
    }

    fn reduce_group(&mut self, nodes: &[Value], first: Value, exported: &[Value]) -> Result<(), Diagnostics> {
        let full = self.dims(self.graph.node(first).inputs[0]);
        let kept = self.dims(first);
        let (_, axes) = reduction(&self.graph.node(first).op).unwrap_or((ReduceOp::Sum, &[]));
        let reduced = axes.to_vec();
        let (mut prologue, mut epilogue, mut reductions) = (Code::default(), Code::default(), Vec::new());
        for value in nodes {
            let node = self.graph.node(*value);
            if let Some((op, _)) = reduction(&node.op) {
                let reg = prologue.operand(self, node.inputs[0]);
                let result = epilogue.push(Instr::Reduced(reductions.len()));
                epilogue.registers.insert(*value, result);
                reductions.push((reg, op));
            } else if self.dims(*value) == kept {
                epilogue.node(self, *value)?;
            } else {
                prologue.node(self, *value)?;
            }
        }
        let registers: Vec<Reg> = exported.iter().map(|v| epilogue.registers[v]).collect();
        let writes: Vec<View> = exported.iter().map(|v| self.result(*v)).collect();
        let inputs = prologue.inputs.len();
        let reads: Vec<View> = prologue.inputs.into_iter().chain(epilogue.inputs).collect();
        let (code, after) = (prologue.instrs, epilogue.instrs);
        let make: Make = Box::new(move |mut reads, writes| {
            let epilogue_inputs = reads.split_off(inputs);
            Ok(Box::new(Reduce::new(ReduceSpec {
                dims: full,
                reduced,
                code,
                inputs: reads,
                reductions,
                epilogue: after,
                epilogue_inputs,
                outputs: registers.into_iter().zip(writes).collect(),
            })?))
        });
        self.emit("reduce", reads, writes, false, make);
        Ok(())
    }
}
