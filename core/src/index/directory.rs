//! Where the slot words are: a node for each GiB, made when it is touched, under an array that
//! reaches 256 TiB and that takes memory only where it is touched too.
//!
//! 1. What was made stays in place until the index goes, so references need no lock.
//! 2. A node costs 8 bytes per slot, and one bit that says whether anything in it is dirty. Cells for
//!    tables are made when the first slot of the node is used at 4 KiB.

use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use super::table::Table;
use crate::entry::SlotWord;
use crate::epoch::{EpochCell, Pin, pin};
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::set_once::SetOnceArray;
use crate::units::SlotNo;

/// Slots of a node: one GiB. A model checker would look at every word of a node.
const NODE_SLOTS: usize = if cfg!(any(loom, shuttle)) { 4 } else { 512 };
/// Nodes of the longest volume, 256 TiB.
const NODES: usize = 1 << 18;

pub(super) struct Directory {
    nodes: SetOnceArray<Node>,
}

/// The slots of one GiB.
pub(super) struct Node {
    words: [AtomicU64; NODE_SLOTS],
    /// A bit for each slot with a dirty entry; set under any lock in the slot, cleared under the
    /// lock of the whole slot.
    dirty: [AtomicU64; NODE_SLOTS.div_ceil(64)],
    tables: OnceLock<Box<[EpochCell<Table>]>>,
}

/// The place of one slot.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    node: &'a Node,
    at: usize,
}

impl Directory {
    /// # Errors
    /// Without address space for it.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { nodes: SetOnceArray::new(NODES)? })
    }

    /// The place of `slot`, made if it is not there yet.
    pub(super) fn place(&self, slot: SlotNo) -> Place<'_> {
        let (node_no, at) = split(slot);
        let node = self.nodes.get_or_init(node_no, || Box::new(Node::new()));
        Place { node, at }
    }

    /// The place of `slot`, if any slot near it was touched.
    #[inline]
    pub(super) fn existing(&self, slot: SlotNo) -> Option<Place<'_>> {
        let (node_no, at) = split(slot);
        let node = self.nodes.get(node_no)?;
        Some(Place { node, at })
    }

    /// The places of `slots` that were made, in order.
    pub(super) fn places(
        &self,
        slots: RangeInclusive<SlotNo>,
    ) -> impl Iterator<Item = (SlotNo, Place<'_>)> {
        self.nodes(slots.clone()).flat_map(move |(first, node)| {
            let start = slots.start().0.max(first.0);
            let end = slots.end().0.min(first.0 + NODE_SLOTS as u64 - 1);
            (start..=end)
                .map(move |slot| (SlotNo(slot), Place { node, at: slot as usize % NODE_SLOTS }))
        })
    }

    /// The slots of `slots` that are marked as dirty now, in order. Costs as much as there are
    /// touched GiB, and dirty slots.
    pub(super) fn dirty_slots(&self, slots: RangeInclusive<SlotNo>) -> Vec<SlotNo> {
        let mut found = Vec::new();
        for (first, node) in self.nodes(slots.clone()) {
            for (nth, word) in node.dirty.iter().enumerate() {
                // ORDERING: Acquire; pairs with the AcqRel in `mark_dirty`.
                let mut bits = word.load(Ordering::Acquire);
                while bits != 0 {
                    let slot = SlotNo(first.0 + nth as u64 * 64 + u64::from(bits.trailing_zeros()));
                    bits &= bits - 1;
                    if slots.contains(&slot) {
                        found.push(slot);
                    }
                }
            }
        }
        found
    }

    /// Bytes of DRAM that the directory and its tables take.
    pub(super) fn bytes(&self, pin: &Pin) -> u64 {
        let mut bytes = size_of::<usize>() * self.nodes.end();
        for (_, node) in self.nodes(SlotNo(0)..=SlotNo(u64::MAX)) {
            bytes += size_of::<Node>();
            if let Some(tables) = node.tables.get() {
                let in_use = tables.iter().filter(|cell| cell.load(pin).is_some()).count();
                bytes += size_of_val(&**tables) + in_use * size_of::<Table>();
            }
        }
        bytes as u64
    }

    /// The nodes that have slots of `slots`, each with its first slot, in order.
    fn nodes(&self, slots: RangeInclusive<SlotNo>) -> impl Iterator<Item = (SlotNo, &Node)> {
        let first = slots.start().0 as usize / NODE_SLOTS;
        let end = (slots.end().0 as usize / NODE_SLOTS).saturating_add(1).min(self.nodes.end());
        (first..end).filter_map(|node_no| {
            Some((SlotNo((node_no * NODE_SLOTS) as u64), self.nodes.get(node_no)?))
        })
    }
}

