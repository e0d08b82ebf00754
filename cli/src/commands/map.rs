//! `daxite map`: pictures of a pool and of its volumes, one cell per 2 MiB.
//!
//! Whatever has more cells than a screen is drawn smaller: a cell then stands for several. JSON
//! has the same as runs, in full.

mod picture;
mod pool;
mod volume;

use anstyle::Style;
use daxite::daxite_core::{HUGE, PAGES_PER_HUGE};
use serde::Serialize;

use crate::args::MapArgs;
use crate::failure::Outcome;
use crate::output::Out;
use crate::session::Layer;

/// Lines that a picture may have before cells stand for more.
const LINES_MAX: usize = 32;

/// One character of a picture.
type Painted = (char, Style);

/// The JSON form.
#[derive(Serialize)]
struct Runs {
    huge_page_bytes: u64,
    huge_pages: u64,
    runs: Vec<pool::Run>,
    volumes: Vec<volume::Runs>,
}

/// Draws the pool, then its volumes.
pub(crate) fn run(layer: &Layer, args: &MapArgs, out: &mut Out) -> Outcome<()> {
    let uses = pool::uses(layer)?;
    let volumes = volume::sketches(layer)?;
    if out.is_json() {
        return out.object(&Runs {
            huge_page_bytes: HUGE,
            huge_pages: uses.len() as u64,
            runs: pool::runs(&uses),
            volumes: volumes.iter().map(volume::Runs::of).collect(),
        });
    }
    let width = |fits: fn() -> usize| args.width.map_or_else(fits, usize::from);
    pool::draw(&uses, width(pool::cells_that_fit), out)?;
    picture::draw(&volumes, width(picture::cells_that_fit), out)
}

/// Draws the pool alone as part of a larger output, indented by two cells.
pub(crate) fn show(layer: &Layer, out: &mut Out) -> Outcome<()> {
    let width = pool::cells_that_fit().saturating_sub(2).min(64);
    pool::draw(&pool::uses(layer)?, width, out)
}

/// A line of a picture, its colours changed as rarely as possible.
fn paint(line: &[Painted], out: &Out) -> String {
    line.chunk_by(|(_, one), (_, next)| one == next)
        .map(|run| out.paint(run[0].1, run.iter().map(|(cell, _)| cell).collect::<String>()))
        .collect()
}

/// The digit for so many of the 512 pages of 2 MiB: tenths.
fn tenths(pages: u16) -> char {
    let tenths = (u64::from(pages) * 10 / PAGES_PER_HUGE).min(9);
    char::from_digit(tenths as u32, 10).expect("one digit")
}
