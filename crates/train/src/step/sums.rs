//! What is done with the vectors of a step besides computing them: two are added, the combined one is judged, and running
//! statistics follow it. Each is a program of the backend.

use crate::flat::{Layout, blocks};
use crate::program::{Outputs, bytes, layouts};
use crate::spec::Train;
use crate::vector::DeviceVector;
use outgrow_ir::{
    Builder, Diagnostic, Diagnostics, Dim, Graph, InputRole, Metric, OutputRole, TensorType, Value,
};
use outgrow_kernels::{SUM_BLOCK, tree_sum};
use outgrow_models::BuiltModel;
use outgrow_runtime::{Argument, Backend, Bindings, Buffer, CompileOptions, Instance, Place, compile, plan};
use outgrow_tensor::DType;
use std::ops::Range;
use std::sync::Arc;

/// What the combined vector says of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The mean loss of the batch before the step.
    pub loss: f64,
    /// The fraction of right answers before the step, for classes.
    pub accuracy: Option<f64>,
    /// Whether loss and gradients are finite.
    pub finite: bool,
    /// The norm of the gradients, cut to the largest value that is allowed, where the manifest clips by norm.
    pub norm: Option<f64>,
}

/// The programs over a step's vectors.
#[derive(Debug)]
pub struct Sums {
    backend: Arc<dyn Backend>,
    /// A program for each stretch of the vectors that is added by itself.
    adds: Vec<(Range<usize>, Box<dyn Instance>)>,
    looks: Vec<Look>,
    /// The sums of squares of all blocks that were looked at, where norms are asked for.
    squares: Option<Vec<f64>>,
    follow: Option<Box<dyn Instance>>,
    /// Where in the vector the sums over the batch are.
    loss: Option<usize>,
    weight: Option<usize>,
    correct: Option<usize>,
}

/// What of the vectors a worker works on, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Stretches<'a> {
    /// What is added apart: all of the vectors.
    pub added: &'a [Range<usize>],
    /// The gradients that are looked at, in their order.
    pub looked_at: &'a [Range<usize>],
}

/// Looks at a range of the gradients.
#[derive(Debug)]
struct Look {
    /// In elements.
    range: Range<usize>,
    judge: Box<dyn Instance>,
    /// What judging writes, and that on the host.
    buffer: Box<dyn Buffer>,
    host: Vec<u64>,
    /// How many sums of squares of blocks come first, where they are asked for.
    squares: usize,
    /// Whether the sum of all gradients stands behind them.
    sum: bool,
    /// Finds the largest absolute value, when the sum of all gradients leaves a doubt.
    largest: Box<dyn Instance>,
}

impl Look {
    /// Whether all gradients in the range are finite.
    fn is_finite(&mut self, combined: &dyn Buffer, backend: &dyn Backend) -> Result<bool, Diagnostic> {
        let part = || Argument::Read(combined, 4 * self.range.start..4 * self.range.end);
        self.judge.run(&mut [part(), Argument::write(&mut *self.buffer)])?;
        backend.download(&*self.buffer, 0, bytemuck::cast_slice_mut(&mut self.host))?;
        if !self.sum {
            // Squares of f32 do not overflow in f64.
            return Ok(self.squares().iter().all(|square| square.is_finite()));
        }
        // A sum that is finite has finite terms; one that is not may have them, too.
        let sum = bytemuck::cast_slice::<u64, f32>(&self.host)[2 * self.squares];
        if sum.is_finite() {
            return Ok(true);
        }
        let mut buffer = backend.allocate(4)?;
        self.largest.run(&mut [part(), Argument::write(&mut *buffer)])?;
        let mut largest = [0.0f32];
        backend.download(&*buffer, 0, bytemuck::cast_slice_mut(&mut largest))?;
        Ok(largest[0].is_finite())
    }

    /// The sums of squares of its blocks, where they are asked for.
    fn squares(&self) -> &[f64] {
        &bytemuck::cast_slice(&self.host)[..self.squares]
    }
}

impl Sums {
    /// Compiles the programs for vectors that are laid out so: gradients as the parameters, then sums over the batch.
    ///
    /// # Errors
    /// When one cannot be compiled, or the device has not the memory.
    pub fn new(
        model: &BuiltModel,
        config: &Train,
        outputs: &Outputs,
        stretches: Stretches<'_>,
        backend: &Arc<dyn Backend>,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let follow = follow(model, &layouts(model).1, outputs)?;
        Self::over(stretches, follow, config, outputs, backend, options)
    }

