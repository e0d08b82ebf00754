//! The volumes of a pool as runs of slots that are alike: what JSON has, and pictures are made of.

use daxite::daxite_core::{HUGE, LogicalRange, SlotExtents, SlotInfo, VolumeStats};
use serde::Serialize;

use crate::failure::Outcome;
use crate::session::Layer;

/// A volume, ready to be shown.
pub(super) struct Sketch {
    pub(super) name: String,
    pub(super) len_bytes: u64,
    /// Those with extents.
    pub(super) marks: Vec<Mark>,
}

/// What a slot that is no hole shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    pub(super) slot: u64,
    pub(super) extents: SlotExtents,
    pub(super) dirty_bytes: u64,
}

/// All volumes of the pool.
pub(super) fn sketches(layer: &Layer) -> Outcome<Vec<Sketch>> {
    let fail = |error| layer.fail(error);
    let pool = &layer.pool;
    let mut sketches = Vec::new();
    for VolumeStats { name, len_bytes, .. } in pool.volumes().map_err(fail)? {
        // One that another thread has removed meanwhile is not drawn.
        let Some(volume) = pool.volume(&name).map_err(fail)? else { continue };
        let slots = volume.slots(LogicalRange::new(0, len_bytes)).map_err(fail)?;
        let marks = slots.into_iter().map(Mark::of).collect();
        sketches.push(Sketch { name, len_bytes, marks });
    }
    Ok(sketches)
}

impl Mark {
    fn of(slot: SlotInfo) -> Self {
        Self { slot: slot.slot.0, extents: slot.extents, dirty_bytes: slot.dirty_bytes }
    }
}

impl Sketch {
    pub(super) fn slots(&self) -> u64 {
        self.len_bytes.div_ceil(HUGE)
    }
}

/// The JSON form: runs of slots that are alike, holes included, from the first slot to the last.
#[derive(Serialize)]
pub(super) struct Runs {
    name: String,
    len_bytes: u64,
    slots: u64,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    first: u64,
    count: u64,
    #[serde(rename = "use")]
    used: &'static str,
    /// Of each slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pages_used: Option<u16>,
    /// Of all slots of the run.
    dirty_bytes: u64,
}

impl Runs {
    pub(super) fn of(sketch: &Sketch) -> Self {
        let mut runs = Vec::new();
        let mut next_slot = 0;
        let hole = |first: u64, end: u64| Run {
            first,
            count: end - first,
            used: "hole",
            pages_used: None,
            dirty_bytes: 0,
        };
        let alike = |a: &Mark, b: &Mark| {
            (a.slot + 1, a.extents, a.dirty_bytes) == (b.slot, b.extents, b.dirty_bytes)
        };
        for marks in sketch.marks.chunk_by(alike) {
            let (first, count) = (marks[0].slot, marks.len() as u64);
            if first > next_slot {
                runs.push(hole(next_slot, first));
            }
            let (used, pages_used) = match marks[0].extents {
                SlotExtents::Pages(pages) => ("pages", Some(pages)),
                SlotExtents::Huge => ("huge", None),
            };
            let dirty_bytes = marks[0].dirty_bytes * count;
            runs.push(Run { first, count, used, pages_used, dirty_bytes });
            next_slot = first + count;
        }
        if next_slot < sketch.slots() {
            runs.push(hole(next_slot, sketch.slots()));
        }
        Self { name: sketch.name.clone(), len_bytes: sketch.len_bytes, slots: sketch.slots(), runs }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A volume that ends one byte before the end of its last slot.
    pub(in super::super) fn sketch(slots: u64, marks: &[(u64, SlotExtents, u64)]) -> Sketch {
        let marks =
            marks.iter().map(|&(slot, extents, dirty_bytes)| Mark { slot, extents, dirty_bytes });
        Sketch { name: "v".into(), len_bytes: slots * HUGE - 1, marks: marks.collect() }
    }

    use SlotExtents::{Huge, Pages};

    #[test]
    fn runs_cover_the_volume() {
        let marks =
            [(2, Huge, HUGE), (3, Huge, HUGE), (4, Huge, 0), (6, Pages(7), 0), (7, Pages(8), 4096)];
        let runs = Runs::of(&sketch(100, &marks));
        let runs: Vec<_> =
            runs.runs.iter().map(|run| (run.first, run.count, run.used, run.dirty_bytes)).collect();
        let expected = [
            (0, 2, "hole", 0),
            (2, 2, "huge", 2 * HUGE),
            (4, 1, "huge", 0),
            (5, 1, "hole", 0),
            (6, 1, "pages", 0),
            (7, 1, "pages", 4096),
            (8, 92, "hole", 0),
        ];
        assert_eq!(runs, expected);
    }
}
