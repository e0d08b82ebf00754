//! Text in aligned columns.
//!
//! Columns are as wide as their widest cell, on the screen and not in bytes. The last column is
//! never padded, so that long values wrap where the terminal wraps them.

use unicode_width::UnicodeWidthStr;

use crate::failure::Outcome;
use crate::output::Out;

/// Spaces between two columns.
const GAP: usize = 2;
/// A column does not grow beyond this many cells for the sake of one long text.
const WIDTH_MAX: usize = 48;

/// Rows that are waiting to be aligned.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<String>,
}

impl Table {
    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(Row { cells: cells.into() });
    }

    /// Number of rows that are waiting.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Prints and forgets the rows, each `indent` cells from the left.
    pub(crate) fn print(&mut self, out: &mut Out, indent: usize) -> Outcome<()> {
        let widths = self.widths();
        for row in self.rows.drain(..) {
            let mut line = " ".repeat(indent);
            for (at, cell) in row.cells.iter().enumerate() {
                line.push_str(cell);
                if at + 1 < row.cells.len() {
                    let used = screen_width(cell);
                    line.push_str(&" ".repeat(widths[at].saturating_sub(used) + GAP));
                }
            }
            out.line(line.trim_end())?;
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(&row.cells) {
                *width = screen_width(cell).clamp(*width, WIDTH_MAX.max(*width));
            }
        }
        widths
    }
}

/// Cells that `text` takes on a terminal; escape sequences take none.
fn screen_width(text: &str) -> usize {
    let mut width = 0;
    for (at, piece) in text.split('\x1b').enumerate() {
        let shown = match at {
            0 => piece,
            _ => piece.split_once('m').map_or("", |(_, shown)| shown),
        };
        width += shown.width();
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_is_what_the_screen_shows() {
        assert_eq!(screen_width("abc"), 3);
        assert_eq!(screen_width("Zürich"), 6);
        assert_eq!(screen_width("東京"), 4);
        assert_eq!(screen_width("\x1b[1mab\x1b[0m"), 2);
    }

    #[test]
    fn one_long_text_does_not_widen_its_column_without_end() {
        let mut table = Table::default();
        table.row(["a".to_string(), "b".to_string()]);
        table.row(["x".repeat(500), "b".to_string()]);
        assert_eq!(table.widths(), [WIDTH_MAX, 1]);
    }
}
