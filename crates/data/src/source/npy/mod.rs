//! NumPy arrays: `.npy` files (an array of samples, and one of labels) and `.npz` archives of named arrays.
//!
//! The first dimension of every array counts the records. An array of one dimension is a column of its name; one of
//! two dimensions, `x`, is the columns `x1`, `x2`, …; arrays of bytes with three (`[N, H, W]`) or four dimensions
//! (`[N, H, W, C]` or `[N, C, H, W]`, with 1 or 3 channels) are images. Whole numbers as labels are classes. Arrays
//! are read row after row, in pieces, however large they are.

mod archive;
mod array;

use self::array::{Array, Place, Rows, tensor_problem};
use super::file_table::FileTable;
use super::rows::check_names;
use super::{Context, Opened, Part, RecordSource, Records, SourceKind, require};
use crate::files::{Finder, Found, storage_problem};
use crate::{DataSpec, Files, Names, TestSpec};
use outgrow_env::StorageBackend;
use outgrow_ir::{Diagnostic, Diagnostics, counted};
use outgrow_tensor::{DType, Tensor};
use outgrow_transform::{Column, ColumnKind, Columns, Origin, Pixels, Record, Value};
use std::sync::Arc;

/// `source = "npy"`.
pub const KIND: SourceKind = SourceKind {
    name: "npy",
    keys: &[
        "files", "labels", "inputs", "columns", "image", "size", "channels", "label", "task", "features",
        "exclude",
    ],
    open,
};

/// Endings of the files that a folder contributes.
pub(super) const ENDINGS: &[&str] = &[".npy", ".npz"];
/// What archives begin with; the second is one without any file.
pub(super) const ARCHIVES: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
/// What the array of a `.npy` file and its labels are called.
const INPUT: &str = "x";
const IMAGE: &str = "image";
const LABEL: &str = "label";
/// Arrays of an archive that hold the labels unless the manifest names others.
const LABELS: &[&str] = &["y", "label", "labels"];
/// More columns than this in one array are refused.
const COLUMNS_MAX: usize = 1 << 16;

/// What the rows of an array mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A number each.
    Number,
    /// So many numbers.
    Numbers(usize),
    /// An image of `[channels, height, width]`.
    Image { shape: [usize; 3], channels_last: bool },
}

impl Layout {
    fn of(array: &Array) -> Result<Self, Diagnostic> {
        let fail = |problem: String, expected: &str| {
            Diagnostic::new("data.npy.shape", problem)
                .file(&array.file.path)
                .item(format!("array `{}`", array.name))
                .expected(expected.to_owned())
        };
        let dims = array.header.shape.dims();
        let image = |shape: [usize; 3], channels_last: bool| {
            if array.header.dtype != DType::U8 {
                let problem = format!("images of element type {}", array.header.dtype.name());
                return Err(fail(problem, "bytes (`uint8`) from 0 to 255")
                    .hint("convert them, for example with `(x * 255).round().astype('uint8')`; `data.normalize` brings them to a scale again"));
            }
            outgrow_transform::image::check_size(shape[0], shape[1], shape[2])
                .map_err(|d| d.file(&array.file.path).item(format!("array `{}`", array.name)))?;
            Ok(Self::Image { shape, channels_last })
        };
        match *dims {
            [_] | [_, 1] => Ok(Self::Number),
            [_, n] if n <= COLUMNS_MAX => Ok(Self::Numbers(n)),
            [_, n] => Err(fail(format!("the array has {n} columns"), "at most 65,536 columns")),
            [_, h, w] => image([1, h, w], false),
            [_, h, w, c @ (1 | 3)] => image([c, h, w], true),
            [_, c @ (1 | 3), h, w] => image([c, h, w], false),
            [_, h, w, c] => Err(fail(
                format!("images of {h} x {w} x {c}"),
                "1 channel or 3, in the last place or the first",
            )),
            _ => Err(fail(
                format!("the array has {} dimensions", dims.len()),
                "1 (numbers), 2 (columns of numbers), 3 or 4 (images), the first of which counts the records",
            )),
        }
    }

    fn columns(self, name: &str) -> Vec<Column> {
        match self {
            Self::Number => vec![Column::new(name, ColumnKind::Number)],
            Self::Numbers(n) => {
                (1..=n).map(|i| Column::new(format!("{name}{i}"), ColumnKind::Number)).collect()
            }
            Self::Image { .. } => vec![Column::new(name, ColumnKind::Image)],
        }
    }

