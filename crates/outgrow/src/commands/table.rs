//! Tables as plain text.

/// How wide each column of a table is, in characters.
#[derive(Debug, Default)]
pub struct Widths {
    columns: Vec<usize>,
    /// A column that is left out.
    hidden: Option<usize>,
}

impl Widths {
    /// Makes room for a line's cells.
    pub fn see(&mut self, cells: &[String]) {
        self.columns.resize(self.columns.len().max(cells.len()), 0);
        for (width, cell) in self.columns.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// Leaves a column out of all lines.
    pub fn hide(&mut self, column: usize) {
        self.hidden = Some(column);
    }

    /// A line of the table, two blanks between its columns.
    pub fn line(&self, cells: &[String]) -> String {
        let cells = cells.iter().zip(&self.columns).enumerate().filter(|(i, _)| Some(*i) != self.hidden);
        let cells = cells.map(|(_, (cell, width))| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    }
}

/// Lines of cells as columns.
pub fn aligned(table: &[Vec<String>]) -> String {
    let mut widths = Widths::default();
    table.iter().for_each(|line| widths.see(line));
    table.iter().map(|line| widths.line(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let line = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
        let table = [line(&["a", "bb", "c"]), line(&["äöü", "", "d"]), line(&["x"])];
        assert_eq!(aligned(&table), "a    bb  c\näöü      d\nx\n");
        assert_eq!(aligned(&[]), "");
    }
}
