//! Looking for damage without stopping at the first: what `daxite check` is made of.
//!
//! 1. Not a byte is changed.
//! 2. Each page is visited once, as the first owner has it; whoever else names it is a finding. So time
//!    and memory are bounded by the length of the pool, whatever its bytes say.
//! 3. A pool without findings of [`Severity::Damage`] opens, and one with them does not.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::extent_map::{Digest, Extent, ExtentMap, LEVEL_BITS, Owned, ROOT_LEVEL, WORDS, Word};
use crate::layout::{STATE_CLEAN, SUPERBLOCK_OFFSETS, Superblock, VolumeRecord};
use crate::medium::{Medium, Mode, Target};
use crate::resize::check_len;
use crate::superblock;
use crate::units::{ExtentSize, LogicalPage, Offset, PAGE, PageNo, PageRun};

/// Findings that are listed; more are only counted.
const LISTED_MAX: usize = 10_000;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The pool opens all the same, and nothing is lost.
    Warning,
    /// The pool does not open.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Warning => "warning",
            Self::Damage => "damage",
        })
    }
}

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which structure, for example `extent map word`.
    pub what: &'static str,
    /// The volume that it belongs to, if to one.
    pub volume: Option<String>,
    /// Where, in bytes from the start of the pool.
    pub offset: Offset,
    /// What contradicts what.
    pub detail: String,
}

/// What [`crate::Pool::examine`] looked at, and what it found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Examination {
    /// Copies of the superblock that are good, of two.
    pub superblocks: u64,
    /// Volumes.
    pub volumes: u64,
    /// Tables of extent maps that could be read.
    pub tables: u64,
    /// 2 MiB extents.
    pub huge_extents: u64,
    /// 4 KiB extents.
    pub page_extents: u64,
    /// Whether the pool was closed in good order.
    pub was_clean: bool,
    /// What was found, in the order of volumes and offsets; the first 10,000.
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those that are listed.
    pub unlisted: u64,
}

impl Examination {
    /// Whether any finding is damage.
    pub fn is_damaged(&self) -> bool {
        self.unlisted > 0 || self.findings.iter().any(|one| one.severity == Severity::Damage)
    }

    fn add(&mut self, finding: Finding) {
        match self.findings.len() < LISTED_MAX {
            true => self.findings.push(finding),
            false => self.unlisted += 1,
        }
    }
}

/// Examines the pool at `path`.
pub(crate) fn examine(path: &Path) -> Result<Examination> {
    let target = Target::open(path, Mode::ReadOnly)?;
    target.require_superblock()?;
    let len_bytes = target.len_bytes / PAGE * PAGE;
    examine_medium(Medium::map(target, len_bytes, Mode::ReadOnly)?)
}

/// Examines the pool on `medium`.
///
/// # Errors
/// As reading the superblock: without one there is nothing to examine.
pub(crate) fn examine_medium(medium: Medium) -> Result<Examination> {
    let superblock = superblock::read(&medium)?;
    let mut examiner = Examiner {
        pool_pages: superblock.pool_bytes / PAGE,
        medium: medium.into(),
        owners: BTreeMap::new(),
        report: Examination {
            was_clean: superblock.state == STATE_CLEAN,
            ..Examination::default()
        },
        volume: None,
    };
    examiner.superblocks();
    for record in superblock.volumes.iter().filter(|record| record.is_used()) {
        examiner.volume(&superblock, record);
    }
    Ok(examiner.report)
}

/// Who has a run of pages.
#[derive(Clone)]
struct Owner {
    pages: u64,
    who: String,
}

struct Examiner {
    medium: std::sync::Arc<Medium>,
    pool_pages: u64,
    /// By first page.
    owners: BTreeMap<u64, Owner>,
    report: Examination,
    /// Whose map is being walked.
    volume: Option<String>,
}

