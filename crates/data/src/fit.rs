//! From a source and the manifest to a fitted transform: roles of the columns, the chain of steps, and the assembly
//! of inputs and target.

use crate::problems::empty;
use crate::source::{Part, RecordSource};
use crate::spec::{NamedNormalization, Normalization, PixelNumbers};
use crate::split::Splitter;
use crate::target_fit::TargetFit;
use crate::{DataSpec, Split};
use outgrow_ir::{Diagnostic, Diagnostics};
use outgrow_transform::steps::{NormalizeScale, StepSpec};
use outgrow_transform::{
    Assembly, CategoryInput, ChainFit, ColumnKind, Columns, FeatureInput, ImageInput, PixelNorm, Record,
    Role, TargetEncoder, Transform, image,
};

/// Shows records of the training split, with their hashes, to a sink.
pub(crate) struct TrainingRecords<'a> {
    pub source: &'a dyn RecordSource,
    pub splitter: &'a Splitter,
    /// Called for every record read, with their number so far.
    pub progress: &'a dyn Fn(u64),
}

/// The canonical content of a record, by which it is split and told from others.
pub(crate) fn canonical(record: &Record, out: &mut Vec<u8>) {
    out.clear();
    record.values.iter().for_each(|v| v.canonical_bytes(out));
}

impl TrainingRecords<'_> {
    fn each(&self, sink: &mut dyn FnMut(Record, u128) -> Result<(), Diagnostic>) -> Result<(), Diagnostic> {
        let mut content = Vec::new();
        for (i, record) in self.source.records(Part::Train)?.enumerate() {
            let record = record?;
            (self.progress)(i as u64);
            canonical(&record, &mut content);
            let hash = self.splitter.hash(&content);
            if self.splitter.assign(hash, &record.values) == Split::Train {
                sink(record, hash.identity)?;
            }
        }
        Ok(())
    }
}

/// Fits the transform that the manifest describes over the training split.
///
/// # Errors
/// Everything that is wrong with the section's keys, or the first record that cannot be worked on.
pub(crate) fn fit(spec: &DataSpec, records: &TrainingRecords<'_>) -> Result<Transform, Diagnostics> {
    let source = records.source;
    if source.records(Part::Train)?.next().transpose()?.is_none() {
        let problem = empty();
        return Err(source.files().first().map_or(problem.clone(), |f| problem.file(&f.path)).into());
    }
    let columns = with_roles(spec, source)?;
    let steps = steps(spec, &columns)?;
    let mut fit = ChainFit::new(&steps, &columns)?;
    while !fit.is_complete() {
        fit.begin_pass()?;
        if fit.needs_pass() {
            records.each(&mut |record, hash| fit.see(record, hash))?;
        }
        fit.end_pass()?;
    }
    let chain = fit.finish();
    let after = chain.columns(&columns);
    let image = image_input(spec, source, &after)?;
    let mut assembly = Assembly {
        image,
        features: FeatureInput::of(&after)?,
        categories: CategoryInput::of(&after),
        text: None,
        target: TargetEncoder::NextToken,
    };
    if assembly.image.is_none() && assembly.features.is_none() && assembly.categories.is_none() {
        return Err(Diagnostic::new("data.no-features", "no column is left for the model to see")
            .item("data.features")
            .hint("name more columns, or leave `exclude` and `drop` shorter")
            .into());
    }
    let mut target = TargetFit::new(spec, source, &after)?;
    let mut pixels = PixelFit::new(spec, assembly.image.as_ref());
    if target.learns() || pixels.is_some() {
        let mut run = outgrow_transform::Run::default();
        records.each(&mut |mut record, hash| {
            if !chain.prepare(&mut record, hash, &mut run)? {
                return Ok(());
            }
            target.see(&record).map_err(|d| record.origin.place(d))?;
            match &mut pixels {
                Some(fit) => fit.see(&record).map_err(|d| record.origin.place(d)),
                None => Ok(()),
            }
        })?;
    }
    assembly.target = target.finish()?;
    if let (Some(image), Some(fit)) = (&mut assembly.image, pixels) {
        image.normalize = fit.finish();
    }
    Ok(Transform { columns, format: source.format(), chain, assembly })
}

