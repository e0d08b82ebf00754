//! A node of the ordered index as words, and the lock in it.
//!
//! | word | |
//! |---|---|
//! | 0 | version: bit 0 locked, bit 1 retired, the rest counts changes |
//! | 1 | number of children; depth; of a small node the bytes of its children |
//! | 2 | the 8 bytes of every key below that stand before the depth, zeros where there are none |
//! | 3 | slot of the key that ends at the depth |
//! | from 4 | of the middle classes: the bytes of the children, ascending; then the slots of the children |
//!
//! Every key below a node has the same first *depth* bytes; at the depth its children differ.
//!
//! Reading is optimistic (Leis et al. 2016, optimistic lock coupling): remember the version, read, and look
//! whether the version is still the same.
//!
//! 1. Words other than the version are stored only under the lock, which is the lowest bit of the
//!    version; giving the lock back makes the version another one, if the node is another one.
//! 2. So what was read between two equal, unlocked versions stood there at one moment, but for the place of
//!    a record: that may be exchanged for another place of the same key's record at any time.
//! 3. A retired node is referred to by no other; it stays retired until it is another node.

use std::ops::Range;

use daxite_core::primitives::atomic::{self, AtomicU64, Ordering};
use daxite_core::primitives::spin;

use super::arena::LINE_WORDS;
use crate::location::Location;

const LOCKED: u64 = 1;
const RETIRED: u64 = 2;
/// What a change adds to a version.
const CHANGE: u64 = 4;

const VERSION: usize = 0;
const META: usize = 1;
const BEFORE: usize = 2;
/// The slot of the key that ends at the depth.
pub(super) const END: usize = 3;
const HEAD: usize = 4;

/// How many children a node has room for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Class {
    /// 4, in one line.
    Few,
    /// 16.
    Some,
    /// 48.
    Many,
    /// One for each byte, at its place.
    Direct,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Few, Self::Some, Self::Many, Self::Direct];

    pub(super) const fn capacity(self) -> usize {
        [4, 16, 48, 256][self as usize]
    }

    /// Words of a node, in whole lines.
    pub(super) const fn words(self) -> usize {
        [LINE_WORDS, 3 * LINE_WORDS, 8 * LINE_WORDS, 33 * LINE_WORDS][self as usize]
    }

    /// Where the slots of the children start.
    const fn slots_at(self) -> usize {
        [HEAD, HEAD + 2, HEAD + 6, HEAD][self as usize]
    }

    /// With so few slots in use a node is to be of the class below.
    pub(super) const fn shrinks_at(self) -> usize {
        [0, 3, 12, 36][self as usize]
    }

    pub(super) fn larger(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    pub(super) fn smaller(self) -> Option<Self> {
        Self::ALL[..self as usize].last().copied()
    }
}

/// Where a node is, and its class: a word of its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeRef(u64);

const LEAF_TAG: u64 = 1 << 16;
const NODE_TAG: u64 = 1 << 17;

impl NodeRef {
    /// The node of `class` that starts at `line` of `block`.
    pub(super) fn new(block: usize, line: usize, class: Class) -> Self {
        debug_assert!(block < 32 && line >> 32 == 0);
        Self((line as u64) << 32 | (block as u64) << 18 | NODE_TAG | class as u64)
    }

    #[inline]
    pub(super) fn block(self) -> usize {
        (self.0 >> 18 & 31) as usize
    }

    #[inline]
    pub(super) fn line(self) -> usize {
        (self.0 >> 32) as usize
    }

    #[inline]
    pub(super) fn class(self) -> Class {
        Class::ALL[(self.0 & 3) as usize]
    }
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    Empty,
    Leaf(Location),
    Node(NodeRef),
}

impl Slot {
    #[inline]
    fn of_word(word: u64) -> Self {
        match word & (LEAF_TAG | NODE_TAG) {
            LEAF_TAG => Self::Leaf(Location::of_word(word & !LEAF_TAG)),
            NODE_TAG => Self::Node(NodeRef(word)),
            _ => Self::Empty,
        }
    }

    fn word(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Leaf(location) => location.word() | LEAF_TAG,
            Self::Node(place) => place.0,
        }
    }
}

