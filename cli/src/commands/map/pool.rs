//! The picture of the pool, one cell per huge page.
//!
//! | cell | means |
//! | --- | --- |
//! | `M` | holds the superblock (and whatever else fits beside it) |
//! | `L` | one extent of 2 MiB that belongs to the log |
//! | `V` | one extent of 2 MiB that belongs to another volume |
//! | `0`-`9` | split into pages of 4 KiB, so many tenths of them in use |
//! | `.` | free |
//!
//! A pool with more huge pages than a screen has cells is drawn smaller: a cell then stands for
//! several huge pages, and for what most of them are used for.

use anstyle::{AnsiColor, Style};
use daxite::daxite_core::{HUGE, HugeUse};
use serde::Serialize;

use super::LINES_MAX;
use crate::failure::Outcome;
use crate::output::{self, Out};
use crate::session::Layer;
use crate::size;

/// Columns before the cells of a line.
const MARGIN: usize = 12;
/// The volume that the store keeps its log in.
const LOG_VOLUME: &str = "log";

/// What a huge page is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    Superblock,
    Log,
    Volume,
    /// Pages in use among its 512.
    Split(u16),
    Free,
}

impl Use {
    fn of(huge: &HugeUse, log: Option<u32>) -> Self {
        let used: u16 = huge.pages_of.iter().map(|&(_, pages)| pages).sum();
        match huge.huge_of {
            Some(owner) if Some(owner) == log => Self::Log,
            Some(_) => Self::Volume,
            None if huge.superblock_pages > 0 => Self::Superblock,
            None if used + huge.table_pages == 0 => Self::Free,
            None => Self::Split(used + huge.table_pages),
        }
    }

    fn cell(self) -> char {
        match self {
            Self::Superblock => 'M',
            Self::Log => 'L',
            Self::Volume => 'V',
            Self::Split(pages) => super::tenths(pages),
            Self::Free => '.',
        }
    }

    fn style(self) -> Style {
        let color = match self {
            Self::Superblock => AnsiColor::Magenta,
            Self::Log => AnsiColor::Green,
            Self::Volume => AnsiColor::Blue,
            Self::Split(_) => AnsiColor::Yellow,
            Self::Free => return Style::new().dimmed(),
        };
        color.on_default()
    }

    /// The same use, whatever the fill: what the legend counts together.
    fn kind(self) -> Self {
        match self {
            Self::Split(_) => Self::Split(0),
            other => other,
        }
    }
}

/// What stands behind each kind of cell, in the order of the legend.
const LEGEND: [(Use, &str, &str); 5] = [
    (Use::Superblock, "M", "superblock, and metadata beside it"),
    (Use::Log, "L", "log, as one extent of 2 MiB"),
    (Use::Volume, "V", "another volume, as one extent of 2 MiB"),
    (Use::Split(0), "0-9", "split into pages of 4 KiB, tenths in use"),
    (Use::Free, ".", "free"),
];

/// What each huge page of the pool is used for.
pub(super) fn uses(layer: &Layer) -> Outcome<Vec<Use>> {
    let volumes = layer.pool.volumes().map_err(|error| layer.fail(error))?;
    let log = volumes.iter().find(|volume| volume.name == LOG_VOLUME).map(|volume| volume.id);
    let occupancy = layer.pool.occupancy().map_err(|error| layer.fail(error))?;
    Ok(occupancy.iter().map(|huge| Use::of(huge, log)).collect())
}

/// Cells of a line as wide as the screen.
pub(super) fn cells_that_fit() -> usize {
    output::width() - MARGIN
}

/// Draws the pool in lines of `width` cells.
pub(super) fn draw(uses: &[Use], width: usize, out: &mut Out) -> Outcome<()> {
    let per_cell = uses.len().div_ceil(width * LINES_MAX).max(1).next_power_of_two();
    let cells: Vec<Use> = uses.chunks(per_cell).map(majority).collect();
    for (at, line) in cells.chunks(width).enumerate() {
        let offset = size::human((at * width * per_cell) as u64 * HUGE);
        let cells: Vec<_> = line.iter().map(|used| (used.cell(), used.style())).collect();
        let painted = super::paint(&cells, out);
        out.line(format_args!("{offset:>10}  {painted}"))?;
    }
    let unit = size::counted(per_cell as u64, "huge page", "huge pages");
    out.line(format_args!("\n{:12}one cell is {unit} of 2 MiB", ""))?;
    for (kind, sign, meaning) in LEGEND {
        let count = uses.iter().filter(|used| used.kind() == kind).count();
        if count > 0 {
            let sign = out.paint(kind.style(), format_args!("{sign:>3}"));
            out.line(format_args!("{:8}{sign} {:>8}  {meaning}", "", size::grouped(count as u64)))?;
        }
    }
    Ok(())
}