/// The source's columns with the role of each.
pub(crate) fn with_roles(spec: &DataSpec, source: &dyn RecordSource) -> Result<Columns, Diagnostics> {
    let mut columns = source.columns().clone();
    let mut problems = Diagnostics::default();
    let labels: Vec<String> = match (&spec.label, source.default_label()) {
        (Some(names), _) => names.list().to_vec(),
        (None, Some(name)) => vec![name.to_owned()],
        (None, None) => {
            let names: Vec<&str> = columns.0.iter().map(|c| c.name.as_str()).collect();
            return Err(Diagnostic::new("data.label", "which column is to be predicted is not said")
                .item("data.label")
                .expected(format!("one of: {}", names.join(", ")))
                .into());
        }
    };
    if labels.is_empty() {
        problems.push(
            Diagnostic::new("data.label", "`label` names no column")
                .item("data.label")
                .expected("the name of the column to predict"),
        );
    }
    if spec.features.is_some() && spec.exclude.is_some() {
        problems.push(
            Diagnostic::new("data.features", "`features` and `exclude` cannot stand together")
                .item("data.exclude")
                .expected("one of the two"),
        );
    }
    if let Some(features) = &spec.features {
        columns.0.iter_mut().for_each(|c| c.role = Role::Excluded);
        set_roles(&mut columns, features, Role::Feature, "data.features", &mut problems);
    }
    let images: Vec<usize> =
        (0..columns.0.len()).filter(|i| columns.0[*i].kind == ColumnKind::Image).collect();
    if !images.is_empty() && spec.features.is_none() {
        for (i, column) in columns.0.iter_mut().enumerate() {
            let other = spec.image.as_ref().is_some_and(|name| *name != column.name);
            if !images.contains(&i) || other {
                column.role = Role::Excluded;
            }
        }
    }
    if let Some(name) = &spec.image {
        match columns.require(name) {
            Ok(i) if images.contains(&i) => {}
            Ok(_) => problems.push(
                Diagnostic::new("data.image", format!("column `{name}` holds no images"))
                    .item("data.image")
                    .expected("a column of encoded images, or of structs with `bytes`"),
            ),
            Err(problem) => problems.push(problem.item("data.image")),
        }
    }
    if let Some(exclude) = &spec.exclude {
        set_roles(&mut columns, exclude, Role::Excluded, "data.exclude", &mut problems);
    }
    for name in &labels {
        if spec.features.as_ref().is_some_and(|f| f.contains(name)) {
            problems.push(
                Diagnostic::new("data.features", format!("the label `{name}` is among the features"))
                    .item("data.features")
                    .hint("a model that sees the answer learns nothing: leave it out there"),
            );
        }
    }
    for name in labels.iter().filter(|name| spec.exclude.as_ref().is_some_and(|e| e.contains(name))) {
        problems.push(
            Diagnostic::new("data.exclude", format!("the label `{name}` is excluded"))
                .item("data.exclude")
                .expected("columns that are neither label nor feature")
                .hint("leave it out of `exclude`: the model does not see its label as it is"),
        );
    }
    set_roles(&mut columns, &labels, Role::Label, "data.label", &mut problems);
    problems.into_result(columns)
}

fn set_roles(columns: &mut Columns, names: &[String], role: Role, key: &str, problems: &mut Diagnostics) {
    for name in names {
        match columns.require(name) {
            Ok(i) => columns.0[i].role = role,
            Err(problem) => problems.push(problem.item(key)),
        }
    }
}

/// The steps of `data.clean`, and the one that `normalize` stands for when there are no images.
fn steps(spec: &DataSpec, columns: &Columns) -> Result<Vec<StepSpec>, Diagnostic> {
    let mut steps = spec.steps().to_vec();
    let has_image = columns.0.iter().any(|c| c.kind == ColumnKind::Image && c.role == Role::Feature);
    match &spec.normalize {
        Some(Normalization::Named(named)) if !has_image => steps.extend(match named {
            NamedNormalization::None => None,
            NamedNormalization::Standard => Some(StepSpec::normalize_numeric(NormalizeScale::Standard)),
            NamedNormalization::Unit => Some(StepSpec::normalize_numeric(NormalizeScale::MinMax)),
        }),
        Some(Normalization::Numbers(_)) if !has_image => {
            return Err(Diagnostic::new(
                "data.normalize",
                "`normalize` with numbers is for images, and there are none",
            )
            .item("data.normalize")
            .expected("\"standard\", \"unit\" or \"none\""));
        }
        _ => {}
    }
    Ok(steps)
}

