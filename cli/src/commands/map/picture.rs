//! Pictures of volumes, one cell per slot of 2 MiB.
//!
//! | cell | means |
//! | --- | --- |
//! | `H` | one extent of 2 MiB |
//! | `D` | the same, handed out for writing since it was last synced |
//! | `0`-`9` | extents of 4 KiB, so many tenths of its pages |
//! | `d` | the same, and some are dirty |
//! | `.` | a hole |
//!
//! A volume may be 256 TiB long and have two extents. So lines without extents are not drawn, only
//! said; and if there are too many others, a cell stands for several slots and shows what is in
//! them: a hole only if all are.

use anstyle::{AnsiColor, Style};
use daxite::daxite_core::{HUGE, SlotExtents};

use super::volume::{Mark, Sketch};
use super::{LINES_MAX, Painted};
use crate::failure::Outcome;
use crate::output::{self, Out};
use crate::size::{counted, exact, human};

/// Columns before the cells of a line.
const MARGIN: usize = 16;
/// Wide lines have a multiple of so many cells, so that they start at round offsets.
const ROUND: usize = 16;

/// What a cell shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    Hole,
    Pages(u16),
    DirtyPages,
    Huge,
    DirtyHuge,
}

/// A line of the picture.
#[derive(PartialEq, Eq, Debug)]
enum Line {
    Cells { first_slot: u64, cells: Vec<Cell> },
    Hole { first_slot: u64, slots: u64 },
}

/// What stands behind each kind of cell, in the order of the legend.
const LEGEND: [(Cell, &str, &str); 5] = [
    (Cell::Huge, "H", "one extent of 2 MiB"),
    (Cell::DirtyHuge, "D", "one extent of 2 MiB, dirty"),
    (Cell::Pages(0), "0-9", "extents of 4 KiB, tenths of the slot"),
    (Cell::DirtyPages, "d", "extents of 4 KiB, some dirty"),
    (Cell::Hole, ".", "hole"),
];

/// Cells of a line as wide as the screen, or a little less.
pub(super) fn cells_that_fit() -> usize {
    match output::width() - MARGIN {
        narrow @ ..ROUND => narrow,
        wide => wide / ROUND * ROUND,
    }
}

/// Draws the volumes in lines of `width` cells, and explains the cells.
pub(super) fn draw(sketches: &[Sketch], width: usize, out: &mut Out) -> Outcome<()> {
    let mut drawn = Vec::new();
    for sketch in sketches {
        out.line("")?;
        out.heading(&format!("Volume {}, {} long", sketch.name, human(sketch.len_bytes)))?;
        let per_cell = sketch.slots_per_cell(width);
        for line in sketch.lines(width, per_cell) {
            draw_line(&line, out)?;
            match line {
                Line::Cells { cells, .. } => drawn.extend(cells),
                Line::Hole { .. } => {}
            }
        }
        if per_cell > 1 {
            let unit = counted(per_cell, "slot", "slots");
            out.line(format_args!("{:16}one cell is {unit} of 2 MiB", ""))?;
        }
    }
    legend(&drawn, out)
}

fn draw_line(line: &Line, out: &mut Out) -> Outcome<()> {
    let (first_slot, text) = match line {
        Line::Cells { first_slot, cells } => {
            let painted = |cell: &Cell| (cell.sign(), cell.style());
            (first_slot, super::paint(&cells.iter().map(painted).collect::<Vec<Painted>>(), out))
        }
        Line::Hole { first_slot, slots } => {
            let hole = format!("({} of hole)", human(slots * HUGE));
            (first_slot, out.paint(Cell::Hole.style(), hole))
        }
    };
    out.line(format_args!("{:>14}  {text}", exact(first_slot * HUGE)))
}

/// Explains the kinds of cells that were drawn.
fn legend(drawn: &[Cell], out: &mut Out) -> Outcome<()> {
    if !drawn.is_empty() {
        out.line("")?;
    }
    for (kind, sign, meaning) in LEGEND {
        if drawn.iter().any(|cell| cell.kind() == kind) {
            let sign = out.paint(kind.style(), format_args!("{sign:>14}"));
            out.line(format_args!("{sign}  {meaning}"))?;
        }
    }
    Ok(())
}

impl Sketch {
    /// The smallest power of two with which few enough lines have an extent.
    fn slots_per_cell(&self, width: usize) -> u64 {
        let lines = |per_cell: u64| {
            let line = |mark: &Mark| mark.slot / (per_cell * width as u64);
            self.marks.chunk_by(|one, next| line(one) == line(next)).count()
        };
        let scales = (0..u64::BITS).map(|power| 1 << power);
        scales.into_iter().find(|&per_cell| lines(per_cell) <= LINES_MAX).expect("one line at last")
    }

