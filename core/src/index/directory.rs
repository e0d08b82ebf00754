//! Where the slot words are: three levels of 512, which reach 256 TiB, made as they are touched.
//!
//! 1. What was made stays in place until the index goes, so references need no lock.
//! 2. A node costs 8 bytes per slot, and one bit that says whether anything in it is dirty. Cells for
//!    tables are made when the first slot of the node is used at 4 KiB.

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use super::table::Table;
use crate::entry::SlotWord;
use crate::epoch::{EpochCell, Pin};
use crate::primitives::atomic::{AtomicU64, Ordering};
use crate::units::SlotNo;

/// Children of a directory, and slots of a node. A model checker would look at every word of a node.
const FANOUT: usize = if cfg!(any(loom, shuttle)) { 4 } else { 512 };

pub(super) struct Directory {
    /// One for each 512 GiB.
    upper: Box<[OnceLock<Box<Upper>>]>,
}

/// A node for each GiB.
struct Upper([OnceLock<Box<Node>>; FANOUT]);

/// The slots of one GiB.
pub(super) struct Node {
    words: [AtomicU64; FANOUT],
    /// A bit for each slot with a dirty entry; set under any lock in the slot, cleared under the
    /// lock of the whole slot.
    dirty: [AtomicU64; FANOUT.div_ceil(64)],
    tables: OnceLock<Box<[EpochCell<Table>]>>,
}

/// The place of one slot.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    node: &'a Node,
    at: usize,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self { upper: (0..FANOUT).map(|_| OnceLock::new()).collect() }
    }

    /// The place of `slot`, made if it is not there yet.
    pub(super) fn place(&self, slot: SlotNo) -> Place<'_> {
        let (upper, node, at) = split(slot);
        let upper = self.upper[upper]
            .get_or_init(|| Box::new(Upper(std::array::from_fn(|_| OnceLock::new()))));
        let node = upper.0[node].get_or_init(|| Box::new(Node::new()));
        Place { node, at }
    }

    /// The place of `slot`, if any slot near it was touched.
    pub(super) fn existing(&self, slot: SlotNo) -> Option<Place<'_>> {
        let (upper, node, at) = split(slot);
        let node = self.upper[upper].get()?.0[node].get()?;
        Some(Place { node, at })
    }

    /// The places of `slots` that were made, in order.
    pub(super) fn places(
        &self,
        slots: RangeInclusive<SlotNo>,
    ) -> impl Iterator<Item = (SlotNo, Place<'_>)> {
        self.nodes(slots.clone()).flat_map(move |(first, node)| {
            let slots = slots.clone();
            let all = (0..FANOUT).map(move |at| (SlotNo(first.0 + at as u64), Place { node, at }));
            all.filter(move |(slot, _)| slots.contains(slot))
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
        let uppers = self.upper.iter().filter(|upper| upper.get().is_some()).count();
        let mut bytes = size_of_val(&*self.upper) + uppers * size_of::<Upper>();
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
        let uppers = self.upper.iter().enumerate().filter_map(|(n, upper)| Some((n, upper.get()?)));
        let nodes = uppers.flat_map(|(upper_no, upper)| {
            let nodes = upper.0.iter().enumerate();
            nodes.filter_map(move |(node_no, node)| {
                let first = (upper_no * FANOUT + node_no) * FANOUT;
                Some((SlotNo(first as u64), &**node.get()?))
            })
        });
        nodes.filter(move |(first, _)| {
            *first <= *slots.end() && SlotNo(first.0 + FANOUT as u64 - 1) >= *slots.start()
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
    pub(super) fn table_or_new<'p>(self, pin: &'p Pin) -> &'p Table
    where
        'a: 'p,
    {
        let cells =
            self.node.tables.get_or_init(|| (0..FANOUT).map(|_| EpochCell::empty()).collect());
        let cell: &'a EpochCell<Table> = &cells[self.at];
        loop {
            if let Some(table) = cell.load(pin) {
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

fn split(slot: SlotNo) -> (usize, usize, usize) {
    let slot = slot.0 as usize;
    (slot / (FANOUT * FANOUT), slot / FANOUT % FANOUT, slot % FANOUT)
}
