//! The write path: every put, removal, swap and batch is one commit, which is one frame, one
//! checksum and one fence.
//!
//! Lock the stripes of the keys, check the condition, take a lane, take a sequence number, append
//! the frame and fence, release the lane, publish in the index, count what was replaced as dead,
//! release the stripes.
//!
//! 1. Durable before visible: only an [`Appended`] frame is published.
//! 2. Per key, the order of the log is the order of publication (`stripes.rs` has the argument).
//! 3. A record is counted as live before its lane is released, hence before it can be replaced
//!    and before its segment can be sealed (`segment.rs`, invariant 2).
//! 4. A commit that fails has published nothing.
//! 5. No lock is held while room is made.
//! 6. Where the index has a record that cannot be read, and so does not know whether it is that of the key,
//!    nothing is written, unless the caller says that it is ([`Lost`]).

use daxite_core::pin;

use crate::SeqNo;
use crate::catalog::KeyspaceCore;
use crate::error::{Error, Result};
use crate::frame::{FRAME_HEADER_BYTES, Kind, Record, frame_len};
use crate::index::TOGETHER;
use crate::lane::{Appended, FrameRequest};
use crate::limits::{MAX_BATCH_LEN, MAX_BATCH_RECORDS, MAX_KEY_LEN, MAX_VALUE_LEN};
use crate::location::Location;
use crate::segment::Tally;
use crate::space::Purpose;
use crate::store::{Pinned, Store};
use crate::stripes::Held;

/// One write, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Op<'a> {
    pub keyspace: &'a KeyspaceCore,
    pub key: &'a [u8],
    /// `None` removes.
    pub value: Option<&'a [u8]>,
    pub lost: Lost,
}

/// What to do if the record that the index has in the place of a key cannot be read: it is that of the key,
/// or of one that is like it in all that the index knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// Refuse, before anything is written.
    Refuse,
    /// Take it for that of the key, on the caller's word.
    Remove,
}

impl<'a> Op<'a> {
    /// Puts `value` under `key`, or removes it if there is none.
    pub(crate) fn new(keyspace: &'a KeyspaceCore, key: &'a [u8], value: Option<&'a [u8]>) -> Self {
        Self { keyspace, key, value, lost: Lost::Refuse }
    }

    fn record(&self) -> Record<'_> {
        Record {
            keyspace: self.keyspace.id(),
            kind: if self.value.is_some() { Kind::Put } else { Kind::Tombstone },
            moved: None,
            key: self.key,
            value: self.value.unwrap_or_default(),
        }
    }

    fn len_bytes(&self) -> usize {
        Record::len_of(self.key.len(), self.value.map_or(0, <[u8]>::len))
    }
}

/// Which stripes a commit holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// Those of its keys.
    Keys,
    /// All: no other write is under way.
    All,
}

/// What the condition of a commit says, with the answer to the caller.
pub(crate) enum Verdict<T> {
    Write(T),
    Leave(T),
}

/// # Errors
/// [`Error::KeyTooLong`], [`Error::ValueTooLarge`].
pub(crate) fn check_lengths(key: &[u8], value: Option<&[u8]>) -> Result<()> {
    if key.len() > MAX_KEY_LEN {
        return Err(Error::KeyTooLong { len: key.len(), max: MAX_KEY_LEN });
    }
    match value {
        Some(value) if value.len() > MAX_VALUE_LEN => {
            Err(Error::ValueTooLarge { len: value.len(), max: MAX_VALUE_LEN })
        }
        _ => Ok(()),
    }
}