    /// The picture, from the first slot to the last.
    fn lines(&self, width: usize, per_cell: u64) -> Vec<Line> {
        let per_line = per_cell * width as u64;
        let mut lines = Vec::new();
        let mut next_slot = 0;
        let hole = |from: u64, to: u64| Line::Hole { first_slot: from, slots: to - from };
        for marks in self.marks.chunk_by(|a, b| a.slot / per_line == b.slot / per_line) {
            let first_slot = marks[0].slot / per_line * per_line;
            if first_slot > next_slot {
                lines.push(hole(next_slot, first_slot));
            }
            next_slot = (first_slot + per_line).min(self.slots());
            let cells = (next_slot - first_slot).div_ceil(per_cell);
            let mut cells = vec![Cell::Hole; cells as usize];
            for marks in marks.chunk_by(|a, b| a.slot / per_cell == b.slot / per_cell) {
                cells[((marks[0].slot - first_slot) / per_cell) as usize] = Cell::of(marks);
            }
            lines.push(Line::Cells { first_slot, cells });
        }
        if next_slot < self.slots() {
            lines.push(hole(next_slot, self.slots()));
        }
        lines
    }
}

impl Cell {
    /// What one cell shows for `marks`, the slots in it that are no holes: what most of them are, the
    /// larger extents where both are equal, and dirty if any is.
    fn of(marks: &[Mark]) -> Self {
        let pages = marks.iter().filter_map(|mark| match mark.extents {
            SlotExtents::Pages(pages) => Some(usize::from(pages)),
            SlotExtents::Huge => None,
        });
        let split = pages.clone().count();
        let is_dirty = marks.iter().any(|mark| mark.dirty_bytes > 0);
        match (split * 2 > marks.len(), is_dirty) {
            (true, true) => Self::DirtyPages,
            (true, false) => Self::Pages((pages.sum::<usize>() / split) as u16),
            (false, true) => Self::DirtyHuge,
            (false, false) => Self::Huge,
        }
    }

    fn sign(self) -> char {
        match self {
            Self::Hole => '.',
            Self::Pages(pages) => super::tenths(pages),
            Self::DirtyPages => 'd',
            Self::Huge => 'H',
            Self::DirtyHuge => 'D',
        }
    }

    fn style(self) -> Style {
        let color = match self {
            Self::Hole => return Style::new().dimmed(),
            Self::Pages(_) => AnsiColor::Yellow,
            Self::Huge => AnsiColor::Green,
            Self::DirtyPages | Self::DirtyHuge => AnsiColor::Red,
        };
        color.on_default()
    }

    /// The same cell, whatever the fill: what the legend explains together.
    fn kind(self) -> Self {
        match self {
            Self::Pages(_) => Self::Pages(0),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::volume::tests::sketch;
    use super::*;

    fn picture(sketch: &Sketch, width: usize) -> Vec<String> {
        let lines = sketch.lines(width, sketch.slots_per_cell(width));
        let text = lines.iter().map(|line| match line {
            Line::Cells { first_slot, cells } => {
                format!("{first_slot} {}", cells.iter().map(|cell| cell.sign()).collect::<String>())
            }
            Line::Hole { first_slot, slots } => format!("{first_slot} hole {slots}"),
        });
        text.collect()
    }

    use SlotExtents::{Huge, Pages};

    #[test]
    fn every_state_has_its_cell_and_the_last_line_ends_with_the_volume() {
        let marks = [
            (0, Huge, 0),
            (1, Huge, HUGE),
            (2, Pages(1), 0),
            (3, Pages(256), 0),
            (4, Pages(512), 0),
            (5, Pages(256), 4096),
            (9, Huge, 0),
        ];
        let sketch = sketch(11, &marks);
        assert_eq!(picture(&sketch, 8), ["0 HD059d..", "8 .H."]);
        assert_eq!(picture(&sketch, 16), ["0 HD059d...H."]);
    }

    #[test]
    fn lines_of_holes_are_said_and_not_drawn() {
        let last = (1 << 27) - 1;
        let far = sketch(last + 1, &[(17, Huge, 0), (40, Huge, 0), (last, Huge, 0)]);
        let expected = [
            "0 hole 16",
            "16 .H......",
            "24 hole 16",
            "40 H.......",
            "48 hole 134217672",
            "134217720 .......H",
        ];
        assert_eq!(picture(&far, 8), expected);
        assert_eq!(picture(&sketch(100, &[]), 8), ["0 hole 100"]);
    }

    #[test]
    fn a_picture_with_too_many_lines_is_drawn_smaller() {
        let marks: Vec<_> = (0..1000).map(|nth| (nth * 1000, Huge, 0)).collect();
        let wide = sketch(1 << 20, &marks);
        let lines = wide.lines(8, wide.slots_per_cell(8));
        let drawn = lines.iter().filter(|line| matches!(line, Line::Cells { .. })).count();
        assert!((LINES_MAX / 2..=LINES_MAX).contains(&drawn), "{drawn} lines");
        let mixed =
            [(0, Huge, 0), (1, Pages(100), 0), (2, Pages(300), 0)].map(|mark| sketch(3, &[mark]));
        let marks: Vec<Mark> = mixed.iter().flat_map(|sketch| sketch.marks.clone()).collect();
        assert_eq!(Cell::of(&marks), Cell::Pages(200));
        assert_eq!(Cell::of(&marks[..2]), Cell::Huge);
    }
}
