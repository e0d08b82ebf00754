//! The entry index of a volume: which entry covers a logical page, and who may change it.
//!
//! Two levels of words, like the page table that it mirrors: one for each slot of 2 MiB, and in a
//! slot that is used at 4 KiB a table of 512. DRAM only; it is rebuilt by faults.
//! 1. At most one entry covers a page: a slot holds a 2 MiB entry or a table, never both.
//! 2. Entries are born locked and empty. Only the holder of its lock changes an entry.
//! 3. A 4 KiB operation is inside the table (counted in the slot word) from before it locks its
//!    entry until after it unlocked it. So a slot with nobody inside has no locked entry and no
//!    sleeper in its table.
//! 4. A slot is locked whole ([`LockedSlot`]) only with nobody inside: that is the intention lock
//!    which keeps all 512 pages locked out, whether they have entries or not.
//! 5. A table without entries turns back into nothing, or its slot would never be 2 MiB again.
//! 6. A thread holds locks in one slot only, and several 4 KiB locks only in ascending order. So
//!    waits form no cycle: who waits for a slot holds nothing; who waits for a 4 KiB lock is inside
//!    and holds only lower ones of that table.
//! 7. A slot with a dirty entry is marked in its node before the entry is unlocked.
//!
//! `docs/DAX.md` has the whole protocol. Source: `fs/dax.c` of Linux commit 642261ac995e
//! (`grab_mapping_entry`), with the lock above the entries that a kernel radix tree has no place
//! for.

mod check;
mod directory;
mod locked;
mod locks;
mod lookup;
mod table;

#[cfg(all(test, loom))]
pub(crate) mod models;
#[cfg(test)]
mod tests;

pub(crate) use locked::{LockedEntries, LockedHuge, LockedPage, LockedSlot};
pub(crate) use locks::EntryIndex;
pub(crate) use lookup::{Found, Need};