/// What one cell shows for several huge pages: the superblock if it is there, else what most are
/// used for, the fuller kind where two are equal.
fn majority(uses: &[Use]) -> Use {
    if uses.contains(&Use::Superblock) {
        return Use::Superblock;
    }
    let count = |kind: Use| uses.iter().filter(|used| used.kind() == kind).count();
    let kinds = [Use::Free, Use::Split(0), Use::Volume, Use::Log];
    match kinds.into_iter().max_by_key(|&kind| count(kind)).unwrap_or(Use::Free) {
        Use::Split(_) => {
            let split = uses.iter().filter_map(|used| match used {
                Use::Split(pages) => Some(usize::from(*pages)),
                _ => None,
            });
            Use::Split((split.sum::<usize>() / count(Use::Split(0)).max(1)) as u16)
        }
        other => other,
    }
}

/// Huge pages with the same use.
#[derive(Serialize)]
pub(super) struct Run {
    first: u64,
    count: u64,
    #[serde(rename = "use")]
    used: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages_used: Option<u16>,
}

/// The pool as runs.
pub(super) fn runs(uses: &[Use]) -> Vec<Run> {
    let mut first = 0;
    let mut runs = Vec::new();
    for run in uses.chunk_by(|a, b| a == b) {
        let (used, pages_used) = match run[0] {
            Use::Superblock => ("superblock", None),
            Use::Log => ("log", None),
            Use::Volume => ("volume", None),
            Use::Split(pages) => ("split", Some(pages)),
            Use::Free => ("free", None),
        };
        runs.push(Run { first, count: run.len() as u64, used, pages_used });
        first += run.len() as u64;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn huge(
        huge_of: Option<u32>,
        superblock_pages: u16,
        log_pages: u16,
        table_pages: u16,
    ) -> HugeUse {
        let mut huge = HugeUse::default();
        huge.huge_of = huge_of;
        huge.superblock_pages = superblock_pages;
        huge.table_pages = table_pages;
        if log_pages > 0 {
            huge.pages_of.push((7, log_pages));
        }
        huge
    }

    #[test]
    fn every_use_has_its_cell() {
        let of = |huge| Use::of(&huge, Some(7)).cell();
        assert_eq!(of(huge(None, 1, 100, 2)), 'M');
        assert_eq!(of(huge(Some(7), 0, 0, 0)), 'L');
        assert_eq!(of(huge(Some(8), 0, 0, 0)), 'V');
        assert_eq!(of(huge(None, 0, 0, 0)), '.');
        assert_eq!(of(huge(None, 0, 0, 1)), '0');
        assert_eq!(of(huge(None, 0, 256, 0)), '5');
        assert_eq!(of(huge(None, 0, 512, 0)), '9');
    }

    #[test]
    fn a_large_pool_is_drawn_smaller() {
        assert_eq!(majority(&[Use::Free, Use::Log, Use::Log, Use::Free]), Use::Log);
        assert_eq!(majority(&[Use::Free, Use::Free, Use::Log]), Use::Free);
        assert_eq!(majority(&[Use::Superblock, Use::Free, Use::Free]), Use::Superblock);
        assert_eq!(majority(&[Use::Split(100), Use::Split(200)]), Use::Split(150));
    }

    #[test]
    fn runs_cover_the_pool() {
        let uses = [Use::Superblock, Use::Log, Use::Log, Use::Split(3), Use::Free];
        let runs = runs(&uses);
        assert_eq!(runs.len(), 4);
        assert_eq!(runs.iter().map(|run| run.count).sum::<u64>(), 5);
    }
}
