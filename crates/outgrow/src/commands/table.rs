//! Tables as plain text.

/// Lines of cells as columns, two blanks between them.
pub fn aligned(table: &[Vec<String>]) -> String {
    let width =
        |column: usize| table.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..table.iter().map(Vec::len).max().unwrap_or(0)).filter_map(width).collect();
    let mut text = String::new();
    for line in table {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
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
