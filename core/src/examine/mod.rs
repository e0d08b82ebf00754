//! Looking for damage without stopping at the first: what `daxite check` is made of.
//!
//! 1. Not a byte is changed.
//! 2. A table is read once, as its first owner has it; whoever else names it is a finding, one for
//!    each word. So time and memory are bounded by the length of the pool, whatever its bytes say.
//! 3. A pool without findings of [`Severity::Damage`] opens, and one with them does not.
//!
//! `owners` tells who has a page, `report` is the answer.

mod owners;
mod report;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::bad_pages;
use crate::error::{Error, Result};
use crate::extent_map::{Digest, ExtentMap, Met, Owned, Step};
use crate::layout::{BAD_PAGES_OFFSETS, STATE_CLEAN, SUPERBLOCK_OFFSETS, Superblock};
use crate::medium::{Medium, Mode, Target};
use crate::resize::check_len;
use crate::superblock;
use crate::units::{ExtentSize, Offset, PAGE, PageNo, PageRun};
use owners::{Owner, Owners, Taken};
pub use report::{Examination, Finding, Severity};

/// Examines the pool at `path`.
///
/// # Errors
/// Those of [`crate::Pool::examine`].
pub(crate) fn examine(path: &Path) -> Result<Examination> {
    let target = Target::open(path, Mode::ReadOnly)?;
    target.require_superblock()?;
    let len_bytes = target.len_bytes / PAGE * PAGE;
    examine_medium(Medium::map(target, len_bytes, Mode::ReadOnly)?)
}

fn examine_medium(medium: Medium) -> Result<Examination> {
    let mut examiner = Examiner::default();
    match superblock::newest(&medium) {
        Ok(superblock) => {
            medium.fill_holes(superblock.pool_bytes)?;
            examiner.superblocks(&medium, Severity::Warning);
            examiner.pool(&Arc::new(medium), &superblock)?;
        }
        // Neither copy tells where anything is.
        Err(Error::Corrupt { .. }) => examiner.superblocks(&medium, Severity::Damage),
        Err(error) => return Err(error),
    }
    Ok(examiner.report)
}

#[derive(Default)]
struct Examiner {
    owners: Owners,
    report: Examination,
    /// Of the volumes met so far. The last one is being looked at.
    volumes: Vec<String>,
}

/// The volume that is being looked at.
struct Current<'a> {
    name: &'a str,
    /// Its place in [`Examiner::volumes`].
    number: usize,
    /// Where its record is.
    record: Offset,
    len_bytes: u64,
    digest: Digest,
}

impl Examiner {
    fn superblocks(&mut self, medium: &Medium, severity: Severity) {
        let flawed = superblock::flawed_copies(medium);
        self.report.superblocks = (SUPERBLOCK_OFFSETS.len() - flawed.len()) as u64;
        for (offset, detail) in flawed {
            self.find(severity, "superblock", None, offset, detail);
        }
    }

    fn pool(&mut self, medium: &Arc<Medium>, superblock: &Superblock) -> Result<()> {
        self.report.was_clean = superblock.state == STATE_CLEAN;
        for contradiction in superblock.contradictions() {
            let record = contradiction.record.map(|index| (index, superblock.volumes[index]));
            let (what, volume, offset) = match &record {
                Some((index, record)) => {
                    ("volume record", record.name(), superblock.record_offset(*index))
                }
                None => ("superblock", None, superblock.offset()),
            };
            self.find(Severity::Damage, what, volume, offset, contradiction.detail);
        }
        if !superblock.has_possible_length() {
            return Ok(());
        }
        self.report.pages = superblock.pool_bytes / PAGE;
        let superblocks = SUPERBLOCK_OFFSETS.map(|offset| (offset, Owner::Superblock));
        let lists = BAD_PAGES_OFFSETS.map(|offset| (offset, Owner::BadPages));
        for (offset, owner) in superblocks.into_iter().chain(lists) {
            let run = PageRun { first: PageNo(offset / PAGE), pages: 1 };
            self.owners.claim(run, owner).expect("the first owners");
            self.report.owned_pages += 1;
        }
        self.bad_pages(medium, superblock);
        for (index, record) in superblock.volumes.iter().enumerate() {
            if record.is_used() {
                self.volume(medium, superblock, index)?;
            }
        }
        Ok(())
    }

    fn bad_pages(&mut self, medium: &Medium, superblock: &Superblock) {
        let (seed, pages) = (superblock.seed(), superblock.pool_bytes / PAGE);
        let severity = match bad_pages::read(medium, seed, pages) {
            Ok(found) => {
                self.report.bad_pages = found.offsets();
                Severity::Warning
            }
            Err(_) => Severity::Damage,
        };
        for (offset, detail) in bad_pages::flawed_copies(medium, seed, pages) {
            self.find(severity, "list of bad pages", None, offset, detail.to_string());
        }
    }