impl Node {
    fn new() -> Self {
        Self {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            dirty: std::array::from_fn(|_| AtomicU64::new(0)),
            tables: OnceLock::new(),
        }
    }
}

impl<'a> Place<'a> {
    pub(super) fn word(self) -> &'a AtomicU64 {
        &self.node.words[self.at]
    }

    #[inline]
    pub(super) fn load(self) -> SlotWord {
        // ORDERING: Acquire; pairs with the Release of `exchange` and of every unlock.
        SlotWord(self.word().load(Ordering::Acquire))
    }

    pub(super) fn exchange(self, seen: SlotWord, new: u64) -> bool {
        exchange_word(self.word(), seen.0, new)
    }

    /// The table of the slot, if it has one.
    pub(super) fn table<'p>(self, pin: &'p Pin) -> Option<&'p Table>
    where
        'a: 'p,
    {
        self.node.tables.get()?[self.at].load(pin)
    }

    /// The table of the slot; made by the first who is inside. Only callers that are inside may ask.
    pub(super) fn table_or_new(self) -> Arc<Table> {
        let cells =
            self.node.tables.get_or_init(|| (0..NODE_SLOTS).map(|_| EpochCell::empty()).collect());
        let (cell, pin) = (&cells[self.at], pin());
        loop {
            if let Some(table) = cell.load_arc(&pin) {
                return table;
            }
            // Another thread may be faster: then its table serves.
            let _ = cell.set_if_empty(Arc::new(Table::new()));
        }
    }

    /// Takes the table away; readers that see it keep it.
    pub(super) fn drop_table(self) {
        if let Some(tables) = self.node.tables.get() {
            tables[self.at].replace(None);
        }
    }

    /// Says that an entry of the slot is dirty. The caller holds a lock in it.
    pub(super) fn mark_dirty(self) {
        let (word, bit) = (&self.node.dirty[self.at / 64], 1 << (self.at % 64));
        // Mostly it is set already, and then the line stays shared.
        if word.load(Ordering::Relaxed) & bit == 0 {
            // ORDERING: AcqRel; pairs with the Acquire in `dirty_slots`.
            word.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Says that no entry of the slot is dirty. The caller holds the slot.
    pub(super) fn mark_clean(self) {
        // ORDERING: AcqRel, as in `mark_dirty`.
        self.node.dirty[self.at / 64].fetch_and(!(1 << (self.at % 64)), Ordering::AcqRel);
    }

    pub(super) fn is_marked_dirty(self) -> bool {
        self.node.dirty[self.at / 64].load(Ordering::Acquire) & 1 << (self.at % 64) != 0
    }
}

pub(super) fn exchange_word(word: &AtomicU64, seen: u64, new: u64) -> bool {
    // ORDERING: AcqRel; Acquire pairs with the Release of the last unlock, Release with the loads
    // of whoever finds the word locked.
    word.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[inline]
fn split(slot: SlotNo) -> (usize, usize) {
    let slot = slot.0 as usize;
    (slot / NODE_SLOTS, slot % NODE_SLOTS)
}
