//! Upgrading 4 KiB extents to 2 MiB: what commit 642261ac995e left unsolved.
//!
//! 1. The slot is locked whole, so that all of its 512 pages are locked out, mapped or not. That wait
//!    has a deadline: 4 KiB traffic is never held up longer for it.
//! 2. What changes on the medium is one word, from the table to the huge page, and both hold the
//!    same bytes at that moment. A crash leaves one of them.
//! 3. In place, bytes keep their address, so guards stay valid. By relocation no guard may reach the
//!    slot, and the copy is durable before the word names it.
//! 4. An upgrade that is refused, or fails, changes nothing.
//!
//! `docs/DAX.md` has the protocol.

use std::time::{Duration, Instant};

use crate::counters::{Access, Refusal};
use crate::error::Result;
use crate::extent_map::Word;
use crate::fault::Request;
use crate::persist::{copy_within, fence_all, store_zero_lines};
use crate::units::{LogicalRange, PAGES_PER_HUGE, PageNo, PageRun, SlotNo};
use crate::volume::VolumeShared;

/// How long operations inside a slot are waited for at least.
const DRAIN_MIN: Duration = Duration::from_millis(1);
/// After so many 2 MiB faults for writing fell back in a slot, one of them tries to upgrade it. In a
/// mix that a model checker schedules there are not as many.
const CONFLICTS_BEFORE_UPGRADE: u32 = if cfg!(shuttle) { 2 } else { 64 };
/// It does so only if at least so many pages are mapped: at most half of the huge page is new space.
const PAGES_BEFORE_UPGRADE: u64 = PAGES_PER_HUGE / 2;

/// What [`crate::Volume::upgrade`] did, in slots.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct UpgradeReport {
    /// Their pages were one aligned run, and are a 2 MiB extent now.
    pub in_place: u64,
    /// Their pages were moved to a whole huge page.
    pub relocated: u64,
    /// They had a 2 MiB extent already.
    pub already_huge: u64,
    refusals: [u64; Refusal::ALL.len()],
}

impl UpgradeReport {
    /// Slots that stay as they were because of `reason`.
    pub fn refusals(&self, reason: Refusal) -> u64 {
        self.refusals[reason as usize]
    }
}

/// What became of one slot.
enum Upgrade {
    AlreadyHuge,
    InPlace,
    Relocated,
    Refused(Refusal),
}

impl VolumeShared {
    pub(crate) fn upgrade(
        &self,
        range: LogicalRange,
        pages_min: u64,
        patience: Duration,
    ) -> Result<UpgradeReport> {
        let mut report = UpgradeReport::default();
        for slot in self.map.mapped_slots(range.slots())? {
            match self.upgrade_slot(slot, pages_min, patience)? {
                Upgrade::AlreadyHuge => report.already_huge += 1,
                Upgrade::InPlace => report.in_place += 1,
                Upgrade::Relocated => report.relocated += 1,
                Upgrade::Refused(reason) => report.refusals[reason as usize] += 1,
            }
        }
        Ok(report)
    }

    /// Upgrades the slot of a write that is about to fault, if it fell back there often enough.
    /// Whatever hinders it, the fault goes on; it meets the same errors.
    pub(crate) fn upgrade_if_due(&self, request: Request) {
        let slot = request.range.first_page().slot();
        let entries_min = PAGES_BEFORE_UPGRADE as u32;
        if request.access == Access::Write
            && self.index.wants_upgrade(slot, CONFLICTS_BEFORE_UPGRADE, entries_min)
        {
            let _ = self.upgrade_slot(slot, PAGES_BEFORE_UPGRADE, Duration::ZERO);
        }
    }