/// The image input, when there is an image column among the features. Its size is that of the first image unless
/// the manifest gives one.
fn image_input(
    spec: &DataSpec,
    source: &dyn RecordSource,
    columns: &Columns,
) -> Result<Option<ImageInput>, Diagnostics> {
    let candidates: Vec<usize> = columns
        .with_role(Role::Feature)
        .into_iter()
        .filter(|i| columns.0[*i].kind == ColumnKind::Image)
        .collect();
    let column = match candidates.as_slice() {
        [] => {
            for (key, given) in [("size", spec.size.is_some()), ("channels", spec.channels.is_some())] {
                if given {
                    return Err(Diagnostic::new(
                        "data.image",
                        format!("`{key}` is for images, and there are none"),
                    )
                    .item(format!("data.{key}"))
                    .hint("remove the key, or name the column of the images with `image`")
                    .into());
                }
            }
            return Ok(None);
        }
        [one] => *one,
        several => {
            let names: Vec<&str> = several.iter().map(|i| columns.0[*i].name.as_str()).collect();
            return Err(Diagnostic::new(
                "data.image",
                format!("there are several image columns: {}", names.join(", ")),
            )
            .item("data.features")
            .expected("one of them in `data.image`")
            .into());
        }
    };
    if let Some(channels) = spec.channels {
        image::check_size(channels, 1, 1).map_err(|d| d.item("data.channels"))?;
    }
    let Some(first) = source.records(Part::Train)?.next().transpose()? else {
        return Err(empty().into());
    };
    let first_image =
        image::pixels(&first.values[column], spec.channels).map_err(|d| first.origin.place(d))?;
    let [height, width] = spec.size.unwrap_or([first_image.height, first_image.width]);
    let channels = first_image.channels;
    image::check_size(channels, height, width).map_err(|d| d.item("data.size"))?;
    let normalize = match &spec.normalize {
        Some(Normalization::Named(NamedNormalization::None)) => PixelNorm::none(channels),
        Some(Normalization::Numbers(numbers)) => pixel_norm(numbers, channels)?,
        _ => PixelNorm::unit(channels),
    };
    Ok(Some(ImageInput { column, channels, height, width, resize: spec.size.is_some(), normalize }))
}

fn pixel_norm(numbers: &PixelNumbers, channels: usize) -> Result<PixelNorm, Diagnostic> {
    let or = |values: &[f64], default: f64| {
        if values.is_empty() { vec![default; channels] } else { values.to_vec() }
    };
    let norm =
        PixelNorm { scale: numbers.scale, mean: or(&numbers.mean, 0.0), deviation: or(&numbers.std, 1.0) };
    norm.check(channels)?;
    Ok(norm)
}

/// Learns the mean and deviation of each channel's pixels.
struct PixelFit {
    input: ImageInput,
    /// Sums of pixels and of their squares: whole numbers, so no order of summation matters.
    sums: Vec<(u128, u128)>,
    count: u64,
}

impl PixelFit {
    fn new(spec: &DataSpec, input: Option<&ImageInput>) -> Option<Self> {
        let standard = spec.normalize == Some(Normalization::Named(NamedNormalization::Standard));
        let input = input.filter(|_| standard)?.clone();
        Some(Self { sums: vec![(0, 0); input.channels], input, count: 0 })
    }

    fn see(&mut self, record: &Record) -> Result<(), Diagnostic> {
        let mut pixels = Vec::new();
        self.input.store(&record.values[self.input.column], &mut pixels)?;
        let plane = self.input.height * self.input.width;
        for (values, (sum, squares)) in pixels.chunks_exact(plane).zip(&mut self.sums) {
            let (mut s, mut q) = (0u64, 0u64);
            for value in values {
                s += u64::from(*value);
                q += u64::from(*value) * u64::from(*value);
            }
            *sum += u128::from(s);
            *squares += u128::from(q);
        }
        self.count += plane as u64;
        Ok(())
    }

    fn finish(self) -> PixelNorm {
        let n = (self.count as f64).max(1.0) * 255.0;
        let mut norm = PixelNorm::unit(self.input.channels);
        for (c, (sum, squares)) in self.sums.iter().enumerate() {
            let mean = *sum as f64 / n;
            let deviation = (*squares as f64 / (n * 255.0) - mean * mean).max(0.0).sqrt();
            norm.mean[c] = mean;
            norm.deviation[c] = if deviation > 0.0 { deviation } else { 1.0 };
        }
        norm
    }
}

/// Number of classes of a target, 0 when it is none.
pub(crate) fn class_count(target: &TargetEncoder) -> usize {
    match target {
        TargetEncoder::ClassName { names, .. } | TargetEncoder::ClassNumber { names, .. } => names.len(),
        TargetEncoder::Numbers { .. } | TargetEncoder::NextToken => 0,
    }
}