impl Examiner {
    fn superblocks(&mut self) {
        let damaged = superblock::damaged_copies(&self.medium);
        self.report.superblocks = 2 - damaged.len() as u64;
        for (offset, detail) in damaged {
            self.find(Severity::Warning, "superblock", offset, detail);
        }
        for offset in SUPERBLOCK_OFFSETS {
            let run = PageRun { first: PageNo(offset / PAGE), pages: 1 };
            self.claim(run, "a superblock".to_string());
        }
    }

    fn volume(&mut self, superblock: &Superblock, record: &VolumeRecord) {
        let name = record.name().unwrap_or_default().to_string();
        self.volume = Some(name.clone());
        self.report.volumes += 1;
        let root = PageNo(record.root_page);
        if check_len(record.len_bytes).is_err() {
            let detail = format!("it has {} bytes", record.len_bytes);
            return self.find(Severity::Damage, "volume record", Offset(0), detail);
        }
        let medium = std::sync::Arc::clone(&self.medium);
        let map = ExtentMap::reader(medium, superblock.seed(), record.id, root);
        let mut digest = Digest::default();
        let found = self.report.findings.len();
        self.table(&map, root, ROOT_LEVEL, 0, record.len_bytes, &mut digest);
        let was_whole = self.report.findings.len() == found;
        if was_whole && superblock.state == STATE_CLEAN && digest.finish() != record.map_digest {
            let detail = "it is not what it was when the pool was closed: a page of it is older";
            self.find(Severity::Damage, "extent map", root.offset(), detail.to_string());
        }
    }

    /// Walks `table` and what is under it, if nobody had it before.
    fn table(
        &mut self,
        map: &ExtentMap,
        table: PageNo,
        level: u32,
        first_index: u64,
        len_bytes: u64,
        digest: &mut Digest,
    ) {
        let start = (first_index << (LEVEL_BITS * level)) * PAGE;
        let who = format!("table of level {level} for {start:#x}");
        if !self.own(Owned::Table(table), who) {
            return;
        }
        self.report.tables += 1;
        digest.take(Owned::Table(table));
        for index in first_index..first_index + WORDS {
            let (physical, size) = match map.load(table, level, index) {
                Ok(Word::Hole) => continue,
                Ok(Word::Table(child)) => {
                    self.table(map, child, level - 1, index * WORDS, len_bytes, digest);
                    continue;
                }
                Ok(Word::Page(physical)) => (physical, ExtentSize::Page),
                Ok(Word::Huge(physical)) => (physical, ExtentSize::Huge),
                Err(Error::Corrupt { what, offset, detail }) => {
                    self.find(Severity::Damage, what, Offset(offset), detail);
                    continue;
                }
                Err(error) => {
                    let detail = error.to_string();
                    self.find(Severity::Damage, "table", table.offset(), detail);
                    continue;
                }
            };
            let logical = LogicalPage(index << (LEVEL_BITS * level));
            self.extent(Extent { logical, physical, size }, len_bytes);
            digest.take(Owned::Extent(Extent { logical, physical, size }));
        }
    }

    fn extent(&mut self, extent: Extent, len_bytes: u64) {
        let start = extent.logical.0 * PAGE;
        if !self.own(Owned::Extent(extent), format!("extent at {start:#x}")) {
            return;
        }
        match extent.size {
            ExtentSize::Huge => self.report.huge_extents += 1,
            ExtentSize::Page => self.report.page_extents += 1,
        }
        if start >= len_bytes {
            let detail = format!("it stands for {start:#x}, behind the end of its volume");
            self.find(Severity::Damage, "extent", extent.physical.offset(), detail);
        }
    }

    /// Gives `owned` to `who` of the current volume; says false, with a finding, if it cannot be.
    fn own(&mut self, owned: Owned, who: String) -> bool {
        let run = owned.run();
        let what = match owned {
            Owned::Table(_) => "table",
            Owned::Extent(_) => "extent",
        };
        let end = run.first.0.checked_add(run.pages);
        if end.is_none_or(|end| end > self.pool_pages) {
            let detail = format!("{who} is page {}, outside the pool", run.first.0);
            self.find(Severity::Damage, what, Offset(0), detail);
            return false;
        }
        if !run.first.0.is_multiple_of(run.pages) {
            let detail = format!("{who} does not start at a huge page");
            self.find(Severity::Damage, what, run.first.offset(), detail);
            return false;
        }
        let volume = self.volume.clone().unwrap_or_default();
        match self.claim(run, format!("volume {volume}, {who}")) {
            None => true,
            Some(other) => {
                let detail = format!("{who} is owned twice, also by {other}");
                self.find(Severity::Damage, what, run.first.offset(), detail);
                false
            }
        }
    }

