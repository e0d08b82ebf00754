//! From segments to indexes: the newest record of each key wins.
//!
//! Every segment gives its records in the order of (keyspace, key, newest first); merged, the first
//! of each key decides, and the indexes are built in key order. Memory is a few words per record,
//! dead ones included.
//!
//! Where reclaim was interrupted there are several copies of the newest record, and `surplus.rs` says
//! which segments can do without theirs. Those hold nothing that lives and no tombstone that hides
//! anything: whichever of them is punched, and in whatever order, the newest record of each key stays.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use daxite_core::pin;

use crate::SeqNo;
use crate::catalog::{CATALOG, KeyspaceCore, NAME_BYTES_MAX, decode_id};
use crate::error::Result;
use crate::frame::{Frame, Kind, Record};
use crate::index::Index;
use crate::layout::HEAD_BYTES;
use crate::location::Location;
use crate::segment::{Segment, SegmentNo, Tally};
use crate::store::Pinned;
use crate::table::SegmentTable;

use super::in_parallel;
use super::surplus::Copies;

/// What the records of a log amount to.
pub(super) struct Replayed {
    pub names: Index,
    pub keyspaces: Vec<KeyspaceCore>,
    pub next_id: u32,
    pub live: u64,
    /// Segments that no key needs.
    pub surplus: HashSet<SegmentNo>,
}

/// One record, as far as it matters here.
struct Entry<'s> {
    keyspace: u32,
    /// The first bytes of the key, which mostly decide without reading it.
    head: u64,
    key: &'s [u8],
    seqno: SeqNo,
    kind: Kind,
    location: Location,
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
pub(super) fn replay(segments: &[Arc<Segment>], table: &SegmentTable) -> Result<Replayed> {
    let shares: Vec<Vec<&Segment>> = segments
        .chunks(segments.len().div_ceil(8).max(1))
        .map(|share| share.iter().map(|segment| &**segment).collect())
        .collect();
    let shares = in_parallel(shares, |share| Ok(entries(&share)))?;
    let mut ids = CATALOG;
    let mut merged: Vec<Entry<'_>> = Vec::new();
    let mut tombstones = Vec::new();
    for share in shares {
        tombstones.extend(share.tombstones);
        ids = ids.max(share.id_max);
        merged.extend(share.entries);
    }
    // Stable, because that recognises the sorted shares and merges them.
    merged.sort_by(Entry::order);

    let by_no: BTreeMap<_, _> = segments.iter().map(|segment| (segment.no, &**segment)).collect();
    let (of_names, of_others) =
        merged.split_at(merged.partition_point(|entry| entry.keyspace == CATALOG));
    let mut alive = BTreeMap::new();
    for newest in of_names.chunk_by(Entry::same_key).map(|entries| &entries[0]) {
        if newest.kind == Kind::Put {
            let segment = by_no[&newest.location.segment()];
            let (name, id) = catalogued(segment, newest.key, newest.location)?;
            ids = ids.max(id);
            if alive.insert(id, name).is_some() {
                let detail = "two keyspaces have the same number".to_string();
                return Err(segment.damaged(newest.location.offset(), detail));
            }
        }
    }
    // Records of a number without a name are dead.
    let needed = || {
        let of_others = of_others.chunk_by(Entry::same_key);
        let of_others = of_others.filter(|entries| alive.contains_key(&entries[0].keyspace));
        of_names.chunk_by(Entry::same_key).chain(of_others).map(copies)
    };
    let mut all_copies = Copies::default();
    for copies in needed() {
        all_copies.take_in(copies.iter().map(|entry| entry.location.segment()));
    }
    let surplus = all_copies.surplus(segments);
    for (no, tally) in tombstones.iter().filter(|(no, _)| !surplus.contains(no)) {
        by_no[no].add(tally);
    }

    let pin = pin();
    let records = Pinned::new(table, &pin);
    let names = Index::new()?;
    let mut keyspaces = BTreeMap::new();
    for (&id, name) in &alive {
        keyspaces.insert(id, KeyspaceCore::new(name.clone(), id, Index::new()?));
    }
    let mut live = 0;
    for copies in needed().filter(|copies| copies[0].kind == Kind::Put) {
        let kept = copies.iter().find(|copy| !surplus.contains(&copy.location.segment()));
        let Entry { keyspace, key, location, .. } = kept.expect("a copy that is not surplus");
        let mut tally = Tally::default();
        tally.put(location.len_bytes());
        by_no[&location.segment()].add(&tally);
        live += 1;
        let index = keyspaces.get(keyspace).map_or(&names, |keyspace| &keyspace.index);
        index.publish(key, *location, &records)?;
    }
    Ok(Replayed {
        keyspaces: keyspaces.into_values().collect(),
        names,
        next_id: ids.saturating_add(1),
        live,
        surplus,
    })
}

/// The newest of the `entries` of one key: more than one where reclaim made copies.
fn copies<'e, 's>(entries: &'e [Entry<'s>]) -> &'e [Entry<'s>] {
    let newest = entries[0].seqno;
    &entries[..entries.partition_point(|entry| entry.seqno == newest)]
}

/// The records of some segments.
struct Share<'s> {
    entries: Vec<Entry<'s>>,
    tombstones: Vec<(SegmentNo, Tally)>,
    /// The highest number of a keyspace.
    id_max: u32,
}

/// The records of `segments` in order.
fn entries<'s>(segments: &[&'s Segment]) -> Share<'s> {
    let mut share = Share { entries: Vec::new(), tombstones: Vec::new(), id_max: CATALOG };
    for segment in segments {
        let mut tally = Tally::default();
        let bytes = segment.bytes();
        let mut at = HEAD_BYTES as usize;
        while let Some(frame) = bytes.get(at..).and_then(Frame::decode_trusted) {
            for (record_at, record) in frame.records() {
                let len_bytes = record.len_bytes() as u64;
                let offset = (at + record_at) as u64;
                if record.kind == Kind::Tombstone {
                    tally.tombstone(Location::accounted(len_bytes));
                }
                let location = Location::new(segment.no, offset, len_bytes);
                let seqno = record.moved.unwrap_or(frame.seqno);
                share.id_max = share.id_max.max(record.keyspace);
                let Record { keyspace, key, kind, .. } = record;
                share.entries.push(Entry { keyspace, head: head(key), key, seqno, kind, location });
            }
            at += frame.len_bytes();
        }
        share.tombstones.push((segment.no, tally));
    }
    share.entries.sort_unstable_by(Entry::order);
    share
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
