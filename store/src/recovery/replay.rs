//! From segments to indexes: the newest record of each key wins.
//!
//! Every segment gives its records in the order of (keyspace, key, newest first); merged, the first
//! of each key decides, and the indexes are built in key order. Memory is a few words per record,
//! dead ones included.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::SeqNo;
use crate::catalog::{CATALOG, KeyspaceCore, NAME_BYTES_MAX, decode_id};
use crate::error::Result;
use crate::frame::{Frame, Kind};
use crate::index::{Index, Tree};
use crate::layout::HEAD_BYTES;
use crate::location::Location;
use crate::segment::{Segment, Tally};

use super::in_parallel;

/// What the records of a log amount to.
pub(super) struct Replayed {
    pub names: Index,
    pub keyspaces: Vec<KeyspaceCore>,
    pub next_id: u32,
    pub live: u64,
}

/// One record, as far as it matters here.
struct Entry<'s> {
    keyspace: u32,
    /// The first bytes of the key, which mostly decide without reading it.
    head: u64,
    key: &'s [u8],
    seqno: SeqNo,
    /// `None` for a tombstone.
    location: Option<Location>,
}

impl Entry<'_> {
    /// By keyspace and key, the newest first.
    fn order(&self, other: &Self) -> Ordering {
        let heads = (self.keyspace, self.head).cmp(&(other.keyspace, other.head));
        heads.then_with(|| self.key.cmp(other.key)).then_with(|| other.seqno.cmp(&self.seqno))
    }

    fn same_key(&self, other: &Self) -> bool {
        self.keyspace == other.keyspace && self.head == other.head && self.key == other.key
    }
}

/// The first 8 bytes of `key` as a number; what is missing counts as zero. Ordered as keys are,
/// but for keys with equal heads.
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let len = key.len().min(8);
    head[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(head)
}

/// Replays the frames of `segments`, all of which verify, and counts what lives in them.
///
/// # Errors
/// [`Error::Corruption`](crate::Error::Corruption) if the catalog contradicts itself.
pub(super) fn replay(segments: &[Arc<Segment>]) -> Result<Replayed> {
    let shares: Vec<Vec<&Segment>> = segments
        .chunks(segments.len().div_ceil(8).max(1))
        .map(|share| share.iter().map(|segment| &**segment).collect())
        .collect();
    let shares = in_parallel(shares, |share| Ok(entries(&share)))?;
    let mut ids = CATALOG;
    let mut merged: Vec<Entry<'_>> = Vec::new();
    for share in shares {
        ids = ids.max(share.id_max);
        merged.extend(share.entries);
    }
    // Stable, because that recognises the sorted shares and merges them.
    merged.sort_by(Entry::order);
    merged.dedup_by(|older, newest| older.same_key(newest));
    merged.retain(|entry| entry.location.is_some());

    let by_no: BTreeMap<_, _> = segments.iter().map(|segment| (segment.no, &**segment)).collect();
    let mut trees: BTreeMap<u32, Found> = BTreeMap::new();
    for Entry { keyspace, key, location, .. } in merged {
        let location = location.expect("tombstones are gone");
        trees.entry(keyspace).or_default().push((Box::from(key), location));
    }
    let names = trees.remove(&CATALOG).unwrap_or_default();
    let mut live = names.len() as u64;
    let mut keyspaces = BTreeMap::new();
    for (name, location) in &names {
        let segment = by_no[&location.segment()];
        let (name, id) = catalogued(segment, name, *location)?;
        ids = ids.max(id);
        // Records of a number without a name are dead, and stay behind in `trees`.
        let records = trees.remove(&id).unwrap_or_default();
        live += records.len() as u64;
        count(&by_no, &records);
        let tree: Tree = records.into_iter().collect();
        let keyspace = KeyspaceCore::new(name, id, Index::new(tree));
        if keyspaces.insert(id, keyspace).is_some() {
            let detail = "two keyspaces have the same number".to_string();
            return Err(segment.damaged(location.offset(), detail));
        }
    }
    count(&by_no, &names);
    Ok(Replayed {
        names: Index::new(names.into_iter().collect()),
        keyspaces: keyspaces.into_values().collect(),
        next_id: ids.saturating_add(1),
        live,
    })
}

/// What is found in a keyspace, by key.
type Found = Vec<(Box<[u8]>, Location)>;

/// The records of some segments.
struct Share<'s> {
    entries: Vec<Entry<'s>>,
    /// The highest number of a keyspace.
    id_max: u32,
}

/// The records of `segments` in order. Tombstones are counted where they are.
fn entries<'s>(segments: &[&'s Segment]) -> Share<'s> {
    let mut share = Share { entries: Vec::new(), id_max: CATALOG };
    for segment in segments {
        let mut tally = Tally::default();
        let bytes = segment.bytes();
        let mut at = HEAD_BYTES as usize;
        while let Some(frame) = bytes.get(at..).and_then(Frame::decode_trusted) {
            for (record_at, record) in frame.records() {
                let len_bytes = record.len_bytes() as u64;
                let offset = (at + record_at) as u64;
                let location = match record.kind {
                    Kind::Put => Some(Location::new(segment.no, offset, len_bytes)),
                    Kind::Tombstone => {
                        tally.tombstone(Location::accounted(len_bytes));
                        None
                    }
                };
                let seqno = record.moved.unwrap_or(frame.seqno);
                share.id_max = share.id_max.max(record.keyspace);
                let (keyspace, key) = (record.keyspace, record.key);
                share.entries.push(Entry { keyspace, head: head(key), key, seqno, location });
            }
            at += frame.len_bytes();
        }
        segment.add(&tally);
    }
    share.entries.sort_unstable_by(Entry::order);
    share
}

/// Counts `records` as live.
fn count(
    segments: &BTreeMap<crate::segment::SegmentNo, &Segment>,
    records: &[(Box<[u8]>, Location)],
) {
    for (_, location) in records {
        let mut tally = Tally::default();
        tally.put(location.len_bytes());
        segments[&location.segment()].add(&tally);
    }
}

/// The name and number in the catalog's record at `location`.
fn catalogued(segment: &Segment, name: &[u8], location: Location) -> Result<(String, u32)> {
    let id = decode_id(segment.record(location)?.value);
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
    match (name, id) {
        (Some(name), Some(id)) => Ok((name.to_string(), id)),
        _ => {
            let detail = "the record of a keyspace makes no sense".to_string();
            Err(segment.damaged(location.offset(), detail))
        }
    }
}