    /// Notes who has `run`; says who had a page of it before, and then changes nothing.
    fn claim(&mut self, run: PageRun, who: String) -> Option<String> {
        let end = run.first.0 + run.pages;
        let before = self.owners.range(..end).next_back();
        let other = before.filter(|(first, owner)| **first + owner.pages > run.first.0);
        if let Some((_, owner)) = other {
            return Some(owner.who.clone());
        }
        self.owners.insert(run.first.0, Owner { pages: run.pages, who });
        None
    }

    fn find(&mut self, severity: Severity, what: &'static str, offset: Offset, detail: String) {
        let volume = self.volume.clone();
        self.report.add(Finding { severity, what, volume, offset, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::{Allocator, Goal};
    use crate::extent_map::ALL_SLOTS;
    use crate::persist::{fence, load_word, store_lines, store_word};
    use crate::units::{HUGE, HugeNo, SlotNo};
    use std::sync::Arc;

    const POOL_BYTES: u64 = 8 * HUGE;

    /// A pool with a volume `v` that has a huge page in slot 0, two pages in slot 1, and one page in
    /// slot 600; in memory, and never closed. The map can still write words that verify.
    struct Patient {
        medium: Arc<Medium>,
        map: ExtentMap,
        tables: Vec<PageNo>,
    }

    fn patient() -> Patient {
        let medium = Arc::new(Medium::anonymous(POOL_BYTES).unwrap());
        let allocator = Arc::new(Allocator::new(POOL_BYTES / PAGE));
        for offset in SUPERBLOCK_OFFSETS {
            assert!(allocator.claim(PageRun { first: PageNo(offset / PAGE), pages: 1 }));
        }
        let mut superblock = Superblock::new([7; 16], POOL_BYTES, 0);
        let (of_map, of_pages) = (Arc::clone(&medium), Arc::clone(&allocator));
        let map = ExtentMap::create(of_map, of_pages, superblock.seed(), 1).unwrap();
        let huge = allocator.reserve_huge(HugeNo(3)).unwrap();
        map.map_huge(SlotNo(0), huge).unwrap();
        let pages = allocator.reserve_run(2, 2, Goal::Any).unwrap();
        map.map_pages(LogicalPage(512), pages).unwrap();
        let page = allocator.reserve_run(1, 1, Goal::Any).unwrap();
        map.map_pages(LogicalPage(600 * 512), page).unwrap();
        superblock.next_volume_id = 2;
        superblock.state = crate::layout::STATE_OPEN;
        superblock.volumes[0].id = 1;
        superblock.volumes[0].name_len = 1;
        superblock.volumes[0].name[0] = b'v';
        superblock.volumes[0].root_page = map.root().0;
        superblock.volumes[0].len_bytes = 601 * HUGE;
        superblock::create(&medium, &mut superblock).unwrap();
        let mut tables = Vec::new();
        map.walk(ALL_SLOTS, &mut |owned| {
            if let Owned::Table(table) = owned {
                tables.push(table);
            }
            Ok(())
        })
        .unwrap();
        Patient { medium, map, tables }
    }

    impl Patient {
        /// Puts a word that verifies where `place` (table, level, index) says.
        fn set(&self, place: (PageNo, u32, u64), word: Word) {
            let (table, level, index) = place;
            self.map.persist(table, level, index, word).unwrap();
        }

        fn examine(&self) -> Examination {
            let copy = Medium::anonymous(POOL_BYTES).unwrap();
            let bytes: Vec<u64> =
                (0..POOL_BYTES / 8).map(|word| load_word(&self.medium, Offset(word * 8))).collect();
            let stored = store_lines(&copy, Offset(0), bytemuck::cast_slice(&bytes));
            let [_] = fence(&copy, [stored]).unwrap();
            examine_medium(copy).unwrap()
        }

        /// What is found, and that opening stumbles over it too.
        fn damage(&self) -> Vec<(&'static str, String)> {
            let examination = self.examine();
            assert!(examination.is_damaged());
            let findings = examination.findings.iter();
            assert!(findings.clone().all(|finding| finding.volume.as_deref() == Some("v")));
            findings.map(|finding| (finding.what, finding.detail.clone())).collect()
        }
    }

    #[test]
    fn a_sound_pool_has_no_findings_and_is_counted() {
        let examination = patient().examine();
        assert_eq!(examination.findings, []);
        assert_eq!((examination.superblocks, examination.volumes), (2, 1));
        // Root, one of level 2, two of level 1, two of level 0.
        assert_eq!(examination.tables, 6);
        assert_eq!((examination.huge_extents, examination.page_extents), (1, 3));
    }

    #[test]
    fn every_kind_of_damage_is_named() {
        // Tables: root, level 2, level 1 of slot 0, level 0 of slot 1, level 1 of slot 600, level 0.
        type Change = fn(&Patient);
        let cases: [(&str, &str, Change); 9] = [
            ("extent map word", "its check does not match", |patient| {
                let offset = Offset(patient.tables[2].offset().0 + 8);
                let _lost = store_word(&patient.medium, offset, 12345);
            }),
            ("table", "is owned twice, also by volume v, table of level 3", |patient| {
                // A cycle: the root is under itself.
                patient.set((patient.tables[1], 2, 7), Word::Table(patient.tables[0]));
            }),
            ("table", "outside the pool", |patient| {
                patient.set((patient.tables[2], 1, 9), Word::Table(PageNo(1 << 30)));
            }),
            ("table", "is owned twice, also by volume v, extent at 0x0", |patient| {
                patient.set((patient.tables[2], 1, 9), Word::Table(PageNo(3 * 512 + 5)));
            }),
            ("extent", "is owned twice, also by volume v, table of level 1", |patient| {
                patient.set((patient.tables[3], 0, 512 + 9), Word::Page(patient.tables[2]));
            }),
            ("extent", "is owned twice, also by a superblock", |patient| {
                patient.set((patient.tables[3], 0, 512 + 9), Word::Page(PageNo(512)));
            }),
            ("extent", "outside the pool", |patient| {
                patient.set((patient.tables[3], 0, 512 + 9), Word::Page(PageNo(8 * 512)));
            }),
            ("extent", "does not start at a huge page", |patient| {
                patient.set((patient.tables[2], 1, 5), Word::Huge(PageNo(4 * 512 + 1)));
            }),
            ("extent", "behind the end of its volume", |patient| {
                patient.set((patient.tables[4], 1, 602), Word::Huge(PageNo(5 * 512)));
            }),
        ];
        for (what, detail, change) in cases {
            let patient = patient();
            change(&patient);
            let found = patient.damage();
            assert!(
                found.iter().any(|(found_what, found_detail)| {
                    *found_what == what && found_detail.contains(detail)
                }),
                "{what}, {detail}: found {found:?}"
            );
        }
    }

    #[test]
    fn several_findings_are_all_listed_and_a_lost_copy_is_a_warning() {
        let patient = patient();
        for index in [3, 4, 5] {
            let offset = Offset(patient.tables[0].offset().0 + index * 8);
            let _lost = store_word(&patient.medium, offset, 1);
        }
        assert_eq!(patient.damage().len(), 3);
        let patient = self::patient();
        let _lost = store_word(&patient.medium, Offset(64), 99);
        let examination = patient.examine();
        assert_eq!(examination.superblocks, 1);
        assert_eq!(examination.findings.len(), 1);
        assert_eq!(examination.findings[0].severity, Severity::Warning);
        assert!(!examination.is_damaged());
    }
}
