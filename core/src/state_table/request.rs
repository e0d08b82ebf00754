//! The requests of the table: what a fault, or a call, asks of the slot on the stage.

use super::stage::{PAGE_OF_INTEREST, Stage, TESTED};
use crate::counters::{Access, Refusal};
use crate::error::Error;
use crate::guard::{Faulted, Pinned};
use crate::persist::load_word;
use crate::units::{ByteRange, LogicalRange, Offset, PAGE};
use crate::volume::Volume;
use crate::{Result, fault};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Request {
    /// Faults that ask for 4 KiB only, of the page of interest.
    Read4,
    Write4,
    /// Faults for all of the slot.
    Read2,
    Write2,
    /// Appending to all of the slot, and to its first four pages.
    Append2,
    Append4,
    PunchPage,
    PunchSlot,
    Zero,
    Sync,
    /// Making the volume end where the slot starts.
    Cut,
    Upgrade,
    /// Copying calls for the page of interest.
    Read,
    Write,
}

impl Request {
    pub(super) const ALL: [Self; 14] = [
        Self::Read4,
        Self::Write4,
        Self::Read2,
        Self::Write2,
        Self::Append2,
        Self::Append4,
        Self::PunchPage,
        Self::PunchSlot,
        Self::Zero,
        Self::Sync,
        Self::Cut,
        Self::Upgrade,
        Self::Read,
        Self::Write,
    ];

    pub(super) fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|request| format!("{request:?}") == name);
        found.unwrap_or_else(|| panic!("no request {name}"))
    }

    /// Does it, and says how it ended.
    pub(super) fn act(self, volume: &Volume) -> String {
        self.try_act(volume).unwrap_or_else(|error| match error {
            Error::InvalidArgument(_) => "refused: no hole".to_string(),
            Error::Full { .. } => "full".to_string(),
            Error::OutOfRange { .. } => "past the end".to_string(),
            error => format!("{error}"),
        })
    }

    fn try_act(self, volume: &Volume) -> Result<String> {
        let page = Stage::page_range(PAGE_OF_INTEREST);
        let slot = Stage::slot_range(volume);
        let done = |()| "done".to_string();
        match self {
            Self::Read4 => fault_page(volume, Access::Read),
            Self::Write4 => fault_page(volume, Access::Write),
            Self::Read2 => {
                let guard = volume.map(slot)?;
                Ok(if guard.is_hole() { hole(guard.len()) } else { content(&guard) })
            }
            Self::Write2 => volume.map_mut(slot).map(|guard| content(&guard)),
            Self::Append2 => append(volume, slot),
            Self::Append4 => append(volume, LogicalRange::new(slot.start, 4 * PAGE)),
            Self::PunchPage => volume.punch(page).map(done),
            Self::PunchSlot => volume.punch(slot).map(done),
            Self::Zero => volume.zero(page).map(done),
            Self::Sync => volume.sync(page).map(done),
            Self::Cut => volume.set_len(slot.start).map(done),
            Self::Upgrade => {
                let report = volume.upgrade(slot, 1)?;
                let refused = Refusal::ALL.into_iter().find(|&why| report.refusals(why) > 0);
                Ok(match (report.in_place, report.relocated, report.already_huge, refused) {
                    (1, 0, 0, None) => "joined".to_string(),
                    (0, 1, 0, None) => "moved".to_string(),
                    (0, 0, 1, None) => "huge already".to_string(),
                    (0, 0, 0, Some(why)) => format!("refused {why}"),
                    (0, 0, 0, None) => "nothing".to_string(),
                    _ => format!("{report:?}"),
                })
            }
            Self::Read => {
                let mut bytes = vec![0xee; PAGE as usize];
                volume.read(page.start, &mut bytes)?;
                Ok(content(&bytes))
            }
            Self::Write => volume.write(page.start, &[0x77; PAGE as usize]).map(done),
        }
    }
}

/// A fault that may not use 2 MiB, as in the kernel after a fallback.
fn fault_page(volume: &Volume, access: Access) -> Result<String> {
    let range = Stage::page_range(PAGE_OF_INTEREST);
    let request = fault::Request { range, access, huge_allowed: false, pages_min: 1 };
    Ok(match Pinned::fault(&volume.shared, request, None)? {
        Faulted::Hole { len_bytes } => hole(len_bytes as usize),
        Faulted::Pinned(pinned) => content(&stored(volume, pinned.physical)),
    })
}

fn append(volume: &Volume, range: LogicalRange) -> Result<String> {
    let (appender, _extent) = volume.map_append(range, 1)?;
    Ok(format!("{} to append", appender.remaining_bytes() / PAGE))
}

/// The bytes of the pool at `range`.
pub(super) fn stored(volume: &Volume, range: ByteRange) -> Vec<u8> {
    let words = (range.start.0..range.end().0).step_by(8);
    let medium = &volume.shared.pool.medium;
    words.flat_map(|at| load_word(medium, Offset(at)).unwrap().to_le_bytes()).collect()
}

/// Pages of the shared zero extent.
fn hole(len_bytes: usize) -> String {
    format!("{} hole", len_bytes as u64 / PAGE)
}

/// Pages of an extent, and the byte that they are filled with up to the end of the volume.
fn content(bytes: &[u8]) -> String {
    let same = bytes.iter().all(|byte| *byte == bytes[0]);
    let fill = if same { format!("{:02x}", bytes[0]) } else { "mixed".to_string() };
    format!("{} of {fill}", bytes.len() as u64 / PAGE)
}

/// The byte that `page` of the slot under test is filled with for a reader; `..` past the end.
pub(super) fn fill(volume: &Volume, page: u64) -> String {
    let range = Stage::page_range(page);
    let mut bytes = vec![0xee; PAGE as usize];
    match volume.read(range.start, &mut bytes) {
        Ok(()) if bytes.iter().all(|byte| *byte == bytes[0]) => format!("{:02x}", bytes[0]),
        Ok(()) => format!("mixed in slot {}", TESTED.0),
        Err(Error::OutOfRange { .. }) => "..".to_string(),
        Err(error) => panic!("{error}"),
    }
}