    /// The same with the channels in the first place, by which arrays are compared.
    fn normal(self) -> Self {
        match self {
            Self::Image { shape, .. } => Self::Image { shape, channels_last: false },
            other => other,
        }
    }

    /// Appends the values of row `row` of `rows`.
    fn push(self, rows: &Tensor, row: usize, out: &mut Vec<Value>) -> Result<(), Diagnostic> {
        // As in Parquet files, NaN marks a missing value.
        let number = |i: usize| match rows.get_f64(i) {
            n if n.is_nan() => Value::Missing,
            n => Value::Number(n),
        };
        match self {
            Self::Number => out.push(number(row)),
            Self::Numbers(n) => out.extend((row * n..(row + 1) * n).map(number)),
            Self::Image { shape: [channels, height, width], channels_last } => {
                let n = channels * height * width;
                let all = rows.as_slice::<u8>().map_err(|e| tensor_problem(&e))?;
                let pixels = &all[row * n..(row + 1) * n];
                let data = if channels_last && channels > 1 {
                    (0..n).map(|i| pixels[i % (height * width) * channels + i / (height * width)]).collect()
                } else {
                    pixels.to_vec()
                };
                out.push(Value::Pixels(Pixels { channels, height, width, data }));
            }
        }
        Ok(())
    }
}

/// Arrays whose rows are records together.
#[derive(Clone)]
struct Table {
    arrays: Vec<(Array, Layout)>,
    rows: usize,
}

impl Table {
    fn new(arrays: Vec<Array>) -> Result<Self, Diagnostic> {
        let rows = arrays.first().map_or(0, |a| a.header.rows());
        if let Some(other) = arrays.iter().find(|a| a.header.rows() != rows) {
            let first = &arrays[0];
            return Err(Diagnostic::new(
                "data.npy.count",
                format!(
                    "array `{}` has {}, array `{}` has {}",
                    first.name,
                    counted(rows, "row"),
                    other.name,
                    other.header.rows()
                ),
            )
            .file(&other.file.path)
            .expected("as many in each")
            .hint("for `.npz` files name the arrays that belong together with `inputs` and `label`: inputs = \"x_train\""));
        }
        let arrays = arrays.into_iter().map(|a| Layout::of(&a).map(|layout| (a, layout)));
        Ok(Self { arrays: arrays.collect::<Result<_, _>>()?, rows })
    }

    fn columns(&self) -> Vec<Column> {
        self.arrays.iter().flat_map(|(array, layout)| layout.columns(&array.name)).collect()
    }

    fn layouts(&self) -> impl Iterator<Item = Layout> {
        self.arrays.iter().map(|(_, layout)| *layout)
    }
}

struct NpySource {
    storage: Arc<dyn StorageBackend>,
    columns: Columns,
    default_label: Option<String>,
    labels_are_classes: bool,
    train: Vec<Table>,
    test: Option<Vec<Table>>,
}

/// Which files and arrays make up the training or the test data.
struct Choice<'a> {
    files: &'a Files,
    labels: Option<&'a str>,
    inputs: Option<&'a [String]>,
    label: Option<&'a [String]>,
    key: &'a str,
}