    /// The volume of record `index`.
    fn volume(
        &mut self,
        medium: &Arc<Medium>,
        superblock: &Superblock,
        index: usize,
    ) -> Result<()> {
        let record = &superblock.volumes[index];
        let name = record.name().unwrap_or_default();
        let mut current = Current {
            name,
            number: self.volumes.len(),
            record: superblock.record_offset(index),
            len_bytes: record.len_bytes,
            digest: Digest::default(),
        };
        self.volumes.push(name.to_string());
        self.report.volumes += 1;
        let found = self.report.findings_count();
        if check_len(record.len_bytes).is_err() {
            let detail = format!("it has {} bytes", record.len_bytes);
            self.damage("volume record", &current, current.record, detail);
            // There is no end then that an extent could lie behind.
            current.len_bytes = u64::MAX;
        }
        let root = PageNo(record.root_page);
        let map = ExtentMap::reader(Arc::clone(medium), superblock.seed(), record.id, root);
        map.explore(&mut |met| self.meet(&mut current, met));
        let is_whole = self.report.findings_count() == found;
        let was_closed_so = current.digest.finish() == record.map_digest;
        if is_whole && self.report.was_clean && !was_closed_so {
            let detail = "it is not what it was when the pool was closed: a page of it is older";
            let (volume, detail) = (Some(name), detail.to_string());
            self.find(Severity::Damage, "extent map", volume, root.offset(), detail);
        }
        Ok(())
    }

    /// Takes in what `met` names, and says whether to look under it.
    fn meet(&mut self, current: &mut Current<'_>, met: Met) -> Step {
        let place = met.word.unwrap_or(current.record);
        let owned = match met.owned {
            Ok(owned) => owned,
            Err(Error::Corrupt { what, offset, detail }) => {
                self.damage(what, current, Offset(offset), detail);
                return Step::Past;
            }
            Err(error) => {
                self.damage("extent map word", current, place, error.to_string());
                return Step::Past;
            }
        };
        let volume = current.number;
        let (what, owner) = match owned {
            Owned::Table(_) => {
                let (level, logical) = (met.level - 1, met.logical);
                ("table", Owner::Table { volume, level, logical })
            }
            Owned::Extent(_) => ("extent", Owner::Extent { volume, logical: met.logical }),
        };
        if let Err((offset, detail)) = self.own(owned.run(), owner, place) {
            self.damage(what, current, offset, detail);
            return Step::Past;
        }
        self.report.owned_pages += owned.run().pages;
        match owned {
            Owned::Table(_) => self.report.tables += 1,
            Owned::Extent(extent) => {
                match extent.size {
                    ExtentSize::Huge => self.report.huge_extents += 1,
                    ExtentSize::Page => self.report.page_extents += 1,
                }
                let start = extent.logical.0 * PAGE;
                if start >= current.len_bytes {
                    let detail = format!("it stands for {start:#x}, behind the end of its volume");
                    self.damage(what, current, extent.physical.offset(), detail);
                }
            }
        }
        current.digest.take(owned);
        Step::Down
    }

    /// Gives `run` to `owner`, whom the word or record at `place` names.
    ///
    /// # Errors
    /// Why it cannot be, and where.
    fn own(&mut self, run: PageRun, owner: Owner, place: Offset) -> Result<(), (Offset, String)> {
        let pages = self.report.pages;
        if run.first.0.checked_add(run.pages).is_none_or(|end| end > pages) {
            let who = self.describe(owner);
            return Err((place, format!("{who} is page {}, outside the pool", run.first.0)));
        }
        if !run.first.0.is_multiple_of(run.pages) {
            let who = self.describe(owner);
            return Err((run.first.offset(), format!("{who} does not start at a huge page")));
        }
        self.owners.claim(run, owner).map_err(|Taken { page, by }| {
            let (who, other) = (self.describe(owner), self.describe(by));
            let cycle = if by.is_above(owner) { ", under which it stands: a cycle" } else { "" };
            (page.offset(), format!("{who} is owned twice, also by {other}{cycle}"))
        })
    }

    /// `owner` as findings call it. Names come from the medium, and are shown harmless.
    fn describe(&self, owner: Owner) -> String {
        let (volume, what) = match owner {
            Owner::Superblock => return "a superblock".to_string(),
            Owner::BadPages => return "a list of bad pages".to_string(),
            Owner::Table { volume, level, logical } => {
                (volume, format!("table of level {level} for {:#x}", logical.0 * PAGE))
            }
            Owner::Extent { volume, logical } => {
                (volume, format!("extent at {:#x}", logical.0 * PAGE))
            }
        };
        format!("volume {}, {what}", self.volumes[volume].escape_debug())
    }

    fn damage(&mut self, what: &'static str, of: &Current<'_>, offset: Offset, detail: String) {
        self.find(Severity::Damage, what, Some(of.name), offset, detail);
    }

    fn find(
        &mut self,
        severity: Severity,
        what: &'static str,
        volume: Option<&str>,
        offset: Offset,
        detail: String,
    ) {
        let volume = volume.map(str::to_string);
        self.report.add(Finding { severity, what, volume, offset, detail });
    }
}