/// A version at which a node was not locked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Version(u64);

/// Number of children, depth, and the bytes of few children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta(u64);

impl Meta {
    #[inline]
    fn count(self, class: Class) -> usize {
        // Cut, because what is read while somebody writes may be anything.
        ((self.0 & 0xffff) as usize).min(class.capacity())
    }

    /// How many first bytes all keys below have in common.
    #[inline]
    pub(super) fn depth(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }

    fn few_bytes(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A node, or what is left of it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    words: &'a [AtomicU64],
    class: Class,
}

impl<'a> Node<'a> {
    #[inline]
    pub(super) fn new(words: &'a [AtomicU64], class: Class) -> Self {
        Self { words, class }
    }

    pub(super) fn class(self) -> Class {
        self.class
    }

    /// The version, once the node is not locked. `None` if it is retired.
    #[inline]
    pub(super) fn version(self) -> Option<Version> {
        // ORDERING: Acquire; pairs with the Release in `drop`, for what is read from here on.
        let version = self.words[VERSION].load(Ordering::Acquire);
        if version & (LOCKED | RETIRED) == 0 { Some(Version(version)) } else { self.wait() }
    }

    #[cold]
    fn wait(self) -> Option<Version> {
        for nth in 0.. {
            // ORDERING: as in `version`.
            let version = self.words[VERSION].load(Ordering::Acquire);
            if version & RETIRED != 0 {
                return None;
            }
            if version & LOCKED == 0 {
                return Some(Version(version));
            }
            spin(nth);
        }
        unreachable!("the loop has no end")
    }

    /// Whether what was read since `version` stood there at one moment.
    #[inline]
    pub(super) fn is_still(self, version: Version) -> bool {
        // ORDERING: the fence pairs with that in `try_lock`: whoever read a word of a later change
        // sees its lock, or a later version.
        atomic::fence(Ordering::Acquire);
        self.words[VERSION].load(Ordering::Relaxed) == version.0
    }

    /// The lock, if the node is still as it was at `version`.
    pub(super) fn try_lock(self, version: Version) -> Option<Locked<'a>> {
        let locked = version.0 | LOCKED;
        let word = &self.words[VERSION];
        // ORDERING: Acquire, for what earlier holders stored.
        word.compare_exchange(version.0, locked, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // ORDERING: no store under the lock is seen before the lock is; pairs with `is_still`.
        atomic::fence(Ordering::Release);
        Some(Locked { node: self, next: version.0 + CHANGE })
    }

    /// Makes the node a new one: locked, so that no one who still knows an earlier life reads it.
    pub(super) fn begin(self) {
        let version = self.words[VERSION].load(Ordering::Relaxed) & !(LOCKED | RETIRED);
        self.words[VERSION].store((version + CHANGE) | LOCKED, Ordering::Relaxed);
        // ORDERING: as in `try_lock`.
        atomic::fence(Ordering::Release);
        self.words[META].store(0, Ordering::Relaxed);
        self.words[END].store(0, Ordering::Relaxed);
        if self.class == Class::Direct {
            self.slots().iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
        }
    }

    /// The lock of a node that nobody else can reach, since [`Node::begin`].
    pub(super) fn begun(self) -> Locked<'a> {
        let version = self.words[VERSION].load(Ordering::Relaxed);
        Locked { node: self, next: (version & !LOCKED) + CHANGE }
    }

    /// What the node says of itself.
    #[inline]
    pub(super) fn meta(self) -> Meta {
        Meta(self.words[META].load(Ordering::Relaxed))
    }

    /// Number of children.
    #[inline]
    pub(super) fn count(self) -> usize {
        self.meta().count(self.class)
    }

    /// Up to 8 bytes that stand in all keys below before the depth, by position.
    #[inline]
    pub(super) fn before(self) -> [u8; 8] {
        self.words[BEFORE].load(Ordering::Relaxed).to_be_bytes()
    }

    /// What is in the slot at word `at`.
    #[inline]
    pub(super) fn slot(self, at: usize) -> Slot {
        // ORDERING: Acquire; pairs with the Release in `set`: who sees a reference to a new node sees
        // what is in it.
        Slot::of_word(self.words[at].load(Ordering::Acquire))
    }