    fn upgrade_slot(&self, slot: SlotNo, pages_min: u64, patience: Duration) -> Result<Upgrade> {
        let counters = self.pool.counters.mine();
        let upgrade = self.try_upgrade(slot, pages_min, patience)?;
        match upgrade {
            Upgrade::AlreadyHuge => {}
            Upgrade::InPlace => counters.upgraded_in_place.add(1),
            Upgrade::Relocated => counters.relocated.add(1),
            Upgrade::Refused(reason) => counters.refused(reason),
        }
        Ok(upgrade)
    }

    fn try_upgrade(&self, slot: SlotNo, pages_min: u64, patience: Duration) -> Result<Upgrade> {
        if !matches!(self.map.slot(slot)?, Word::Table(_)) {
            return Ok(Upgrade::AlreadyHuge);
        }
        let deadline = Instant::now() + patience.max(DRAIN_MIN);
        let Some(mut locked) = self.index.lock_slot_until(slot, Some(deadline)) else {
            return Ok(Upgrade::Refused(Refusal::InUse));
        };
        // Under the lock: whoever makes the volume shorter punches this slot afterwards.
        if slot.range().end().is_none_or(|end| end > self.len_bytes()) {
            return Ok(Upgrade::Refused(Refusal::PastEnd));
        }
        let Some(pages) = self.map.pages(slot)? else { return Ok(Upgrade::AlreadyHuge) };
        if (pages.iter().flatten().count() as u64) < pages_min {
            return Ok(Upgrade::Refused(Refusal::TooFewPages));
        }
        if let Some(first) = aligned_run(&pages) {
            self.map.join_pages(slot, first)?;
            locked.upgrade(first);
            return Ok(Upgrade::InPlace);
        }
        if self.pins.is_pinned(slot.range()) {
            return Ok(Upgrade::Refused(Refusal::Pinned));
        }
        let Some(reserved) = self.pool.allocator.reserve_huge(self.next_huge_goal()) else {
            return Ok(Upgrade::Refused(Refusal::NoHugePage));
        };
        self.copy_pages(&pages, reserved.run())?;
        let first = self.map.move_pages(slot, reserved)?;
        locked.upgrade(first);
        self.set_huge_goal(first);
        Ok(Upgrade::Relocated)
    }

    /// Copies `pages` to their places in the huge page `to`, and zeros where there is none, durably.
    fn copy_pages(&self, pages: &[Option<PageNo>], to: PageRun) -> Result<()> {
        let medium = &self.pool.medium;
        let targets = (0..).map(|nth| PageRun { first: to.first.plus(nth), pages: 1 });
        let copied = pages.iter().zip(targets).map(|(page, target)| match page {
            Some(page) => {
                let from = PageRun { first: *page, pages: 1 };
                copy_within(medium, from.bytes(), target.first.offset())
            }
            None => store_zero_lines(medium, target.bytes()),
        });
        fence_all(medium, copied.collect::<Result<_>>()?)
    }
}

/// The first page, if all pages are there and follow each other from a huge page's start.
fn aligned_run(pages: &[Option<PageNo>]) -> Option<PageNo> {
    let first = pages.first().copied().flatten()?;
    let follows = |(nth, page): (u64, &Option<PageNo>)| *page == Some(first.plus(nth));
    let is_run = first.0.is_multiple_of(PAGES_PER_HUGE) && (0..).zip(pages).all(follows);
    is_run.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_aligned_run_is_one() {
        let run = |first: u64| (0..PAGES_PER_HUGE).map(move |nth| Some(PageNo(first + nth)));
        assert_eq!(aligned_run(&run(1024).collect::<Vec<_>>()), Some(PageNo(1024)));
        assert_eq!(aligned_run(&run(1025).collect::<Vec<_>>()), None);
        for broken in [0, 1, 255, 511] {
            let mut pages: Vec<_> = run(512).collect();
            pages[broken] = None;
            assert_eq!(aligned_run(&pages), None, "no page {broken}");
            pages[broken] = Some(PageNo(7));
            assert_eq!(aligned_run(&pages), None, "another page {broken}");
        }
    }
}
