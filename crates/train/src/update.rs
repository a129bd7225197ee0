//! The update program: from parameters, the combined gradient and the optimiser's state to new ones, written over the
//! old. Elementwise optimisers sweep over all parameters as one vector, or where groups of parameters have learning rates
//! or weight decay of their own, over each stretch of one group.

use crate::flat::Layout;
use crate::optim::{Clipping, Optimizer, from_spec, update_graph};
use crate::program::layouts;
use crate::spec::{ParamGroup, Train};
use crate::state::TrainState;
use outgrow_ir::{Diagnostic, Diagnostics, Graph};
use outgrow_models::BuiltModel;
use outgrow_runtime::{Argument, Backend, Bindings, Buffer, CompileOptions, Instance, Place, compile, plan};
use smallvec::{SmallVec, smallvec};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// The update of some ranges of the parameters.
#[derive(Debug)]
pub struct Update {
    /// The parameters of no group, and then the groups of the manifest.
    groups: Vec<Group>,
    /// Stretches of the same length and group share a program.
    programs: Vec<Box<dyn Instance>>,
    parts: Vec<Part>,
}

/// Parameters that are updated alike.
#[derive(Debug)]
struct Group {
    optimizer: Box<dyn Optimizer>,
    lr_factor: f64,
    /// The numbers of the current step.
    numbers: SmallVec<[[f32; 1]; 4]>,
}

/// What a run of a program updates.
#[derive(Debug)]
struct Part {
    /// In elements.
    range: Range<usize>,
    group: usize,
    program: usize,
}

/// Whether ranges of the parameters can be updated apart, by the optimiser that the manifest asks for.
pub fn can_be_cut(config: &Train) -> bool {
    from_spec(&config.optimizer, config.weight_decay).elementwise()
}

/// The buffers of the update: parameters, the combined vector, a slot each, and each number.
const PARAMS: usize = 0;
const GRADS: usize = 1;

impl Update {
    /// Compiles the update of these elements of a model's parameters by the optimiser that the manifest asks for: all of
    /// them, unless they [can be cut](can_be_cut).
    ///
    /// # Errors
    /// When a group of the manifest names parameters that there are not, or it cannot be compiled.
    pub fn new(
        config: &Train,
        model: &BuiltModel,
        ranges: &[Range<usize>],
        backend: &dyn Backend,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let (layout, _) = layouts(model);
        let (mut update, of_tensor) = Self::without_programs(config, &layout)?;
        let mut compiled: HashMap<(usize, usize), usize> = HashMap::new();
        for (range, group) in update.stretches(&layout, &of_tensor, ranges) {
            let program = match compiled.get(&(range.len(), group)) {
                Some(program) => *program,
                None => {
                    let (graph, bindings) =
                        update.program(config, &layout, &of_tensor, (range.len(), group))?;
                    let options = CompileOptions { bindings: Some(bindings), ..options.clone() };
                    update.programs.push(backend.instance(&compile(backend, &graph, 1, &options)?)?);
                    compiled.insert((range.len(), group), update.programs.len() - 1);
                    update.programs.len() - 1
                }
            };
            update.parts.push(Part { range, group, program });
        }
        Ok(update)
    }

    /// Bytes of the programs that update all parameters, besides what they are given. Where workers update a range each,
    /// theirs take no more.
    ///
    /// # Errors
    /// As [`Update::new`].
    pub fn bytes(config: &Train, model: &BuiltModel, backend: &dyn Backend) -> Result<u64, Diagnostics> {
        let (layout, _) = layouts(model);
        let (update, of_tensor) = Self::without_programs(config, &layout)?;
        let whole = 0..layout.total();
        let stretches = update.stretches(&layout, &of_tensor, std::slice::from_ref(&whole));
        let programs: BTreeSet<_> =
            stretches.into_iter().map(|(range, group)| (range.len(), group)).collect();
        programs.into_iter().try_fold(0u64, |sum, program| {
            let (graph, bindings) = update.program(config, &layout, &of_tensor, program)?;
            let options = CompileOptions { bindings: Some(bindings), ..CompileOptions::default() };
            Ok(sum.saturating_add(plan(backend, &graph, 1, &options)?.bytes()))
        })
    }