    #[inline]
    fn slots(self) -> &'a [AtomicU64] {
        let at = self.class.slots_at();
        &self.words[at..at + self.class.capacity()]
    }

    fn byte_words(self) -> &'a [AtomicU64] {
        &self.words[HEAD..self.class.slots_at()]
    }

    /// The word of the slot for the child `byte`, by `meta`, or for the key that ends here. `None` if there is
    /// no such child.
    #[inline]
    pub(super) fn find(self, meta: Meta, byte: Option<u8>) -> Option<usize> {
        let Some(byte) = byte else { return Some(END) };
        match self.class {
            Class::Direct => {
                let at = HEAD + usize::from(byte);
                (self.words[at].load(Ordering::Relaxed) != 0).then_some(at)
            }
            Class::Few => {
                let at = position(u64::from(meta.few_bytes()) | !0 << 32, byte);
                (at < meta.count(Class::Few)).then_some(HEAD + at)
            }
            Class::Some | Class::Many => {
                let count = meta.count(self.class);
                for (nth, word) in self.byte_words().iter().enumerate() {
                    let at = position(word.load(Ordering::Relaxed), byte);
                    if at < 8 {
                        let at = nth * 8 + at;
                        return (at < count).then_some(self.class.slots_at() + at);
                    }
                }
                None
            }
        }
    }

    /// The bytes of the children of a node that is not direct, ascending.
    fn bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        match self.class {
            Class::Direct => {}
            Class::Few => {
                bytes[..4].copy_from_slice(&self.meta().few_bytes().to_le_bytes());
            }
            Class::Some | Class::Many => {
                for (word, bytes) in self.byte_words().iter().zip(bytes.chunks_exact_mut(8)) {
                    bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                }
            }
        }
        bytes
    }

    /// Calls `visit` with the children, ascending, the key that ends here in front of them as `None`.
    pub(super) fn for_each(self, mut visit: impl FnMut(Option<u8>, Slot)) {
        let end = self.slot(END);
        if end != Slot::Empty {
            visit(None, end);
        }
        let at = self.class.slots_at();
        if self.class == Class::Direct {
            for byte in 0..=u8::MAX {
                match self.slot(at + usize::from(byte)) {
                    Slot::Empty => {}
                    slot => visit(Some(byte), slot),
                }
            }
        } else {
            let count = self.count();
            for (nth, byte) in self.bytes()[..count].iter().enumerate() {
                visit(Some(*byte), self.slot(at + nth));
            }
        }
    }

    /// The number of the last slot that can be in use: 0 is that of the key that ends here, those of the
    /// children follow in the order of their bytes.
    #[inline]
    pub(super) fn last_number(self) -> usize {
        if self.class == Class::Direct { self.class.capacity() } else { self.count() }
    }

    /// What is in the slot with `number`.
    #[inline]
    pub(super) fn numbered(self, number: usize) -> Slot {
        self.slot(if number == 0 { END } else { self.class.slots_at() + number - 1 })
    }

    /// The number of the child for `byte`; no number, but with the place where it would be, if there is
    /// no such child.
    pub(super) fn numbers(self, byte: u8) -> Range<usize> {
        if self.class == Class::Direct {
            let number = usize::from(byte) + 1;
            return number..number + 1;
        }
        let bytes = &self.bytes()[..self.count()];
        let number = bytes.partition_point(|&other| other < byte);
        let found = usize::from(bytes.get(number) == Some(&byte));
        number + 1..number + 1 + found
    }

    /// The slots in use: the children, and the key that ends here.
    pub(super) fn used(self) -> usize {
        self.count() + usize::from(self.slot(END) != Slot::Empty)
    }

    /// What a retired node becomes, in tests that never shared it.
    #[cfg(test)]
    pub(super) fn retire_unshared(self) {
        self.begun().retire();
    }
}

/// Where in `bytes`, lowest first, `byte` is; 8 or more if it is not among them.
#[inline]
fn position(bytes: u64, byte: u8) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    let differences = bytes ^ (ONES * u64::from(byte));
    // The lowest byte that is zero gets its high bit set, and none below it does.
    let zeros = differences.wrapping_sub(ONES) & !differences & ONES << 7;
    zeros.trailing_zeros() as usize / 8
}

