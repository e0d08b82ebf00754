//! The ordered index: a radix tree over the bytes of keys, whose leaves point at records.
//!
//! An adaptive radix tree (Leis et al. 2013) that keeps no keys. A node knows at which depth the keys below
//! it differ, and the byte that each child has there; the bytes that they share are read in a record,
//! if they have to be. So a key costs its slot and its part of a node, no matter how long it is.
//!
//! 1. A node has at least two slots in use, the anchor aside, which has one slot for the whole tree. The
//!    depth of a child is greater than that of its parent.
//! 2. A reference to a node is in one slot only, and replaced only under the lock of the node that has the
//!    slot. Locks are tried, from the top down, and never waited for: who fails starts over.
//! 3. Going down, the version of a child is read before that of its parent is looked at again: so the
//!    child was a child when its version was read.
//! 4. A key that was found was there while it was being looked for. A key that was not found was not there
//!    at the moment at which the last node had its version.
//!
//! The writers of one key take turns (`stripes.rs`); those of different keys meet here.

use daxite_core::Words;
use daxite_core::primitives::spin;

use super::arena::{Arena, no_memory};
use super::node::{Class, END, Locked, Node, NodeRef, Slot, Version};
use super::{Keyed, Records};
use crate::error::{Error, Result};
use crate::location::Location;

/// Where the anchor keeps its slot.
const ROOT: usize = END;

pub(super) struct Ordered {
    pub(super) arena: Arena,
    /// A node that is never moved, with the tree in its slot.
    anchor: Words,
}

/// A slot, and the version of its node at which it was seen.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: Node<'a>,
    version: Version,
    at: usize,
}

impl<'a> Place<'a> {
    fn is_still(&self) -> bool {
        self.node.is_still(self.version)
    }

    fn try_lock(&self) -> Option<Locked<'a>> {
        self.node.try_lock(self.version)
    }

    fn slot(&self) -> Slot {
        self.node.slot(self.at)
    }

    fn seen(&self) -> Seen<'a> {
        Seen { node: self.node, version: self.version }
    }
}

/// Where the slot of a key is.
struct Path<'a> {
    place: Place<'a>,
    /// `None` if it is the slot of the anchor.
    above: Option<Above<'a>>,
}

/// How the node of a slot hangs in the tree.
struct Above<'a> {
    /// The slot that refers to it.
    parent: Place<'a>,
    node_ref: NodeRef,
    /// The byte of the slot; `None` for that of the key that ends there.
    gone: Option<u8>,
}

/// The node of a reference, with the version that it had while it was where the reference says.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) node: Node<'a>,
    pub(super) version: Version,
}

/// Why an attempt came to nothing: the tree changed under it, or an error.
pub(super) enum Missed {
    Changed,
    Failed(Error),
}

impl From<Error> for Missed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

pub(super) type Attempt<T> = std::result::Result<T, Missed>;

/// `Ok`, or start over.
fn or_changed(holds: bool) -> Attempt<()> {
    if holds { Ok(()) } else { Err(Missed::Changed) }
}

/// Tries until nothing changes meanwhile.
#[inline]
pub(super) fn persist<T>(mut attempt: impl FnMut() -> Attempt<T>) -> Result<T> {
    for nth in 0.. {
        match attempt() {
            Ok(answer) => return Ok(answer),
            Err(Missed::Failed(error)) => return Err(error),
            Err(Missed::Changed) => spin(nth),
        }
    }
    unreachable!("the loop has no end")
}

