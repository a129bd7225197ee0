//! Which field of a table holds which column of the training data.

use csv::ByteRecord;
use outgrow_data::source::file_table::FileTable;
use outgrow_ir::Diagnostic;
use outgrow_transform::{Role, Transform};

use super::Reader;

/// Which field of a line holds which column.
pub struct Layout {
    /// For each column of the transform, the number of its field.
    pub places: Vec<Option<usize>>,
    /// How many fields a line has.
    pub width: usize,
    /// Whether the first line only names the columns.
    pub header: bool,
}

impl Layout {
    /// Which field holds which column, told by the first line: its names, or else how many fields it has.
    pub fn of_line(reader: &Reader<'_>, first: &ByteRecord, line: usize) -> Result<Self, Diagnostic> {
        let trim = |c: char| c == '\u{feff}' || reader.format.trim.contains(c);
        let texts: Vec<_> = first.iter().map(String::from_utf8_lossy).collect();
        let names: Vec<&str> = texts.iter().map(|text| text.trim_matches(trim)).collect();
        let columns = &reader.transform.columns;
        let features = reader.transform.feature_columns();
        let find = |column: usize| names.iter().position(|name| *name == columns.0[column].name);
        let absent: Vec<&str> =
            features.iter().filter(|i| find(**i).is_none()).map(|i| columns.0[*i].name.as_str()).collect();
        let fields = |wanted: &dyn Fn(usize) -> bool| {
            let mut next = 0..;
            (0..columns.0.len()).map(|i| if wanted(i) { next.next() } else { None }).collect::<Vec<_>>()
        };
        if absent.is_empty() {
            let is_label = |i: usize| columns.0[i].role == Role::Label;
            let places = (0..columns.0.len()).map(|i| if is_label(i) { None } else { find(i) }).collect();
            return Ok(Self { places, width: names.len(), header: true });
        }
        let orders: [&dyn Fn(usize) -> bool; 3] =
            [&|_| true, &|i| columns.0[i].role != Role::Label, &|i| columns.0[i].role == Role::Feature];
        let fitting = orders
            .iter()
            .map(|wanted| fields(wanted))
            .find(|places| places.iter().flatten().count() == names.len());
        let named = reader.header && absent.len() < features.len();
        match fitting {
            Some(places) if !named => Ok(Self { places, width: names.len(), header: false }),
            _ => {
                let wanted: Vec<&str> = features.iter().map(|i| columns.0[*i].name.as_str()).collect();
                let problem = if named {
                    format!("the columns {} are missing", absent.join(", "))
                } else {
                    format!("the first line has {} fields and does not name the columns", names.len())
                };
                Err(Diagnostic::new("predict.columns", problem).line(line).expected(format!(
                    "a first line that names the columns {}, or the {} columns of the training data in their order",
                    wanted.join(", "),
                    columns.0.len()
                )))
            }
        }
    }
}

/// For each column of the transform, the number of the table's column: by its name, or by its place where the table's
/// columns have no names of their own.
pub fn of_table(transform: &Transform, table: &FileTable) -> Result<Vec<Option<usize>>, Diagnostic> {
    let columns = &transform.columns.0;
    let features = transform.feature_columns();
    let place =
        |i: usize| (columns[i].role != Role::Label).then(|| table.columns.position(&columns[i].name))?;
    let absent: Vec<&str> =
        (features.iter().filter(|i| place(**i).is_none())).map(|i| columns[*i].name.as_str()).collect();
    if absent.is_empty() {
        return Ok((0..columns.len()).map(place).collect());
    }
    let inputs = |i: &usize| columns[*i].role != Role::Label;
    if table.by_place && (0..columns.len()).filter(inputs).count() == table.columns.0.len() {
        let mut next = 0..;
        return Ok((0..columns.len()).map(|i| if inputs(&i) { next.next() } else { None }).collect());
    }
    let (missing, be) = if absent.len() == 1 { ("column", "is") } else { ("columns", "are") };
    let problem = format!("the {missing} {} {be} missing", absent.join(", "));
    Err(Diagnostic::new("predict.columns", problem)
        .expected("the columns that the model was trained with, without the label if need be")
        .hint(format!("the columns there are: {}", table.names.join(", "))))
}