/// A node that is locked. Giving it back makes it another version.
pub(super) struct Locked<'a> {
    node: Node<'a>,
    next: u64,
}

impl<'a> Locked<'a> {
    /// Sets what all keys below have in common: the first `depth` bytes of `key`.
    pub(super) fn set_common(&mut self, key: &[u8], depth: usize) {
        debug_assert!(depth <= key.len() && depth <= 0xffff);
        let before = before(key, depth);
        self.node.words[BEFORE].store(u64::from_be_bytes(before), Ordering::Relaxed);
        let meta = self.node.meta().0 & !0xffff_0000 | (depth as u64) << 16;
        self.node.words[META].store(meta, Ordering::Relaxed);
    }

    /// Takes over what all keys below `other` have in common.
    pub(super) fn set_common_of(&mut self, other: Node<'_>) {
        let before = other.words[BEFORE].load(Ordering::Relaxed);
        self.node.words[BEFORE].store(before, Ordering::Relaxed);
        let meta = self.node.meta().0 & !0xffff_0000 | other.meta().0 & 0xffff_0000;
        self.node.words[META].store(meta, Ordering::Relaxed);
    }

    /// Puts `slot` at word `at`.
    pub(super) fn set(&mut self, at: usize, slot: Slot) {
        // ORDERING: Release; pairs with the Acquire in `Node::slot`.
        self.node.words[at].store(slot.word(), Ordering::Release);
    }

    /// Puts another place of the same key's record at word `at`, and gives the lock back: whoever reads
    /// meanwhile may take either, so to them the node is as it was.
    pub(super) fn exchange_leaf(mut self, at: usize, location: Location) {
        debug_assert!(matches!(self.node.slot(at), Slot::Leaf(_)));
        self.set(at, Slot::Leaf(location));
        self.next -= CHANGE;
    }

    /// Adds a child, or the key that ends here. There is room and none such yet.
    pub(super) fn add(&mut self, byte: Option<u8>, slot: Slot) {
        let Some(byte) = byte else {
            return self.set(END, slot);
        };
        let count = self.node.count();
        if self.node.class == Class::Direct {
            self.set(HEAD + usize::from(byte), slot);
            return self.set_children(count + 1, None);
        }
        let mut bytes = self.node.bytes();
        let rank = bytes[..count].partition_point(|&other| other < byte);
        debug_assert!(count < self.node.class.capacity());
        debug_assert!(rank == count || bytes[rank] != byte);
        bytes.copy_within(rank..count, rank + 1);
        bytes[rank] = byte;
        let slots = self.node.slots();
        for nth in (rank..count).rev() {
            // ORDERING: Release, as in `set`: a reader may take a reference from either place.
            slots[nth + 1].store(slots[nth].load(Ordering::Relaxed), Ordering::Release);
        }
        self.set(self.node.class.slots_at() + rank, slot);
        self.set_children(count + 1, Some(&bytes));
    }

    /// Takes the child, or the key that ends here, out of word `at`.
    pub(super) fn take_out(&mut self, at: usize) {
        if at == END {
            return self.set(END, Slot::Empty);
        }
        let count = self.node.count();
        if self.node.class == Class::Direct {
            self.set(at, Slot::Empty);
            return self.set_children(count - 1, None);
        }
        let mut bytes = self.node.bytes();
        let rank = at - self.node.class.slots_at();
        bytes.copy_within(rank + 1..count, rank);
        let slots = self.node.slots();
        for nth in rank + 1..count {
            // ORDERING: Release, as in `add`.
            slots[nth - 1].store(slots[nth].load(Ordering::Relaxed), Ordering::Release);
        }
        self.set_children(count - 1, Some(&bytes));
    }

    fn set_children(&mut self, count: usize, bytes: Option<&[u8; 48]>) {
        let mut meta = self.node.meta().0 & !0xffff | count as u64;
        match (self.node.class, bytes) {
            (Class::Few, Some(bytes)) => {
                let bytes = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                meta = meta & 0xffff_ffff | u64::from(bytes) << 32;
            }
            (_, Some(bytes)) => {
                let (bytes, _) = bytes.as_chunks();
                for (word, bytes) in self.node.byte_words().iter().zip(bytes) {
                    word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
                }
            }
            (_, None) => {}
        }
        self.node.words[META].store(meta, Ordering::Relaxed);
    }

