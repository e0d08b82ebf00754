//! What the log of a pool says, replayed in the plainest way: what an opening must show.
//!
//! 1. Segments are those that recovery reads, one by one; what they amount to together is found here
//!    without it.
//! 2. Per keyspace and key the record with the highest number counts. If several have it, any may.
//! 3. A keyspace is a name in keyspace 0 that is not gone; records of other numbers are dead.

use std::collections::BTreeMap;
use std::ops::Range;

use daxite::craft::{FrameContents, Place, RecordContents, SegmentContents};
use daxite::{Error, Result};
use daxite_core::{HUGE, LogicalRange, Pool};

use crate::Shown;

/// The log of a pool.
#[derive(Clone)]
pub struct Log {
    /// One for each slot whose head is mapped, in order.
    pub segments: Vec<LogSegment>,
}

/// A slot of the log.
#[derive(Clone)]
pub struct LogSegment {
    /// Its number.
    pub number: u32,
    /// The bytes of the pool that are mapped at its head.
    pub bytes: Range<usize>,
    /// Its place, for signing.
    pub place: Place,
    /// What is there; `None` if it is damaged or was only being opened.
    pub contents: Option<SegmentContents>,
}

/// By keyspace and key, the newest records.
type Newest<'a> = BTreeMap<(u32, &'a [u8]), Records<'a>>;

/// The records of one key with the highest number.
#[derive(Default)]
struct Records<'a> {
    seqno: u64,
    values: Vec<Option<&'a [u8]>>,
}

impl Log {
    /// The log in `image`.
    ///
    /// # Errors
    /// As opening the pool; [`Error::NotAPool`] without a log.
    pub fn of(image: &[u8]) -> Result<Self> {
        Self::in_pool(&Pool::from_image(image, None)?, image)
    }

    /// The log in `pool`, whose bytes are `image`.
    ///
    /// # Errors
    /// [`Error::NotAPool`] without a log.
    pub fn in_pool(pool: &Pool, image: &[u8]) -> Result<Self> {
        let info = pool.info();
        let no_log = || Error::NotAPool { path: info.path.clone(), reason: "it has no log" };
        let log = pool.volume("log")?.ok_or_else(no_log)?;
        let mut segments: Vec<LogSegment> = Vec::new();
        for extent in log.extents(LogicalRange::new(0, log.len_bytes()))? {
            let number = (extent.logical.start / HUGE) as u32;
            if segments.last().is_some_and(|last| last.number == number)
                || !extent.logical.start.is_multiple_of(HUGE)
            {
                continue;
            }
            let start = extent.physical.0 as usize;
            let bytes = start..start + extent.logical.len_bytes as usize;
            let place = Place::new(&info.uuid, number);
            let contents = place.read(&image[bytes.clone()]);
            segments.push(LogSegment { number, bytes, place, contents });
        }
        Ok(Self { segments })
    }

    /// Whether `found` is this log after these bytes of the pool were `damaged`: the same, but for frames
    /// at the ends of segments without a seal, each of them damaged, which look like torn ones.
    ///
    /// # Errors
    /// What else is gone, in words.
    pub fn survives_as(&self, found: &Self, damaged: &[Range<usize>]) -> Result<(), String> {
        let mut rest: BTreeMap<u32, &SegmentContents> = BTreeMap::new();
        for segment in &found.segments {
            if let Some(contents) = &segment.contents {
                rest.insert(segment.number, contents);
            }
        }
        for segment in &self.segments {
            let Some(contents) = &segment.contents else { continue };
            let left = rest.remove(&segment.number).map_or(&[][..], |found| &found.frames);
            let (number, frames) = (segment.number, &contents.frames);
            if frames.get(..left.len()) != Some(left) {
                return Err(format!("segment {number} has other frames"));
            }
            let is_damaged = |frame: &FrameContents| {
                let start = segment.bytes.start + frame.start;
                let end = start + frame.len_bytes;
                damaged.iter().any(|range| range.start < end && start < range.end)
            };
            let gone = &frames[left.len()..];
            if !gone.is_empty() && (contents.is_sealed || !gone.iter().all(is_damaged)) {
                return Err(format!("segment {number} lost {} frames", gone.len()));
            }
        }
        match rest.keys().next() {
            None => Ok(()),
            Some(number) => Err(format!("segment {number} is new")),
        }
    }

