//! Text in columns, for people at a terminal.

/// Columns as wide as their widest cell: those of words to the left, figures to the right. Rows may
/// be of different lengths.
#[must_use]
pub(crate) fn columns<R: AsRef<[String]>>(rows: &[R], words: &[usize]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.as_ref().get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let count = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if words.contains(&column) {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_figures_right() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned);
        let text = columns(&[row(["NODE", "GIB"]), row(["n", "12345"])], &[0]);
        assert_eq!(text, "NODE    GIB\nn     12345\n");
    }
}