    /// The groups of the manifest without anything to run, and which of them each tensor is in.
    fn without_programs(config: &Train, layout: &Layout) -> Result<(Self, Vec<usize>), Diagnostics> {
        let names: Vec<&str> = layout.entries().iter().map(|entry| entry.name.as_str()).collect();
        let of_tensor: Vec<usize> = ParamGroup::of_names(&config.param_groups, &names)?
            .into_iter()
            .map(|group| group.map_or(0, |i| i + 1))
            .collect();
        let group = |lr_factor, weight_decay| {
            let optimizer = from_spec(&config.optimizer, weight_decay);
            Group { optimizer, lr_factor, numbers: SmallVec::new() }
        };
        let mut groups = vec![group(1.0, config.weight_decay)];
        groups.extend(config.param_groups.iter().map(|own| group(own.lr_factor, own.weight_decay)));
        Ok((Self { groups, programs: Vec::new(), parts: Vec::new() }, of_tensor))
    }

    /// What updates so many elements of a group.
    fn program(
        &self,
        config: &Train,
        layout: &Layout,
        of_tensor: &[usize],
        (elements, group): (usize, usize),
    ) -> Result<(Graph, Bindings), Diagnostics> {
        let clipping = Clipping { value: config.clip_value, scale: config.clip_norm.is_some() };
        let tensors = (0..of_tensor.len()).filter(|i| of_tensor[*i] == group);
        program(&*self.groups[group].optimizer, clipping, layout, tensors, elements)
    }

    /// The ranges cut where another group begins: for each stretch the number of its group. An optimiser that looks at
    /// whole tensors gets whole ranges, once for each group that has tensors.
    fn stretches(
        &self,
        layout: &Layout,
        of_tensor: &[usize],
        ranges: &[Range<usize>],
    ) -> Vec<(Range<usize>, usize)> {
        let ranges = ranges.iter().filter(|range| !range.is_empty());
        if !self.groups[0].optimizer.elementwise() {
            let used = (0..self.groups.len()).filter(|group| of_tensor.contains(group));
            return ranges.flat_map(|range| used.clone().map(move |group| (range.clone(), group))).collect();
        }
        // Tensors side by side that are of one group; the gaps behind tensors belong to them.
        let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
        for (entry, group) in layout.entries().iter().zip(of_tensor) {
            match runs.last_mut() {
                Some((run, own)) if own == group => run.end = entry.offset + entry.elements,
                Some((run, _)) => {
                    run.end = entry.offset;
                    runs.push((entry.offset..entry.offset + entry.elements, *group));
                }
                None => runs.push((0..entry.elements, *group)),
            }
        }
        if let Some((run, _)) = runs.last_mut() {
            run.end = layout.total();
        }
        let mut stretches = Vec::new();
        for range in ranges {
            for (run, group) in &runs {
                let both = range.start.max(run.start)..range.end.min(run.end);
                if !both.is_empty() {
                    stretches.push((both, *group));
                }
            }
        }
        stretches
    }

    /// Updates its ranges of parameters and optimiser state. `combined` begins with the gradients, laid out as the
    /// parameters; `scale` multiplies them, when the manifest clips by norm.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(
        &mut self,
        state: &mut TrainState,
        combined: &dyn Buffer,
        lr: f64,
        scale: Option<f64>,
    ) -> Result<(), Diagnostic> {
        for Group { optimizer, lr_factor, numbers } in &mut self.groups {
            let own = optimizer.scalars(lr * *lr_factor, state.step + 1).into_iter().chain(scale);
            numbers.clear();
            numbers.extend(own.map(|x| [x as f32]));
        }
        for Part { range, group, program } in &self.parts {
            let gradients = Argument::Read(combined, 4 * range.start..4 * range.end);
            let mut arguments: SmallVec<[Argument<'_>; 8]> =
                smallvec![state.params.write_range(range), gradients];
            arguments.extend(state.slots.iter_mut().map(|(_, slot)| slot.write_range(range)));
            arguments.extend(self.groups[*group].numbers.iter().map(|number| Argument::host(number)));
            self.programs[*program].run(&mut arguments)?;
        }
        Ok(())
    }
}