    /// What the log amounts to. Where several records have the highest number, one of them counts.
    pub fn shows(&self) -> Shown {
        let newest = self.newest();
        let mut shown = Shown::default();
        for (name, id) in names(&newest) {
            for (key, records) in of_keyspace(&newest, id) {
                if let Some(value) = records.values[0] {
                    shown.contents.insert((name.clone(), key.to_vec()), value.to_vec());
                }
            }
            shown.keyspaces.push(name);
        }
        shown.keyspaces.dedup();
        shown
    }

    /// Whether `shown` is what the log amounts to.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn explains(&self, shown: &Shown) -> Result<(), String> {
        let newest = self.newest();
        for ((_, name), Records { values, .. }) in newest.range((0, &[][..])..(1, &[][..])) {
            let name = String::from_utf8_lossy(name).into_owned();
            if !values.contains(&None) && !shown.keyspaces.contains(&name) {
                return Err(format!("keyspace {name:?} is missing"));
            }
        }
        for name in &shown.keyspaces {
            let mut ids = names(&newest).filter(|(of, _)| of == name).map(|(_, id)| id);
            let why = |id| differs(&newest, id, name, shown);
            if !ids.any(|id| why(id).is_none()) {
                let reasons = names(&newest).filter(|(of, _)| of == name).map(|(_, id)| why(id));
                return Err(format!("keyspace {name:?}: {:?}", reasons.collect::<Vec<_>>()));
            }
        }
        Ok(())
    }

    fn newest(&self) -> Newest<'_> {
        let mut newest = Newest::new();
        let frames = self.segments.iter().flat_map(|segment| &segment.contents);
        for record in frames.flat_map(|contents| &contents.frames).flat_map(|frame| &frame.records)
        {
            let RecordContents { keyspace, seqno, key, value, .. } = record;
            let records = newest.entry((*keyspace, key.as_slice())).or_default();
            if *seqno > records.seqno {
                *records = Records { seqno: *seqno, values: Vec::new() };
            }
            if *seqno == records.seqno {
                records.values.push(value.as_deref());
            }
        }
        newest
    }
}

/// Every name with every number that it may have, by name.
fn names<'n>(newest: &'n Newest<'_>) -> impl Iterator<Item = (String, u32)> + 'n {
    of_keyspace(newest, 0).flat_map(|(name, records)| {
        let ids = records.values.iter().flatten().filter_map(|value| value.first_chunk::<4>());
        let name = String::from_utf8_lossy(name);
        ids.map(move |id| (name.to_string(), u32::from_le_bytes(*id)))
    })
}

fn of_keyspace<'n, 'a>(
    newest: &'n Newest<'a>,
    id: u32,
) -> impl Iterator<Item = (&'n [u8], &'n Records<'a>)> {
    let of_id = newest.range((id, &[][..])..).take_while(move |((of, _), _)| *of == id);
    of_id.map(|((_, key), records)| (*key, records))
}

/// How keyspace `name` of `shown` differs from what is under `id`.
fn differs(newest: &Newest<'_>, id: u32, name: &str, shown: &Shown) -> Option<String> {
    let mut rest: BTreeMap<&[u8], &[u8]> = BTreeMap::new();
    for ((of, key), value) in &shown.contents {
        if of == name {
            rest.insert(key, value);
        }
    }
    for (key, Records { seqno, values }) in of_keyspace(newest, id) {
        let found = rest.remove(key);
        if !values.contains(&found) {
            let key = key.escape_ascii();
            return Some(format!("key {key} is not as record {seqno} says: {found:?}"));
        }
    }
    rest.keys().next().map(|key| format!("key {} is in no record", key.escape_ascii()))
}