    /// Bytes of the programs for all of the vectors, besides what they are given. Where workers work on a part each, theirs
    /// take no more.
    ///
    /// # Errors
    /// When one cannot be compiled.
    pub fn bytes(
        model: &BuiltModel,
        config: &Train,
        outputs: &Outputs,
        backend: &dyn Backend,
    ) -> Result<u64, Diagnostics> {
        let (gradients, statistics) = layouts(model);
        let mut programs = vec![add(outputs.layout.total())?];
        if gradients.total() > 0 {
            programs.extend([judge(config, gradients.total())?, largest(gradients.total())?]);
        }
        programs.extend(follow(model, &statistics, outputs)?);
        programs.into_iter().try_fold(0u64, |sum, (graph, bindings)| {
            let options = CompileOptions { bindings: Some(bindings), ..CompileOptions::default() };
            Ok(sum.saturating_add(plan(backend, &graph, 1, &options)?.bytes()))
        })
    }

    /// The same, with the program of the running statistics.
    fn over(
        stretches: Stretches<'_>,
        follow: Option<(Graph, Bindings)>,
        config: &Train,
        outputs: &Outputs,
        backend: &Arc<dyn Backend>,
        options: &CompileOptions,
    ) -> Result<Self, Diagnostics> {
        let program = |(graph, bindings): (Graph, Bindings)| {
            let options = CompileOptions { bindings: Some(bindings), ..options.clone() };
            let compiled = compile(&**backend, &graph, 1, &options)?;
            Ok::<_, Diagnostics>(backend.instance(&compiled)?)
        };
        let look = |range: &Range<usize>| {
            let (judge, largest) = (judge(config, range.len())?, largest(range.len())?);
            let (bytes, sum) = (judge.1.bytes[1], judge.0.output(SUM).is_some());
            Ok(Look {
                range: range.clone(),
                judge: program(judge)?,
                buffer: backend.allocate(bytes)?,
                host: vec![0; bytes / 8],
                squares: config.clip_norm.map_or(0, |_| blocks(range.len())),
                sum,
                largest: program(largest)?,
            })
        };
        let adds = stretches.added.iter().map(|range| Ok((range.clone(), program(add(range.len())?)?)));
        let looked_at = stretches.looked_at.iter().filter(|range| !range.is_empty());
        let looks = looked_at.map(look).collect::<Result<Vec<_>, Diagnostics>>()?;
        let at = |metric| outputs.offset(&OutputRole::Metric(metric));
        Ok(Self {
            backend: backend.clone(),
            adds: adds.collect::<Result<_, Diagnostics>>()?,
            squares: config.clip_norm.map(|_| vec![0.0; looks.iter().map(|look| look.squares).sum()]),
            looks,
            follow: follow.map(program).transpose()?,
            loss: at(Metric::Loss),
            weight: at(Metric::Weight),
            correct: at(Metric::Correct),
        })
    }