    /// Gives the node up for ever: no other node refers to it any more.
    pub(super) fn retire(mut self) {
        self.next |= RETIRED;
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // ORDERING: Release; pairs with the Acquire in `Node::version`.
        self.node.words[VERSION].store(self.next, Ordering::Release);
    }
}

/// The 8 bytes of `key` before `depth`, zeros where there are none.
pub(super) fn before(key: &[u8], depth: usize) -> [u8; 8] {
    let mut before = [0; 8];
    let len = depth.min(8);
    before[8 - len..].copy_from_slice(&key[depth - len..depth]);
    before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SegmentNo;
    use daxite_core::Words;

    fn leaf(n: u64) -> Slot {
        Slot::Leaf(Location::new(SegmentNo(1), n * 64, 64))
    }

    #[test]
    fn slots_round_trip() {
        let location = Location::new(SegmentNo((1 << 27) - 1), 8, 0x10000 * 8 + 8);
        for slot in [
            Slot::Empty,
            Slot::Leaf(location),
            Slot::Node(NodeRef::new(25, 0xffff_ffff, Class::Direct)),
        ] {
            assert_eq!(Slot::of_word(slot.word()), slot);
        }
    }

    #[test]
    fn the_position_of_a_byte() {
        let bytes = u64::from_le_bytes([7, 0, 1, 255, 128, 127, 6, 8]);
        for (at, byte) in [7, 0, 1, 255, 128, 127, 6, 8].into_iter().enumerate() {
            assert_eq!(position(bytes, byte), at);
        }
        for byte in [2, 9, 129, 254] {
            assert!(position(bytes, byte) >= 8, "{byte}");
        }
    }

    /// Adds and takes out children in a shuffled order, and looks each time.
    #[test]
    fn children_come_and_go_in_every_class() {
        for class in Class::ALL {
            let words = Words::zeroed(class.words()).unwrap();
            let node = Node::new(&words, class);
            node.begin();
            let mut locked = node.begun();
            let mut expected = std::collections::BTreeMap::new();
            let mut random = 0x1234_5678_9abc_def1_u64;
            for step in 0..20_000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let byte = (random >> 32) as u8;
                match node.find(node.meta(), Some(byte)) {
                    Some(at) => {
                        assert_eq!(Some(&node.slot(at)), expected.get(&byte));
                        locked.take_out(at);
                        expected.remove(&byte);
                    }
                    None if node.count() < class.capacity() => {
                        locked.add(Some(byte), leaf(step));
                        expected.insert(byte, leaf(step));
                    }
                    None => {
                        let first = *expected.keys().next().unwrap();
                        locked.take_out(node.find(node.meta(), Some(first)).unwrap());
                        expected.remove(&first);
                    }
                }
                let mut found = Vec::new();
                node.for_each(|byte, slot| found.push((byte.unwrap(), slot)));
                assert!(found.iter().copied().eq(expected.iter().map(|(b, s)| (*b, *s))));
                assert_eq!(node.count(), expected.len());
            }
        }
    }

    #[test]
    fn a_version_is_another_after_a_change_and_none_after_retiring() {
        let words = Words::zeroed(Class::Few.words()).unwrap();
        let node = Node::new(&words, Class::Few);
        node.begin();
        drop(node.begun());
        let version = node.version().unwrap();
        assert!(node.is_still(version));
        let mut locked = node.try_lock(version).unwrap();
        assert!(node.try_lock(version).is_none());
        assert!(!node.is_still(version));
        locked.add(Some(1), leaf(1));
        drop(locked);
        assert!(!node.is_still(version));
        node.try_lock(node.version().unwrap()).unwrap().retire();
        assert_eq!(node.version(), None);
        node.begin();
        drop(node.begun());
        assert!(node.version().is_some_and(|later| later != version));
        assert_eq!(node.used(), 0);
    }
}