/// Where a key would be in the tree.
enum Way<'a> {
    /// Its slot holds a record: maybe that of another key.
    Leaf(Place<'a>, Location),
    /// Its slot is empty.
    Empty(Place<'a>),
    /// The node has no slot for its byte. With the slot that the node is in.
    NoChild(Place<'a>, NodeRef, Seen<'a>, Option<u8>),
    /// The keys of the node in this slot are different before its depth.
    Differs(Place<'a>, Seen<'a>),
}

/// How the bytes before the depth of a node compare with those of a key.
pub(super) enum Skipped {
    Same,
    /// Different for certain.
    Differ,
    /// As far as the node knows, the same.
    Unknown,
}

/// Compares `key` from `from` on, up to the depth of `node`, with what the node knows of its keys.
#[inline]
pub(super) fn compare_skipped(node: Node<'_>, key: &[u8], from: usize, depth: usize) -> Skipped {
    if from == depth {
        return Skipped::Same;
    }
    if key.len() < depth || from > depth {
        return Skipped::Differ;
    }
    let known = (depth - from).min(8);
    if node.before()[8 - known..] != key[depth - known..depth] {
        return Skipped::Differ;
    }
    if depth - from <= 8 { Skipped::Same } else { Skipped::Unknown }
}

impl Ordered {
    /// # Errors
    /// [`Error::Io`] if the system has no memory.
    pub(super) fn new() -> Result<Self> {
        let anchor = Words::zeroed(Class::Few.words()).map_err(no_memory)?;
        Ok(Self { arena: Arena::new(), anchor })
    }

    /// The slot of the whole tree.
    #[inline]
    fn root(&self) -> Place<'_> {
        let node = Node::new(&self.anchor, Class::Few);
        Place { node, version: node.version().expect("the anchor stays"), at: ROOT }
    }

    #[inline]
    pub(super) fn root_slot(&self) -> (Seen<'_>, Slot) {
        let root = self.root();
        (root.seen(), root.slot())
    }

    /// The node that `place` refers to, which was read from `parent`.
    #[inline]
    pub(super) fn enter<'a>(&'a self, parent: Seen<'_>, place: NodeRef) -> Attempt<Seen<'a>> {
        let node = self.arena.expect(place);
        let version = node.version().ok_or(Missed::Changed)?;
        or_changed(parent.node.is_still(parent.version))?;
        Ok(Seen { node, version })
    }

    /// Where `key` is or would be.
    fn descend<R: Records>(&self, key: &[u8], records: &R) -> Attempt<Way<'_>> {
        let mut place = self.root();
        let mut depth = 0;
        loop {
            let node_ref = match place.slot() {
                Slot::Empty => return Ok(Way::Empty(place)),
                Slot::Leaf(location) => return Ok(Way::Leaf(place, location)),
                Slot::Node(node_ref) => node_ref,
            };
            let seen = self.enter(place.seen(), node_ref)?;
            let meta = seen.node.meta();
            let node_depth = meta.depth();
            let same = match compare_skipped(seen.node, key, depth, node_depth) {
                Skipped::Same => true,
                Skipped::Differ => false,
                Skipped::Unknown => {
                    let other = self.any_key(seen, records)?;
                    other.key().get(depth..node_depth) == Some(&key[depth..node_depth])
                }
            };
            if !same {
                return Ok(Way::Differs(place, seen));
            }
            let byte = key.get(node_depth).copied();
            let Some(at) = seen.node.find(meta, byte) else {
                return Ok(Way::NoChild(place, node_ref, seen, byte));
            };
            place = Place { node: seen.node, version: seen.version, at };
            depth = node_depth + 1;
        }
    }

    /// The record of some key below a node: of the first one, or of another if that cannot be read.
    pub(super) fn any_key<R: Records>(&self, seen: Seen<'_>, records: &R) -> Attempt<R::Record> {
        match self.first_key(seen, records) {
            Err(Missed::Failed(error)) if error.is_media_error() => {
                self.readable_key(seen, records, error)
            }
            first => first,
        }
    }

    /// The record of a key below a node that can be read; `failed` if there is none.
    #[cold]
    fn readable_key<'a, R: Records>(
        &'a self,
        top: Seen<'a>,
        records: &R,
        failed: Error,
    ) -> Attempt<R::Record> {
        let mut pending = Vec::new();
        top.node.for_each(|_, slot| pending.push((top, slot)));
        while let Some((seen, slot)) = pending.pop() {
            match slot {
                Slot::Empty => {}
                Slot::Leaf(location) => match records.record(location) {
                    Ok(record) => return record.ok_or(Missed::Changed),
                    Err(_) => or_changed(seen.node.is_still(seen.version))?,
                },
                Slot::Node(place) => {
                    let child = self.enter(seen, place)?;
                    child.node.for_each(|_, slot| pending.push((child, slot)));
                }
            }
        }
        or_changed(top.node.is_still(top.version))?;
        Err(Missed::Failed(failed))
    }

    fn first_key<R: Records>(&self, seen: Seen<'_>, records: &R) -> Attempt<R::Record> {
        let mut seen = seen;
        loop {
            let mut first = Slot::Empty;
            seen.node.for_each(|_, slot| {
                if first == Slot::Empty {
                    first = slot;
                }
            });
            or_changed(seen.node.is_still(seen.version))?;
            match first {
                Slot::Empty => return Err(Missed::Changed),
                Slot::Node(place) => seen = self.enter(seen, place)?,
                Slot::Leaf(location) => return self.record_of(seen, location, records),
            }
        }
    }

    /// The record at `location`, which `seen` said.
    #[inline]
    fn record_of<R: Records>(
        &self,
        seen: Seen<'_>,
        location: Location,
        records: &R,
    ) -> Attempt<R::Record> {
        let record = records.record(location);
        // What cannot be read may have moved.
        or_changed(record.is_ok() || seen.node.is_still(seen.version))?;
        // A segment that is gone: the record was moved, and the slot says something else now.
        record?.ok_or(Missed::Changed)
    }

    /// Where `key` is, and its record. As [`Ordered::descend`], but the way there need not be
    /// certain: the record tells.
    #[inline]
    pub(super) fn find<R: Records>(
        &self,
        key: &[u8],
        records: &R,
    ) -> Attempt<Option<(Location, R::Record)>> {
        let (seen, leaf) = self.leaf_of(key)?;
        if let Some(location) = leaf {
            let record = self.record_of(seen, location, records)?;
            if record.key() == key {
                return Ok(Some((location, record)));
            }
        }
        or_changed(seen.node.is_still(seen.version))?;
        Ok(None)
    }

    /// What the slot of `key` holds if it is a record, which may be that of another key; and the last node
    /// on the way there.
    #[inline]
    fn leaf_of(&self, key: &[u8]) -> Attempt<(Seen<'_>, Option<Location>)> {
        let (mut seen, mut slot) = self.root_slot();
        let mut depth = 0;
        while let Slot::Node(place) = slot {
            seen = self.enter(seen, place)?;
            let node = seen.node;
            let meta = node.meta();
            let node_depth = meta.depth();
            slot = match compare_skipped(node, key, depth, node_depth) {
                Skipped::Differ => Slot::Empty,
                Skipped::Same | Skipped::Unknown => {
                    let at = node.find(meta, key.get(node_depth).copied());
                    at.map_or(Slot::Empty, |at| node.slot(at))
                }
            };
            depth = node_depth + 1;
        }
        let leaf = match slot {
            Slot::Leaf(location) => Some(location),
            Slot::Empty | Slot::Node(_) => None,
        };
        Ok((seen, leaf))
    }

    /// Goes down to all `keys` side by side, one level of all of them after the other, so that none waits for
    /// the memory of another. Calls `arrived` for each key that comes to a leaf, with what is in it and brought near.
    ///
    /// A leaf may be that of another key, and no leaf means nothing: no version was looked at. But every
    /// place is one that the index had for some key after the call began: who finds the key there has found it.
    pub(super) fn approach<'k, R: Records>(
        &self,
        keys: impl Iterator<Item = &'k [u8]>,
        records: &R,
        mut arrived: impl FnMut(usize, Location),
    ) {
        let root = Node::new(&self.anchor, Class::Few).slot(ROOT);
        let mut ways: Vec<_> = keys.enumerate().map(|(nth, key)| (nth, key, root, 0)).collect();
        while !ways.is_empty() {
            ways.retain_mut(|(nth, key, slot, depth)| {
                let place = match *slot {
                    Slot::Empty => return false,
                    Slot::Leaf(location) => {
                        arrived(*nth, location);
                        return false;
                    }
                    Slot::Node(place) => place,
                };
                let node = self.arena.node(place);
                let meta = node.meta();
                let node_depth = meta.depth();
                // Always deeper, or it would not end.
                if node_depth < *depth {
                    return false;
                }
                let Some(at) = node.find(meta, key.get(node_depth).copied()) else { return false };
                *depth = node_depth + 1;
                *slot = node.slot(at);
                match *slot {
                    Slot::Node(place) => self.arena.prefetch(place),
                    Slot::Leaf(location) => records.prefetch(location),
                    Slot::Empty => {}
                }
                true
            });
        }
    }

    /// Makes `key` found at `to`; answers where it was found before.
    pub(super) fn publish<R: Records>(
        &self,
        key: &[u8],
        to: Location,
        records: &R,
    ) -> Attempt<Option<Location>> {
        let new = Slot::Leaf(to);
        match self.descend(key, records)? {
            Way::Leaf(place, from) => {
                let record = self.record_of(place.seen(), from, records)?;
                if record.key() == key {
                    place.try_lock().ok_or(Missed::Changed)?.exchange_leaf(place.at, to);
                    return Ok(Some(from));
                }
                let depth = common(record.key(), key);
                self.fork(place, key, depth, record.key().get(depth).copied(), new)?;
            }
            Way::Empty(place) => {
                let mut locked = place.try_lock().ok_or(Missed::Changed)?;
                assert_eq!(place.at, END, "only the key that ends here has a slot that is empty");
                locked.set(END, new);
            }
            Way::NoChild(place, node_ref, seen, byte) => {
                self.add_child(place, node_ref, seen, byte, new)?;
            }
            Way::Differs(place, seen) => {
                let record = self.any_key(seen, records)?;
                let depth = common(record.key(), key);
                or_changed(depth < seen.node.meta().depth() && seen.node.is_still(seen.version))?;
                self.fork(place, key, depth, record.key().get(depth).copied(), new)?;
            }
        }
        Ok(None)
    }

    /// Puts a node of `depth` into `place`, with what is there as its child for `byte` and `new` as the
    /// other one, that of `key`.
    fn fork(
        &self,
        place: Place<'_>,
        key: &[u8],
        depth: usize,
        byte: Option<u8>,
        new: Slot,
    ) -> Attempt<()> {
        let fork = self.arena.allocate(Class::Few)?;
        let mut node = self.arena.node(fork).begun();
        let Some(mut parent) = place.try_lock() else {
            node.retire();
            self.arena.release(fork);
            return Err(Missed::Changed);
        };
        node.set_common(key, depth);
        // Looked at under the lock: its record may have been moved since.
        node.add(byte, place.slot());
        node.add(key.get(depth).copied(), new);
        drop(node);
        parent.set(place.at, Slot::Node(fork));
        Ok(())
    }

    /// Adds a child to the node `seen` in `place`, which has none for `byte`.
    fn add_child(
        &self,
        place: Place<'_>,
        node_ref: NodeRef,
        seen: Seen<'_>,
        byte: Option<u8>,
        new: Slot,
    ) -> Attempt<()> {
        let class = seen.node.class();
        if seen.node.count() < class.capacity() {
            let mut node = seen.node.try_lock(seen.version).ok_or(Missed::Changed)?;
            node.add(byte, new);
            return Ok(());
        }
        let class = class.larger().expect("a direct node has a place for every byte");
        let mut larger = self.replace(place, node_ref, seen, class, |_| true)?;
        larger.add(byte, new);
        Ok(())
    }

    /// Puts a copy of the node `seen` in its place, of another class, with the children that `keep`
    /// says; gives it back locked, so that nobody sees it as it is.
    fn replace(
        &self,
        place: Place<'_>,
        node_ref: NodeRef,
        seen: Seen<'_>,
        class: Class,
        keep: impl Fn(Option<u8>) -> bool,
    ) -> Attempt<Locked<'_>> {
        let copy_ref = self.arena.allocate(class)?;
        let mut copy = self.arena.node(copy_ref).begun();
        let locks =
            place.try_lock().and_then(|parent| Some((parent, seen.node.try_lock(seen.version)?)));
        let Some((mut parent, node)) = locks else {
            copy.retire();
            self.arena.release(copy_ref);
            return Err(Missed::Changed);
        };
        copy.set_common_of(seen.node);
        seen.node.for_each(|byte, slot| {
            if keep(byte) {
                copy.add(byte, slot);
            }
        });
        parent.set(place.at, Slot::Node(copy_ref));
        drop(parent);
        node.retire();
        self.arena.release(node_ref);
        Ok(copy)
    }

    /// Makes `key` not found; answers where it was found before.
    pub(super) fn remove<R: Records>(&self, key: &[u8], records: &R) -> Attempt<Option<Location>> {
        match self.find(key, records)? {
            Some((location, _)) => self.take_out(key, location).map(Some),
            None => Ok(None),
        }
    }

    /// Makes what is at the place of `key` not found, if its record cannot be read: it may be that of
    /// another key. Answers where it is.
    pub(super) fn remove_lost<R: Records>(
        &self,
        key: &[u8],
        records: &R,
    ) -> Attempt<Option<Location>> {
        let (seen, Some(location)) = self.leaf_of(key)? else { return Ok(None) };
        match records.record(location) {
            Err(error) if error.is_media_error() => self.take_out(key, location).map(Some),
            record => {
                or_changed(record.is_ok() || seen.node.is_still(seen.version))?;
                record?;
                Ok(None)
            }
        }
    }

    /// Takes out the slot on the way of `key` that holds `location`.
    fn take_out(&self, key: &[u8], location: Location) -> Attempt<Location> {
        let Some(Path { above, place }) = self.path_to(key, location)? else {
            return Err(Missed::Changed);
        };
        let Some(Above { parent, node_ref, gone }) = above else {
            let mut anchor = place.try_lock().ok_or(Missed::Changed)?;
            anchor.set(ROOT, Slot::Empty);
            return Ok(location);
        };
        let seen = place.seen();
        let left = seen.node.used().saturating_sub(1);
        let class = seen.node.class();
        if left == 1 {
            // The only one left takes the place of the node.
            let mut locked = parent.try_lock().ok_or(Missed::Changed)?;
            let node = seen.node.try_lock(seen.version).ok_or(Missed::Changed)?;
            let mut last = Slot::Empty;
            seen.node.for_each(|byte, slot| {
                if byte != gone {
                    last = slot;
                }
            });
            locked.set(parent.at, last);
            drop(locked);
            node.retire();
            self.arena.release(node_ref);
        } else if let Some(smaller) = class.smaller()
            && left <= class.shrinks_at()
        {
            drop(self.replace(parent, node_ref, seen, smaller, |byte| byte != gone)?);
        } else {
            let mut node = place.try_lock().ok_or(Missed::Changed)?;
            node.take_out(place.at);
        }
        Ok(location)
    }

    /// The slot that holds `location`, under which `key` is found. `None` if it is not there.
    fn path_to(&self, key: &[u8], location: Location) -> Attempt<Option<Path<'_>>> {
        let mut place = self.root();
        let mut above = None;
        loop {
            match place.slot() {
                Slot::Leaf(found) if found == location => return Ok(Some(Path { above, place })),
                Slot::Node(node_ref) => {
                    let parent = place;
                    let Seen { node, version } = self.enter(parent.seen(), node_ref)?;
                    let meta = node.meta();
                    let gone = key.get(meta.depth()).copied();
                    let Some(at) = node.find(meta, gone) else {
                        or_changed(node.is_still(version))?;
                        return Ok(None);
                    };
                    above = Some(Above { parent, node_ref, gone });
                    place = Place { node, version, at };
                }
                Slot::Empty | Slot::Leaf(_) => {
                    or_changed(place.is_still())?;
                    return Ok(None);
                }
            }
        }
    }

    /// Whether `key` is found at `location`, without a look at the record.
    pub(super) fn is_at(&self, key: &[u8], location: Location) -> Attempt<bool> {
        Ok(self.path_to(key, location)?.is_some())
    }

    /// Makes `key` found at `to` if it is found at `from`.
    pub(super) fn relocate(&self, key: &[u8], from: Location, to: Location) -> Attempt<bool> {
        let Some(Path { place, .. }) = self.path_to(key, from)? else { return Ok(false) };
        place.try_lock().ok_or(Missed::Changed)?.exchange_leaf(place.at, to);
        Ok(true)
    }

    /// Takes the whole tree out. Nobody publishes or removes meanwhile.
    pub(super) fn detach(&self) -> Slot {
        let root = self.root();
        let mut anchor = root.try_lock().expect("nobody else changes it");
        let tree = root.slot();
        anchor.set(ROOT, Slot::Empty);
        tree
    }

    /// Takes a tree that was detached to pieces, and calls `visit` with all places in it.
    pub(super) fn dismantle(&self, tree: Slot, mut visit: impl FnMut(Location)) {
        let mut pending = vec![tree];
        while let Some(slot) = pending.pop() {
            match slot {
                Slot::Empty => {}
                Slot::Leaf(location) => visit(location),
                Slot::Node(place) => {
                    let node = self.arena.node(place);
                    let version = node.version().expect("only its parent referred to it");
                    let locked = node.try_lock(version).expect("nobody else changes it");
                    node.for_each(|_, slot| pending.push(slot));
                    locked.retire();
                    self.arena.release(place);
                }
            }
        }
    }
}

/// How many first bytes two different keys have in common.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