    /// Adds one vector to another.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(&mut self, sum: &mut dyn Buffer, other: &dyn Buffer) -> Result<(), Diagnostic> {
        (0..self.adds.len()).try_for_each(|stretch| self.add_stretch(stretch, sum, other))
    }

    /// Adds one of the stretches that are added apart, by its number.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add_stretch(
        &mut self,
        stretch: usize,
        sum: &mut dyn Buffer,
        other: &dyn Buffer,
    ) -> Result<(), Diagnostic> {
        let (range, add) = &mut self.adds[stretch];
        let bytes = 4 * range.start..4 * range.end;
        add.run(&mut [Argument::Write(sum, bytes.clone()), Argument::Read(other, bytes)])
    }

    /// Looks at its ranges of the combined gradients: whether all are finite.
    ///
    /// # Errors
    /// When the device fails.
    pub fn look(&mut self, combined: &dyn Buffer) -> Result<bool, Diagnostic> {
        let mut finite = true;
        for look in &mut self.looks {
            finite &= look.is_finite(combined, &*self.backend)?;
        }
        if let Some(all) = &mut self.squares {
            let mut places = all.iter_mut();
            for look in &self.looks {
                look.squares().iter().zip(&mut places).for_each(|(square, place)| *place = *square);
            }
        }
        Ok(finite)
    }

    /// The sum of the squares of each block that was looked at, in their order, where the norm is asked for.
    pub fn squares(&self) -> Option<&[f64]> {
        self.squares.as_deref()
    }

    /// Judges the step: by whether all gradients are finite, the sums of the squares of all blocks where the norm is asked
    /// for, and the sums over the batch, which stand in the combined vector.
    ///
    /// # Errors
    /// When the device fails.
    pub fn judge(
        &self,
        combined: &dyn Buffer,
        finite: bool,
        squares: Option<&[f64]>,
    ) -> Result<Verdict, Diagnostic> {
        let number = |place: Option<usize>| {
            let read = |place: usize| {
                let mut number = [0.0f32];
                self.backend.download(combined, 4 * place, bytemuck::cast_slice_mut(&mut number))?;
                Ok::<_, Diagnostic>(f64::from(number[0]))
            };
            place.map(read).transpose()
        };
        let weight = number(self.weight)?.unwrap_or(1.0);
        let loss = number(self.loss)?.unwrap_or(f64::NAN) / weight;
        let accuracy = number(self.correct)?.map(|correct| correct / weight);
        let norm = squares.map(|squares| tree_sum(squares).sqrt());
        Ok(Verdict { loss, accuracy, finite: finite && loss.is_finite(), norm })
    }

    /// Running statistics move towards those of the batch: `new = old + momentum (batch - old)`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn follow(&mut self, buffers: &mut DeviceVector, combined: &dyn Buffer) -> Result<(), Diagnostic> {
        match &mut self.follow {
            Some(program) => program.run(&mut [buffers.write(), Argument::read(combined)]),
            None => Ok(()),
        }
    }
}

fn vector(elements: usize) -> TensorType {
    TensorType::new(DType::F32, [elements])
}

fn at(buffer: usize, element: usize) -> Place {
    Place { buffer, offset: 4 * element }
}

/// `sum += other`, of so many elements.
fn add(elements: usize) -> Result<(Graph, Bindings), Diagnostics> {
    let mut b = Builder::new("add");
    let [sum, other] = ["sum", "other"].map(|name| b.input(name, InputRole::Data, vector(elements)));
    let whole = b.add(sum, other);
    b.output("sum", whole);
    let bindings =
        Bindings { bytes: vec![4 * elements; 2], inputs: vec![at(0, 0), at(1, 0)], outputs: vec![at(0, 0)] };
    Ok((b.finish()?, bindings))
}

/// The output that is the sum of all gradients.
const SUM: &str = "sum";

/// From the combined vector, all gradients of which are looked at once: the sum of the squares of each block of
/// [`SUM_BLOCK`] elements in f64, where the norm is asked for, and the sum of all gradients, where the squares do not say
/// whether all are finite. Sums over blocks are those of any range that is cut between them.
fn judge(config: &Train, elements: usize) -> Result<(Graph, Bindings), Diagnostics> {
    let mut b = Builder::new("judge");
    let grads = b.input("grads", InputRole::Data, vector(elements));
    let mut bindings =
        Bindings { bytes: vec![4 * elements, 0], inputs: vec![at(0, 0)], ..Bindings::default() };
    let mut end = 0;
    let mut output = |b: &mut Builder, name: &str, value: Value, words: usize| {
        b.output(name, value);
        bindings.outputs.push(Place { buffer: 1, offset: 8 * end });
        end += words;
    };
    if config.clip_norm.is_some() {
        let cut = match config.clip_value {
            Some(limit) => {
                let (low, high) = (b.scalar(-limit, DType::F32), b.scalar(limit, DType::F32));
                let cut = b.max(grads, low);
                b.min(cut, high)
            }
            None => grads,
        };
        let (blocks, whole) = (elements / SUM_BLOCK, elements / SUM_BLOCK * SUM_BLOCK);
        let squares = |b: &mut Builder, part: Value, axis: usize| {
            let wide = b.cast(part, DType::F64);
            let square = b.mul(wide, wide);
            b.reduce_sum(square, &[axis])
        };
        if blocks > 0 {
            let part = b.slice(cut, 0, 0, whole);
            let part = b.reshape(part, &[Dim::Fixed(blocks), Dim::Fixed(SUM_BLOCK)]);
            let sums = squares(&mut b, part, 1);
            output(&mut b, "squares", sums, blocks);
        }
        if elements > whole {
            let part = b.slice(cut, 0, whole, elements);
            let sum = squares(&mut b, part, 0);
            output(&mut b, "last", sum, 1);
        }
    }
    if config.clip_norm.is_none() || config.clip_value.is_some() {
        let sum = b.reduce_sum(grads, &[0]);
        output(&mut b, SUM, sum, 1);
    }
    bindings.bytes[1] = 8 * end;
    Ok((b.finish()?, bindings))
}