fn open(spec: &DataSpec, context: &Context<'_>) -> Result<Opened, Diagnostics> {
    let files = require(&spec.files, "files", KIND.name)?;
    let (inputs, label) = (spec.inputs.as_ref().map(Names::list), spec.label.as_ref().map(Names::list));
    let choice = Choice { files, labels: spec.labels.as_deref(), inputs, label, key: "data" };
    let train = tables(&context.finder, &choice)?;
    let mut columns = Columns(train[0].columns());
    for table in &train[1..] {
        same(&train[0], table, false)?;
    }
    let test = spec.test.as_ref().map(|test| test_tables(spec, test, &train[0], context)).transpose()?;
    if let Some(names) = &spec.columns {
        let own = columns.0.len() - usize::from(spec.labels.is_some());
        if names.len() != own {
            return Err(Diagnostic::new(
                "data.columns",
                format!("`columns` has {}", counted(names.len(), "name")),
            )
            .item("data.columns")
            .expected(format!("{own}, one for each column of the array"))
            .into());
        }
        columns.0.iter_mut().zip(names).for_each(|(column, name)| column.name.clone_from(name));
    }
    check_names(&columns.0.iter().map(|c| c.name.clone()).collect::<Vec<_>>())?;
    let default_label = (spec.labels.iter().map(|_| LABEL))
        .chain(LABELS.iter().copied())
        .find(|name| columns.position(name).is_some())
        .map(String::from);
    let labels: Vec<&str> = match label {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => default_label.as_deref().into_iter().collect(),
    };
    let whole = |name: &&str| {
        let mut at = columns.position(name)?;
        let array = train[0].arrays.iter().find(|(array, layout)| {
            let width = layout.columns(&array.name).len();
            at < width || {
                at -= width;
                false
            }
        })?;
        Some(!array.0.header.dtype.is_float())
    };
    let labels_are_classes = !labels.is_empty() && labels.iter().all(|name| whole(name) == Some(true));
    let storage = context.finder.storage.clone();
    Ok(Opened::Records(Box::new(NpySource {
        storage,
        columns,
        default_label,
        labels_are_classes,
        train,
        test,
    })))
}

/// The tables of the test set. It may lie in the same archive under other names.
fn test_tables(
    spec: &DataSpec,
    test: &TestSpec,
    train: &Table,
    context: &Context<'_>,
) -> Result<Vec<Table>, Diagnostic> {
    if test.images.is_some() || test.rows.is_some() || test.samples.is_some() {
        return Err(Diagnostic::new("data.test", "the test set of source `npy` is given by other keys")
            .item("data.test")
            .expected("files, labels, inputs, label"));
    }
    if spec.labels.is_some() {
        require(&test.files, "test.files", KIND.name)?;
        require(&test.labels, "test.labels", KIND.name)?;
    }
    let files = test.files.as_ref().or(spec.files.as_ref());
    let files = files.ok_or_else(|| {
        Diagnostic::new("data.no-files", "no file is named")
            .item("data.files")
            .expected("a `.npy` or `.npz` file")
    })?;
    let named = test.inputs.is_some() || test.label.is_some();
    let inputs = test.inputs.as_ref().or(if named { None } else { spec.inputs.as_ref() });
    let label = test.label.as_ref().or(if named { None } else { spec.label.as_ref() });
    let choice = Choice {
        files,
        labels: test.labels.as_deref(),
        inputs: inputs.map(Names::list),
        label: label.map(Names::list),
        key: "data.test",
    };
    let mut tables = tables(&context.finder, &choice)?;
    for table in &mut tables {
        same(train, table, true)?;
        // Columns are known by the names that they have in training.
        let order: Option<Vec<_>> = (train.arrays.iter())
            .map(|(a, _)| table.arrays.iter().position(|(b, _)| a.name == b.name))
            .collect();
        if let Some(order) = order {
            table.arrays = order.into_iter().map(|i| table.arrays[i].clone()).collect();
        }
    }
    Ok(tables)
}