impl Store {
    /// Commits `ops`, at most one per key, if `decide` says so. `decide` is asked, maybe more than
    /// once, while nobody else can write to the keys; `published` is called once, before anybody
    /// can. Answers with what `decide` said and the sequence number of the write, or the highest
    /// of any write to these stripes if nothing was written.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Closed`], [`Error::KeyspaceDropped`], [`Error::KeyTooLong`],
    /// [`Error::ValueTooLarge`], [`Error::BatchTooLarge`], [`Error::Full`], [`Error::Io`]; and
    /// [`Error::Corruption`] if damage is met when room is made.
    pub(crate) fn commit<T>(
        &self,
        scope: Scope,
        ops: &[Op<'_>],
        mut decide: impl FnMut() -> Result<Verdict<T>>,
        published: impl FnOnce(),
    ) -> Result<(T, SeqNo)> {
        self.check_writable()?;
        ops.iter().try_for_each(|op| check_lengths(op.key, op.value))?;
        let mut removal = Purpose::Remove;
        loop {
            let mut held = self.hold(scope, ops);
            self.check_open()?;
            ops.iter().try_for_each(|op| op.keyspace.check_alive())?;
            let answer = match decide()? {
                Verdict::Write(answer) => answer,
                Verdict::Leave(answer) => return Ok((answer, held.clock())),
            };
            let kept = self.without_idle(ops)?;
            let ops = kept.as_deref().unwrap_or(ops);
            if ops.is_empty() {
                return Ok((answer, held.clock()));
            }
            if self.pool().has_met_media_errors() {
                self.require_places(ops)?;
            }
            let request = request(ops, held.clock(), removal)?;
            if let Some(seqno) = self.write(ops, &request, &mut held)? {
                published();
                return Ok((answer, seqno));
            }
            drop(held);
            match self.make_room(&request)? {
                Purpose::LastResort => removal = Purpose::LastResort,
                _ => removal = Purpose::Remove,
            }
        }
    }

    /// An error if the index cannot tell where one of the `ops` belongs. The caller holds the stripes.
    fn require_places(&self, ops: &[Op<'_>]) -> Result<()> {
        let mut unsure = ops.iter().filter(|op| op.lost == Lost::Refuse);
        unsure.try_for_each(|op| self.locate(op.keyspace, op.key).map(|_| ()))
    }

    fn hold(&self, scope: Scope, ops: &[Op<'_>]) -> Held<'_> {
        let stripe = |op: &Op<'_>| op.keyspace.stripe(op.key);
        match (scope, ops) {
            (Scope::All, _) => self.stripes.lock_all(),
            (Scope::Keys, [op]) => self.stripes.lock_one(stripe(op)),
            (Scope::Keys, ops) => self.stripes.lock_many(ops.iter().map(stripe)),
        }
    }

    /// Brings near what publishing `ops` will read.
    fn prefetch(&self, ops: &[Op<'_>], records: &Pinned<'_>) {
        for same in ops.chunk_by(|a, b| std::ptr::eq(a.keyspace, b.keyspace)) {
            let keys = same.iter().map(|op| op.key);
            same[0].keyspace.index.approach(keys, records, |_, _| ());
        }
    }

    /// `ops` without the removals of absent keys, if there are such: a tombstone that hides nothing
    /// would be dead weight. The caller holds the stripes.
    fn without_idle<'a>(&self, ops: &[Op<'a>]) -> Result<Option<Vec<Op<'a>>>> {
        if ops.iter().all(|op| op.value.is_some()) {
            return Ok(None);
        }
        let mut kept = Vec::with_capacity(ops.len());
        for op in ops {
            let is_written = op.value.is_some() || op.lost == Lost::Remove;
            if is_written || self.locate(op.keyspace, op.key)?.is_some() {
                kept.push(*op);
            }
        }
        Ok(Some(kept))
    }

    /// Appends `ops` as one frame and publishes them. `None` if there is no room.
    fn write(
        &self,
        ops: &[Op<'_>],
        request: &FrameRequest,
        held: &mut Held<'_>,
    ) -> Result<Option<SeqNo>> {
        let mut lane = self.lanes.lock();
        let appended = lane.append(&self.space, request, |encoder| {
            for op in ops {
                encoder.push(&op.record());
            }
        })?;
        drop(lane);
        let Some(appended) = appended else { return Ok(None) };
        held.advance(appended.seqno);
        self.publish(ops, appended).map(Some)
    }

    /// # Errors
    /// What the index cannot find out, or has no memory for: the rest is published all the same. A record
    /// that cannot be read is found out here only if nobody met it before.
    fn publish(&self, ops: &[Op<'_>], appended: Appended) -> Result<SeqNo> {
        let pin = pin();
        let records = self.records(&pin);
        let mut published = Ok(appended.seqno);
        let mut at = appended.at + FRAME_HEADER_BYTES as u64;
        for (nth, op) in ops.iter().enumerate() {
            if nth.is_multiple_of(TOGETHER) && ops.len() > 1 {
                self.prefetch(&ops[nth..ops.len().min(nth + TOGETHER)], &records);
            }
            let len_bytes = op.len_bytes() as u64;
            let replaced = match op.value {
                Some(_) => {
                    let location = Location::new(appended.segment, at, len_bytes);
                    op.keyspace.index.publish(op.key, location, &records)
                }
                None if op.lost == Lost::Remove => op.keyspace.index.remove_lost(op.key, &records),
                None => op.keyspace.index.remove(op.key, &records),
            };
            match replaced {
                Ok(Some(replaced)) => self.account_dead(replaced, &pin),
                Ok(None) => {}
                Err(error) => published = published.and(Err(error)),
            }
            at += len_bytes;
        }
        published
    }
}

/// The request for the frame of `ops`, after the clock of their stripes. Its purpose is `removal`
/// if it has no put.
///
/// # Errors
/// [`Error::BatchTooLarge`].
fn request(ops: &[Op<'_>], after: SeqNo, removal: Purpose) -> Result<FrameRequest> {
    let mut tally = Tally::default();
    for op in ops {
        // As the index will say when the record dies, see `Location::len_bytes`.
        let accounted = Location::accounted(op.len_bytes() as u64);
        match op.value {
            Some(_) => tally.put(accounted),
            None => tally.tombstone(accounted),
        }
    }
    let len_bytes = frame_len(ops.iter().map(Op::len_bytes).sum());
    if len_bytes > MAX_BATCH_LEN || ops.len() > MAX_BATCH_RECORDS {
        let records = ops.len();
        return Err(Error::BatchTooLarge { len: len_bytes, records, max: MAX_BATCH_LEN });
    }
    let purpose = if tally.puts > 0 { Purpose::Put } else { removal };
    Ok(FrameRequest { purpose, len_bytes: len_bytes as u64, after, tally })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Keyspace, Options};

    /// Does what a writer does from taking the stripe to the fence; then its segment is sealed, and
    /// reclaim empties it, before the writer goes on and publishes.
    fn write_while_its_segment_is_emptied(keyspace: &Keyspace, key: &[u8], value: Option<&[u8]>) {
        let store = keyspace.store();
        let ops = [Op::new(keyspace.core(), key, value)];
        let mut held = store.hold(Scope::Keys, &ops);
        let request = request(&ops, held.clock(), Purpose::Remove).unwrap();
        let mut lane = store.lanes.lock();
        let appended = lane.append(&store.space, &request, |encoder| {
            encoder.push(&ops[0].record());
        });
        let appended = appended.unwrap().expect("room");
        lane.seal(&store.space).unwrap();
        drop(lane);
        held.advance(appended.seqno);
        std::thread::scope(|scope| {
            let reclaim = scope.spawn(|| store.reclaim().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(100));
            store.publish(&ops, appended).unwrap();
            drop(held);
            let report = reclaim.join().unwrap();
            assert!(report.compacted_segments > 0, "the segment was not emptied: {report:?}");
        });
    }

    /// A database whose open segment holds hardly anything but dead records, behind others in which
    /// everything lives, `late` included.
    fn database(path: &std::path::Path) -> Keyspace {
        let database = Options::new().capacity(4 << 20).lanes(1).create(path).unwrap();
        let keyspace = database.keyspace("k").unwrap();
        keyspace.insert("late", "old").unwrap();
        let store = keyspace.store();
        (0..1500u64).for_each(|n| keyspace.insert(n.to_be_bytes(), [1; 1000]).unwrap());
        store.lanes.for_each(|lane| lane.seal(&store.space)).unwrap();
        (0..100).for_each(|_| keyspace.insert("often", [2; 1000]).unwrap());
        keyspace
    }

    #[test]
    fn a_put_that_is_durable_and_not_yet_published_is_not_reclaimed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let keyspace = database(&path);
        write_while_its_segment_is_emptied(&keyspace, b"late", Some(b"new"));
        assert_eq!(keyspace.get("late").unwrap().unwrap(), b"new");
        // As if the process had been killed.
        drop(keyspace);
        let database = crate::Database::open(&path).unwrap();
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        assert_eq!(keyspace.get("late").unwrap().unwrap(), b"new");
    }

    #[test]
    fn a_removal_that_is_durable_and_not_yet_published_is_not_reclaimed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let keyspace = database(&path);
        write_while_its_segment_is_emptied(&keyspace, b"late", None);
        assert_eq!(keyspace.get("late").unwrap(), None);
        drop(keyspace);
        let database = crate::Database::open(&path).unwrap();
        let keyspace = database.get_keyspace("k").unwrap().unwrap();
        assert_eq!(keyspace.get("late").unwrap(), None, "an older value came back");
    }
}