/// The largest absolute value of a gradient; NaN if there is one.
fn largest(elements: usize) -> Result<(Graph, Bindings), Diagnostics> {
    let mut b = Builder::new("largest");
    let grads = b.input("grads", InputRole::Data, vector(elements));
    let sizes = b.abs(grads);
    let largest = b.reduce_max(sizes, &[0]);
    b.output("largest", largest);
    let bindings = Bindings { bytes: vec![4 * elements, 4], inputs: vec![at(0, 0)], outputs: vec![at(1, 0)] };
    Ok((b.finish()?, bindings))
}

/// The running statistics of a model, which follow those that the combined vector has; none if there are none.
fn follow(
    model: &BuiltModel,
    buffers: &Layout,
    outputs: &Outputs,
) -> Result<Option<(Graph, Bindings)>, Diagnostics> {
    let mut b = Builder::new("follow");
    let mut bindings = Bindings { bytes: vec![bytes(buffers), outputs.bytes()], ..Bindings::default() };
    let samples = match outputs.offset(&OutputRole::Metric(Metric::Samples)) {
        Some(element) => {
            bindings.inputs.push(at(1, element));
            b.input("samples", InputRole::Data, TensorType::scalar(DType::F32))
        }
        None => b.scalar(1.0, DType::F32),
    };
    for (entry, buffer) in buffers.entries().iter().zip(&model.buffers) {
        let role = OutputRole::Statistic(buffer.name.clone());
        let Some(statistic) = outputs.offset(&role) else { continue };
        let old = b.input(&buffer.name, InputRole::Buffer, vector(entry.elements));
        let sum = b.input(&format!("stat:{}", buffer.name), InputRole::Data, vector(entry.elements));
        bindings.inputs.extend([at(0, entry.offset), at(1, statistic)]);
        let momentum = buffer.momentum as f32;
        let kept = b.mul_scalar(old, f64::from(1.0 - momentum));
        let mean = b.div(sum, samples);
        let moved = b.mul_scalar(mean, f64::from(momentum));
        let new = b.add(kept, moved);
        b.output(&buffer.name, new);
        bindings.outputs.push(at(0, entry.offset));
    }
    if bindings.outputs.is_empty() {
        return Ok(None);
    }
    Ok(Some((b.finish()?, bindings)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flat::block_ranges;
    use crate::spec::TrainSpec;
    use outgrow_runtime::{CpuBackend, ThreadPool, run_tensors};
    use outgrow_tensor::{RngKey, Tensor};

    fn train(clip_value: Option<f64>, clip_norm: Option<f64>) -> Train {
        let spec: TrainSpec = serde_json::from_str(r#"{ "steps": 1 }"#).unwrap();
        Train { clip_value, clip_norm, ..spec.validate().unwrap() }
    }

    fn backend(threads: usize) -> Arc<dyn Backend> {
        Arc::new(CpuBackend::new(Arc::new(ThreadPool::new(threads))))
    }

    /// Sums of squares of blocks.
    fn squares(grads: &[f32], threads: usize) -> Vec<f64> {
        let (graph, bindings) = judge(&train(None, Some(1.0)), grads.len()).unwrap();
        let options = CompileOptions { bindings: Some(bindings), ..CompileOptions::default() };
        let backend = backend(threads);
        let compiled = compile(&*backend, &graph, 1, &options).unwrap();
        let out = run_tensors(&*backend, &compiled, &[Tensor::vector(grads.to_vec())]).unwrap();
        out.iter().flat_map(|tensor| tensor.as_slice::<f64>().unwrap().to_vec()).collect()
    }

    fn numbers(count: usize) -> Vec<f32> {
        let mut random = RngKey::new(5).stream();
        (0..count).map(|_| random.normal() as f32).collect()
    }

    #[test]
    fn sums_over_blocks_of_ranges_are_those_of_the_whole() {
        for elements in [1, 16, 4_096, 5_000, 70_000, 200_016] {
            let grads = numbers(elements);
            let whole = squares(&grads, 2);
            assert_eq!(whole.len(), elements.div_ceil(SUM_BLOCK));
            let exact: f64 = grads.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            assert!((tree_sum(&whole) - exact).abs() < 1e-12 * exact);
            for parts in [1, 2, 5] {
                let ranges = block_ranges(elements, parts).into_iter().filter(|range| !range.is_empty());
                let cut: Vec<f64> = ranges.flat_map(|range| squares(&grads[range], 1)).collect();
                assert_eq!(cut, whole, "{elements} in {parts} parts");
            }
        }
    }

    /// Judges vectors of so many gradients.
    struct Judge {
        sums: Sums,
        combined: Box<dyn Buffer>,
        outputs: Outputs,
    }

    impl Judge {
        fn new(elements: usize, config: &Train) -> Self {
            let tensors: [(&str, &[usize]); 3] =
                [("grads", &[elements]), ("loss_sum", &[]), ("weight_sum", &[])];
            let mut b = Builder::new("step");
            let roles =
                [OutputRole::Result, OutputRole::Metric(Metric::Loss), OutputRole::Metric(Metric::Weight)];
            for ((name, dims), role) in tensors.into_iter().zip(roles) {
                let ty = TensorType::new(DType::F32, dims.iter().copied());
                let value = b.input(name, InputRole::Data, ty);
                b.output_as(name, role, value);
            }
            let (outputs, backend) = (Outputs::new(&b.finish().unwrap()), backend(2));
            let options = CompileOptions::default();
            // In two ranges, where there are enough elements for that.
            let ranges = block_ranges(elements, 2);
            let stretches = Stretches { added: &[], looked_at: &ranges };
            let sums = Sums::over(stretches, None, config, &outputs, &backend, &options).unwrap();
            let combined = backend.allocate(outputs.bytes()).unwrap();
            Self { sums, combined, outputs }
        }

        fn judge(&mut self, grads: &[f32], loss: f32, weight: f32) -> Verdict {
            let places = self.outputs.layout.entries().iter().map(|e| 4 * e.offset);
            for (at, numbers) in places.zip([grads, &[loss], &[weight]]) {
                let numbers = bytemuck::cast_slice(numbers);
                self.sums.backend.upload(numbers, &mut *self.combined, at).unwrap();
            }
            let finite = self.sums.look(&*self.combined).unwrap();
            self.sums.judge(&*self.combined, finite, self.sums.squares()).unwrap()
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_is() {
        let count = 3 * SUM_BLOCK + 100;
        // Finite, but their sum is not.
        let good: Vec<f32> = numbers(count).iter().map(|x| (x.abs() * 1e38).min(f32::MAX)).collect();
        for (value, norm) in [(None, None), (Some(0.5), None), (None, Some(1.0)), (Some(0.5), Some(1.0))] {
            let mut judge = Judge::new(count, &train(value, norm));
            let verdict = judge.judge(&good, 3.0, 2.0);
            assert!(verdict.finite && verdict.loss == 1.5, "{value:?} {norm:?}: {verdict:?}");
            assert_eq!(verdict.norm.is_some(), norm.is_some());
            assert!(!judge.judge(&good, f32::NAN, 2.0).finite);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 5_000, count - 1] {
                    let mut grads = good.clone();
                    grads[at] = bad;
                    let verdict = judge.judge(&grads, 3.0, 2.0);
                    assert!(!verdict.finite, "{bad} at {at}, clipped by {value:?} and {norm:?}");
                }
            }
        }
    }

    #[test]
    fn values_are_cut_before_the_norm_is_taken() {
        let mut judge = Judge::new(3, &train(Some(1.0), Some(1.0)));
        assert_eq!(judge.judge(&[3.0, -4.0, 0.5], 1.0, 1.0).norm, Some(1.5));
    }
}