/// Refuses a table that is not like the first one. In a test set, arrays may have other names.
fn same(first: &Table, table: &Table, renamed: bool) -> Result<(), Diagnostic> {
    let shown = |t: &Table| {
        let one = |(array, _): &(Array, Layout)| {
            let rest = array.header.shape.dims().iter().skip(1).map(|d| format!(", {d}"));
            format!("{}[N{}]", array.name, rest.collect::<String>())
        };
        t.arrays.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let mut layouts: Vec<Layout> = table.layouts().collect();
    let by_name = |(a, _): &(Array, Layout)| table.arrays.iter().find(|(b, _)| a.name == b.name);
    let found: Option<Vec<Layout>> = first.arrays.iter().map(|a| Some(by_name(a)?.1)).collect();
    let all_named = found.is_some();
    layouts = found.filter(|f| f.len() == layouts.len()).unwrap_or(layouts);
    if (renamed || all_named)
        && layouts.into_iter().map(Layout::normal).eq(first.layouts().map(Layout::normal))
    {
        return Ok(());
    }
    let file = table.arrays.first().map_or_else(Default::default, |(a, _)| a.file.path.clone());
    Err(Diagnostic::new("data.npy.columns", format!("the arrays are {}", shown(table)))
        .file(file)
        .expected(shown(first)))
}

/// One table per file.
fn tables(finder: &Finder<'_>, choice: &Choice<'_>) -> Result<Vec<Table>, Diagnostic> {
    let files = finder.find(choice.files.patterns(), &format!("{}.files", choice.key), ENDINGS)?;
    let key = |name: &str| format!("{}.{name}", choice.key);
    let fail = |key: String, problem: &str, expected: &str| {
        Err(Diagnostic::new("data.npy.key", problem).item(key).expected(expected.to_owned()))
    };
    if choice.labels.is_some() && files.len() > 1 {
        return fail(
            key("files"),
            "`labels` belongs to one file, and there are several",
            "one `.npy` file, or `.npz` files that hold their labels",
        );
    }
    let mut tables = Vec::new();
    for file in &files {
        let mut arrays = if is_archive(&*finder.storage, file)? {
            if choice.labels.is_some() {
                return fail(
                    key("labels"),
                    "`labels` names a file, and the labels of a `.npz` file lie in it",
                    "label = \"y\", the name of the array",
                );
            }
            choose(archive::arrays(&finder.storage, file)?, choice, file)?
        } else {
            if choice.inputs.is_some() {
                return fail(
                    key("inputs"),
                    "a `.npy` file has no named arrays",
                    "`inputs` for `.npz` files only",
                );
            }
            vec![input(&finder.storage, file)?]
        };
        if let Some(labels) = choice.labels {
            let labels = finder.find_one(labels, &key("labels"))?;
            arrays.push(plain(&finder.storage, &labels, LABEL)?);
        }
        tables.push(Table::new(arrays)?);
    }
    Ok(tables)
}

fn is_archive(storage: &dyn StorageBackend, file: &Found) -> Result<bool, Diagnostic> {
    let n = file.bytes.min(4) as usize;
    let start = storage.read_range(&file.path, 0, n).map_err(|e| storage_problem(&e))?;
    Ok(ARCHIVES.contains(&&*start))
}

/// The array of a `.npy` file of inputs.
fn input(storage: &Arc<dyn StorageBackend>, file: &Found) -> Result<Array, Diagnostic> {
    let array = plain(storage, file, INPUT)?;
    let name = if array.header.shape.rank() > 2 { IMAGE } else { INPUT };
    Ok(Array { name: name.into(), ..array })
}

fn plain(storage: &Arc<dyn StorageBackend>, file: &Found, name: &str) -> Result<Array, Diagnostic> {
    Array::open(storage, file, name, Place::Plain { start: 0, crc: None }, file.bytes)
}

/// The arrays of an archive that the manifest wants: the inputs in its order, then the labels.
fn choose(arrays: Vec<Array>, choice: &Choice<'_>, file: &Found) -> Result<Vec<Array>, Diagnostic> {
    let missing = |name: &str, key: &str| {
        let names: Vec<&str> = arrays.iter().map(|a| a.name.as_str()).collect();
        Diagnostic::new("data.npy.array", format!("there is no array `{name}`"))
            .file(&file.path)
            .item(format!("{}.{key}", choice.key))
            .expected(format!("one of: {}", names.join(", ")))
    };
    let holds = |array: &Array, label: &str| {
        let numbered = || Some(Layout::of(array).ok()?.columns(&array.name).iter().any(|c| c.name == label));
        array.name == label || numbered().unwrap_or(false)
    };
    let mut labels = Vec::new();
    for label in choice.label.unwrap_or_default() {
        let found = arrays.iter().position(|a| holds(a, label)).ok_or_else(|| missing(label, "label"))?;
        labels.push(found);
    }
    if choice.label.is_none() {
        labels.extend(LABELS.iter().find_map(|name| arrays.iter().position(|a| a.name == *name)));
    }
    let mut chosen: Vec<usize> = match choice.inputs {
        Some(names) => {
            let position = |name: &String| arrays.iter().position(|a| a.name == *name);
            names.iter().map(|n| position(n).ok_or_else(|| missing(n, "inputs"))).collect::<Result<_, _>>()?
        }
        None => (0..arrays.len()).collect(),
    };
    chosen.extend(labels);
    let mut kept: Vec<usize> = Vec::new();
    chosen.into_iter().for_each(|i| {
        if !kept.contains(&i) {
            kept.push(i)
        }
    });
    Ok(kept.into_iter().map(|i| arrays[i].clone()).collect())
}

/// Reads the records of a table.
struct TableRecords {
    table: Table,
    storage: Arc<dyn StorageBackend>,
    readers: Vec<Rows>,
    /// The rows at hand, and how many of them were given.
    piece: Vec<Tensor>,
    given: usize,
    length: usize,
    row: usize,
    failed: bool,
}

impl TableRecords {
    fn new(table: Table, storage: Arc<dyn StorageBackend>) -> Self {
        let (readers, piece) = (Vec::new(), Vec::new());
        Self { table, storage, readers, piece, given: 0, length: 0, row: 0, failed: false }
    }

    fn fill(&mut self) -> Result<(), Diagnostic> {
        if self.readers.is_empty() {
            let readers = self.table.arrays.iter().map(|(array, _)| array.rows(&self.storage));
            self.readers = readers.collect::<Result<_, _>>()?;
        }
        let most = self.table.arrays.iter().map(|(array, _)| array.rows_per_piece()).min().unwrap_or(1);
        self.length = most.min(self.table.rows - self.row);
        self.given = 0;
        self.piece = self.readers.iter_mut().map(|r| r.take(self.length)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn record(&mut self) -> Result<Record, Diagnostic> {
        if self.given == self.length {
            self.fill()?;
        }
        let mut values = Vec::new();
        for (rows, layout) in self.piece.iter().zip(self.table.layouts()) {
            layout.push(rows, self.given, &mut values)?;
        }
        self.given += 1;
        self.row += 1;
        let file = self.table.arrays.first().map(|(array, _)| Arc::from(array.file.path.as_path()));
        Ok(Record { values, origin: Origin { file, line: None, row: self.row as u64 } })
    }
}

impl Iterator for TableRecords {
    type Item = Result<Record, Diagnostic>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.row == self.table.rows {
            return None;
        }
        let record = self.record();
        self.failed = record.is_err();
        Some(record)
    }
}

/// One file by itself: its array, or of an archive the arrays of which something is wanted, and if nothing is, all but
/// labels.
pub(super) fn file_table(
    storage: &Arc<dyn StorageBackend>,
    file: &Found,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<FileTable, Diagnostic> {
    let mut by_place = true;
    let arrays = if is_archive(&**storage, file)? {
        let mut arrays = archive::arrays(storage, file)?;
        let columns =
            |array: &Array| Layout::of(array).map_or(Vec::new(), |layout| layout.columns(&array.name));
        let is_wanted = |array: &Array| columns(array).iter().any(|column| wanted(&column.name));
        by_place = !arrays.iter().any(is_wanted);
        match by_place {
            true => arrays.retain(|array| !LABELS.contains(&array.name.as_str())),
            false => arrays.retain(is_wanted),
        }
        arrays
    } else {
        vec![input(storage, file)?]
    };
    let table = Table::new(arrays)?;
    let columns = Columns(table.columns());
    let names = columns.0.iter().map(|column| column.name.clone()).collect();
    let records = Box::new(TableRecords::new(table, storage.clone()));
    Ok(FileTable { columns, names, by_place, records })
}

impl NpySource {
    fn part(&self, part: Part) -> &[Table] {
        match part {
            Part::Train => &self.train,
            Part::Test => self.test.as_deref().unwrap_or_default(),
        }
    }
}

impl RecordSource for NpySource {
    fn columns(&self) -> &Columns {
        &self.columns
    }
    fn files(&self) -> Vec<Found> {
        let mut files: Vec<Found> = Vec::new();
        for (array, _) in self.train.iter().chain(self.test.iter().flatten()).flat_map(|t| &t.arrays) {
            if !files.contains(&array.file) {
                files.push(array.file.clone());
            }
        }
        files
    }
    fn default_label(&self) -> Option<&str> {
        self.default_label.as_deref()
    }
    fn labels_are_classes(&self) -> bool {
        self.labels_are_classes
    }
    fn has_test(&self) -> bool {
        self.test.is_some()
    }
    fn count(&self, part: Part) -> Option<u64> {
        Some(self.part(part).iter().map(|t| t.rows as u64).sum())
    }
    fn records(&self, part: Part) -> Result<Records<'_>, Diagnostic> {
        let records = |table: &Table| TableRecords::new(table.clone(), self.storage.clone());
        Ok(Box::new(self.part(part).iter().flat_map(records)))
    }
}