/// The update of so many elements of a model's parameters: all of them alike, or if the optimiser looks at whole
/// tensors, these tensors of the whole vector.
fn program(
    optimizer: &dyn Optimizer,
    clipping: Clipping,
    layout: &Layout,
    tensors: impl Iterator<Item = usize>,
    elements: usize,
) -> Result<(Graph, Bindings), Diagnostics> {
    let flat = optimizer.elementwise();
    let (tensors, offsets): (Vec<(String, Vec<usize>)>, Vec<usize>) = if flat {
        // With the gaps between tensors, which stay zero under every elementwise optimiser.
        (vec![("all".into(), vec![elements])], vec![0])
    } else {
        let entries = tensors.map(|i| &layout.entries()[i]);
        entries.map(|e| ((e.name.clone(), e.dims.clone()), 4 * e.offset)).unzip()
    };
    let graph = update_graph(optimizer, &tensors, flat, clipping)?;
    let all = |buffer: usize| offsets.iter().map(move |offset| Place { buffer, offset: *offset });
    // Inputs are parameters, gradients, then state; outputs the same without gradients, in place.
    let mut bindings = Bindings { bytes: vec![4 * elements; 2], ..Bindings::default() };
    bindings.inputs.extend(all(PARAMS).chain(all(GRADS)));
    bindings.outputs.extend(all(PARAMS));
    for _ in optimizer.slots() {
        let buffer = bindings.buffer(4 * elements).buffer;
        bindings.inputs.extend(all(buffer));
        bindings.outputs.extend(all(buffer));
    }
    let numbers = graph.inputs.len() - bindings.inputs.len();
    for _ in 0..numbers {
        let place = bindings.buffer(4);
        bindings.inputs.push(place);
    }
    Ok((graph, bindings))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::check::{GOLDEN, every_optimizer, lr_at, run_on, tensors_at};
    use crate::spec::TrainSpec;
    use outgrow_models::spec::ModelSpec;
    use outgrow_models::{BuildOptions, InputSpec, TargetSpec, build};
    use outgrow_runtime::{CpuBackend, ThreadPool};
    use outgrow_tensor::{DType, RngKey};
    use std::sync::Arc;

    /// A dense layer from so many features to so many numbers: `0.weight` and `0.bias`.
    fn dense(features: usize, numbers: usize) -> BuiltModel {
        let model: ModelSpec =
            serde_json::from_str(&format!(r#"{{"layers": [{{"dense": {numbers}}}]}}"#)).unwrap();
        let input = InputSpec {
            name: "features".into(),
            dtype: DType::F32,
            dims: vec![features],
            cardinalities: vec![],
        };
        let target = TargetSpec::Regression { width: numbers };
        build(&model.validate().unwrap(), &[input], &target, BuildOptions::default()).unwrap()
    }

    fn config(text: &str) -> Train {
        serde_json::from_str::<TrainSpec>(text).unwrap().validate().unwrap()
    }

    /// Weight and bias after 20 steps on these gradients, by so many numbers of the flat vector at a time.
    fn run(
        config: &Train,
        model: &BuiltModel,
        start: Option<&[Vec<f64>]>,
        gradients: impl Fn(u64) -> Vec<Vec<f64>>,
        at_once: usize,
    ) -> Vec<Vec<f32>> {
        let cpu = CpuBackend::new(Arc::new(ThreadPool::new(2)));
        let backend: Arc<dyn Backend> = Arc::new(cpu);
        let (layout, _) = layouts(model);
        let total = layout.total();
        let ranges: Vec<_> =
            (0..total).step_by(at_once).map(|at| at..total.min(at.saturating_add(at_once))).collect();
        let mut update = Update::new(config, model, &ranges, &*backend, &CompileOptions::default()).unwrap();
        let slots = from_spec(&config.optimizer, 0.0).slots();
        let mut state = TrainState::initial(model, &slots, RngKey::new(1), &backend).unwrap();
        let narrow = |x: &Vec<f64>| x.iter().map(|x| *x as f32).collect::<Vec<f32>>();
        for (i, tensor) in start.iter().flat_map(|start| start.iter()).enumerate() {
            state.params.set(i, &narrow(tensor)).unwrap();
        }
        let mut combined = backend.allocate(4 * total).unwrap();
        for step in 1..=20 {
            for (entry, gradient) in layout.entries().iter().zip(gradients(step)) {
                let gradient = narrow(&gradient);
                backend.upload(bytemuck::cast_slice(&gradient), &mut *combined, 4 * entry.offset).unwrap();
            }
            update.run(&mut state, &*combined, lr_at(config.lr, step), None).unwrap();
            state.step += 1;
        }
        let tensors = state.params.tensors().unwrap();
        ["0.weight", "0.bias"].map(|name| tensors[name].as_slice::<f32>().unwrap().to_vec()).into()
    }

    /// The bias at a quarter of the rate and without decay, as `benchmarks/optimizer_golden.py` has it.
    fn grouped(optimizer: &str, decay: f64) -> Train {
        config(&format!(
            r#"{{"steps": 20, "lr": 0.02, "optimizer": {optimizer}, "weight_decay": {decay},
                "param_groups": [{{"params": ["*.bias"], "lr_factor": 0.25, "weight_decay": 0}}]}}"#
        ))
    }

    #[test]
    fn groups_are_pytorchs() {
        let golden: HashMap<String, [Vec<f64>; 2]> = serde_json::from_str(GOLDEN).unwrap();
        let cases: Vec<_> = golden.iter().filter(|(name, _)| name.ends_with("-groups")).collect();
        assert_eq!(cases.len(), 7, "all of PyTorch's optimisers");
        for (case, expect) in cases {
            let name = case.trim_end_matches("-groups");
            let train = grouped(&format!("\"{name}\""), 0.2);
            let got = run(&train, &dense(3, 2), Some(&tensors_at(0)), tensors_at, usize::MAX);
            for (got, expect) in got.iter().flatten().zip(expect.iter().flatten()) {
                let close = (f64::from(*got) - expect).abs() <= 1e-5 * expect.abs();
                assert!(close, "{name}: got {got}, expected {expect}");
            }
        }
    }

    #[test]
    fn each_group_has_the_bits_of_an_update_of_its_own() {
        for (optimizer, name) in every_optimizer() {
            let decay = if name == "\"ftrl\"" { 0.0 } else { 0.25 };
            let train = grouped(&name, decay);
            let got = run(&train, &dense(3, 2), Some(&tensors_at(0)), tensors_at, usize::MAX);
            let path = Some(CpuBackend::new(Arc::new(ThreadPool::new(1))).path);
            let alone = |lr, decay| {
                let own = from_spec(&train.optimizer, decay);
                run_on(path, &*own, lr, DType::F32, optimizer.elementwise())
            };
            let expect = [&alone(0.02, decay)[0], &alone(0.005, 0.0)[1]];
            for (got, expect) in got.iter().zip(expect) {
                assert!(got.iter().map(|x| f64::from(*x)).eq(expect.iter().copied()), "{name}");
            }
        }
    }

    /// As workers do that each update a range.
    #[test]
    fn where_ranges_are_cut_changes_nothing() {
        let model = dense(61, 200);
        let gradients = |step: u64| {
            let mut random = RngKey::new(step).stream();
            vec![
                (0..61 * 200).map(|_| random.normal()).collect(),
                (0..200).map(|_| random.normal()).collect(),
            ]
        };
        for (optimizer, name) in every_optimizer().into_iter().filter(|(o, _)| o.elementwise()) {
            let train = grouped(&name, if optimizer.name() == "ftrl" { 0.0 } else { 0.25 });
            let whole = run(&train, &model, None, gradients, usize::MAX);
            assert_eq!(run(&train, &model, None, gradients, outgrow_kernels::SUM_BLOCK), whole, "{name}");
        }
    }
}
