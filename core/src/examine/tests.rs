//! Words and records that verify and say what cannot be: each is found, and named.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::allocator::{Allocator, Goal};
use crate::extent_map::{ALL_SLOTS, Word};
use crate::layout::{STATE_OPEN, VolumeRecord};
use crate::persist::{fence, load_word, store_lines, store_word};
use crate::pool::Pool;
use crate::units::{HUGE, HugeNo, LogicalPage, SlotNo};

const POOL_BYTES: u64 = 8 * HUGE;

/// A pool with a volume `v` that has a huge page in slot 0, two pages in slot 1, and one page in
/// slot 600; in memory, and never closed. The map can still write words that verify.
struct Patient {
    medium: Arc<Medium>,
    allocator: Arc<Allocator>,
    superblock: Superblock,
    map: ExtentMap,
    /// Root, level 2, level 1 of slot 0, level 0 of slot 1, level 1 of slot 600, level 0.
    tables: Vec<PageNo>,
}

fn patient() -> Patient {
    let medium = Arc::new(Medium::anonymous(POOL_BYTES).unwrap());
    let allocator = Arc::new(Allocator::new(POOL_BYTES / PAGE));
    for offset in SUPERBLOCK_OFFSETS.into_iter().chain(BAD_PAGES_OFFSETS) {
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
    superblock.state = STATE_OPEN;
    superblock.volumes[0] = record(1, b'v', map.root());
    superblock::create(&medium, &mut superblock).unwrap();
    let mut tables = Vec::new();
    map.walk(ALL_SLOTS, &mut |owned| {
        if let Owned::Table(table) = owned {
            tables.push(table);
        }
        Ok(())
    })
    .unwrap();
    Patient { medium, allocator, superblock, map, tables }
}

/// A volume of one letter and 601 slots.
fn record(id: u32, name: u8, root: PageNo) -> VolumeRecord {
    let mut record: VolumeRecord = bytemuck::Zeroable::zeroed();
    (record.id, record.name_len, record.name[0]) = (id, 1, name);
    (record.root_page, record.len_bytes) = (root.0, 601 * HUGE);
    record
}

impl Patient {
    /// Puts a word that verifies where `place` (table, level, index) says.
    fn set(&self, place: (PageNo, u32, u64), word: Word) {
        let (table, level, index) = place;
        self.map.persist(table, level, index, word).unwrap();
    }

    /// Puts a superblock that verifies, in both places.
    fn say(&mut self, change: impl FnOnce(&mut Superblock)) {
        change(&mut self.superblock);
        superblock::write(&self.medium, &mut self.superblock).unwrap();
    }

    /// Adds the empty volume `name` as number `id`.
    fn add_volume(&mut self, id: u32, name: u8) -> ExtentMap {
        let (medium, allocator) = (Arc::clone(&self.medium), Arc::clone(&self.allocator));
        let map = ExtentMap::create(medium, allocator, self.superblock.seed(), id).unwrap();
        let root = map.root();
        self.say(|superblock| {
            superblock.next_volume_id = id + 1;
            superblock.volumes[id as usize] = record(id, name, root);
        });
        map
    }

    fn bytes(&self) -> Vec<u64> {
        (0..POOL_BYTES / 8).map(|word| load_word(&self.medium, Offset(word * 8)).unwrap()).collect()
    }

    fn copy(&self) -> Medium {
        let copy = Medium::anonymous(POOL_BYTES).unwrap();
        let stored = store_lines(&copy, Offset(0), bytemuck::cast_slice(&self.bytes())).unwrap();
        let [_] = fence(&copy, [stored]).unwrap();
        copy
    }

    /// What is found. Nothing is changed, and opening agrees.
    fn examine(&self) -> Examination {
        let before = self.bytes();
        let copy = self.copy();
        let started = Instant::now();
        let examination = examine_medium(copy).unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
        assert!(self.bytes() == before);
        let opened = Pool::load(self.copy());
        assert_eq!(opened.is_err(), examination.is_damaged(), "{:?}", examination.findings);
        examination
    }

    /// What is found in a pool that is damaged: structure, volume and detail.
    fn damage(&self) -> Vec<(&'static str, Option<String>, String)> {
        let examination = self.examine();
        assert!(examination.is_damaged());
        let findings = examination.findings.into_iter();
        findings.map(|finding| (finding.what, finding.volume, finding.detail)).collect()
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
    // What they take up, superblocks, and lists of bad pages.
    assert_eq!((examination.pages, examination.owned_pages), (8 * 512, 512 + 3 + 6 + 4));
}

#[test]
fn every_kind_of_damage_is_named() {
    type Change = fn(&mut Patient);
    let cases: [(&str, &str, Change); 15] = [
        ("extent map word", "its check does not match", |patient| {
            let offset = Offset(patient.tables[2].offset().0 + 8);
            let _lost = store_word(&patient.medium, offset, 12345).unwrap();
        }),
        ("table", "twice, also by volume v, table of level 3 for 0x0, under which", |patient| {
            patient.set((patient.tables[1], 2, 7), Word::Table(patient.tables[0]));
        }),
        ("table", "twice, also by volume v, table of level 1 for 0x0, under which", |patient| {
            patient.set((patient.tables[2], 1, 7), Word::Table(patient.tables[2]));
        }),
        ("table", "volume v, table of level 0 for 0x1200000 is owned twice", |patient| {
            // No cycle: two words for one table.
            patient.set((patient.tables[2], 1, 9), Word::Table(patient.tables[3]));
        }),
        ("table", "outside the pool", |patient| {
            patient.set((patient.tables[2], 1, 9), Word::Table(PageNo((1 << 40) - 1)));
        }),
        ("table", "is owned twice, also by volume v, extent at 0x5000", |patient| {
            patient.set((patient.tables[2], 1, 9), Word::Table(PageNo(3 * 512 + 5)));
        }),
        ("extent", "is owned twice, also by volume v, table of level 1 for 0x0", |patient| {
            patient.set((patient.tables[3], 0, 512 + 9), Word::Page(patient.tables[2]));
        }),
        ("extent", "is owned twice, also by a superblock", |patient| {
            patient.set((patient.tables[3], 0, 512 + 9), Word::Page(PageNo(512)));
        }),
        ("extent", "extent at 0xe00000 is owned twice, also by a superblock", |patient| {
            patient.set((patient.tables[2], 1, 7), Word::Huge(PageNo(512)));
        }),
        ("extent", "outside the pool", |patient| {
            patient.set((patient.tables[3], 0, 512 + 9), Word::Page(PageNo(8 * 512)));
        }),
        ("extent", "does not start at a huge page", |patient| {
            patient.set((patient.tables[2], 1, 5), Word::Huge(PageNo(4 * 512 + 1)));
        }),
        ("extent", "0x4b400000, behind the end of its volume", |patient| {
            patient.set((patient.tables[4], 1, 602), Word::Huge(PageNo(5 * 512)));
        }),
        ("extent map", "a page of it is older", |patient| {
            patient.say(|superblock| superblock.state = STATE_CLEAN);
        }),
        ("table", "table of level 3 for 0x0 is page 18446744073709551615, outside", |patient| {
            patient.say(|superblock| superblock.volumes[0].root_page = u64::MAX);
        }),
        ("volume record", "it has 0 bytes", |patient| {
            patient.say(|superblock| superblock.volumes[0].len_bytes = 0);
        }),
    ];
    for (what, detail, change) in cases {
        let mut patient = patient();
        change(&mut patient);
        let found = patient.damage();
        assert_eq!(found.len(), 1, "{what}, {detail}: found {found:?}");
        let (found_what, volume, found_detail) = &found[0];
        assert_eq!((*found_what, volume.as_deref()), (what, Some("v")), "{detail}");
        assert!(found_detail.contains(detail), "{detail}: found {found_detail}");
    }
}

#[test]
fn a_page_of_two_volumes_names_both() {
    let mut patient = patient();
    let other = patient.add_volume(2, b'w');
    let page = patient.allocator.reserve_run(1, 1, Goal::Any).unwrap();
    other.map_pages(LogicalPage(3), page).unwrap();
    let mut table = other.root();
    other
        .walk(ALL_SLOTS, &mut |owned| {
            if let Owned::Table(lower) = owned {
                table = lower;
            }
            Ok(())
        })
        .unwrap();
    other.persist(table, 0, 9, Word::Page(PageNo(3 * 512 + 2))).unwrap();
    let examination = patient.examine();
    assert_eq!(examination.volumes, 2);
    let [finding] = &examination.findings[..] else { panic!("{:?}", examination.findings) };
    assert_eq!((finding.what, finding.volume.as_deref()), ("extent", Some("w")));
    assert_eq!(finding.offset, PageNo(3 * 512 + 2).offset());
    let both = "volume w, extent at 0x9000 is owned twice, also by volume v, extent at 0x2000";
    assert_eq!(finding.detail, both);
}

#[test]
fn a_table_is_in_a_cycle_only_under_itself() {
    // The table for slots 0 to 511, as one of slot 601; and the root of a volume, in another one.
    let aside = patient();
    aside.set((aside.tables[4], 1, 601), Word::Table(aside.tables[2]));
    let mut of_another = patient();
    let other = of_another.add_volume(2, b'w');
    other.persist(other.root(), 3, 5, Word::Table(of_another.map.root())).unwrap();
    for patient in [aside, of_another] {
        let found = patient.damage();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].2.contains("is owned twice") && !found[0].2.contains("cycle"),
            "{found:?}"
        );
    }
}

#[test]
fn a_map_that_is_damaged_is_not_called_older_as_well() {
    let mut patient = patient();
    patient.say(|superblock| superblock.state = STATE_CLEAN);
    let _lost =
        store_word(&patient.medium, Offset(patient.tables[2].offset().0 + 8), 12345).unwrap();
    let found = patient.damage();
    assert_eq!((found.len(), found[0].0), (1, "extent map word"), "{found:?}");
}

#[test]
fn what_is_named_has_a_place_in_the_pool() {
    let mut patient = patient();
    patient.set((patient.tables[2], 1, 9), Word::Huge(PageNo(1 << 30)));
    patient.say(|superblock| superblock.volumes[7] = record(1, b'v', PageNo(u64::MAX)));
    let record = patient.superblock.record_offset(7);
    let mut places: Vec<Offset> =
        patient.examine().findings.iter().map(|finding| finding.offset).collect();
    // The id and the name that are given twice; the word; the record again, for its root.
    places.dedup();
    assert_eq!(places, [record, Offset(patient.tables[2].offset().0 + 9 * 8), record]);
}

#[test]
fn every_contradiction_of_the_superblock_is_named() {
    let mut patient = patient();
    let root = patient.map.root();
    patient.say(|superblock| {
        superblock.opens = u64::MAX;
        superblock.next_volume_id = 0;
        superblock.volumes[1] = record(1, b'w', root);
        superblock.volumes[2] = record(9, b'v', root);
        superblock.volumes[3] = VolumeRecord { name_len: 0, name: [0; 31], ..record(3, 0, root) };
    });
    let found = patient.damage();
    let has = |what: &str, volume: Option<&str>, detail: &str| {
        let is_it = |one: &&(&str, Option<String>, String)| {
            one.0 == what && one.1.as_deref() == volume && one.2.contains(detail)
        };
        assert_eq!(found.iter().filter(is_it).count(), 1, "{what}, {detail}: found {found:?}");
    };
    has("superblock", None, "impossibly often");
    has("superblock", None, "the next volume would have id 0");
    has("volume record", Some("w"), "another volume has its id, 1");
    has("volume record", Some("v"), "another volume has its name");
    has("volume record", Some("v"), "its id, 9, was not given to anyone yet");
    has("volume record", Some(""), "it has no name");
    // Their maps were looked at all the same.
    has("table", Some("w"), "also by volume v, table of level 3 for 0x0");
    has("table", Some(""), "also by volume v, table of level 3 for 0x0");
    // Where the pool ends is not known then, and nothing else is said.
    patient.say(|superblock| superblock.pool_bytes -= 1);
    assert_eq!(patient.damage().len(), found.len() - 3 + 1);
    assert_eq!(patient.examine().tables, 0);
}

#[test]
fn several_findings_are_all_listed() {
    let patient = patient();
    for index in [3, 4, 5] {
        let offset = Offset(patient.tables[0].offset().0 + index * 8);
        let _lost = store_word(&patient.medium, offset, 1).unwrap();
    }
    assert_eq!(patient.damage().len(), 3);
}

#[test]
fn a_lost_copy_of_the_superblock_is_a_warning_and_both_are_damage() {
    for copy in SUPERBLOCK_OFFSETS {
        let patient = patient();
        let _lost = store_word(&patient.medium, Offset(copy + 64), 99).unwrap();
        let examination = patient.examine();
        assert_eq!((examination.superblocks, examination.findings.len()), (1, 1));
        let finding = &examination.findings[0];
        assert_eq!((finding.severity, finding.offset), (Severity::Warning, Offset(copy)));
        assert_eq!(finding.detail, "its checksum does not match");
        assert_eq!(examination.tables, 6);
        for other in SUPERBLOCK_OFFSETS {
            let _lost = store_word(&patient.medium, Offset(other + 72), 99).unwrap();
        }
        assert_eq!(patient.examine().superblocks, 0);
        assert_eq!(patient.damage().len(), 2);
    }
}

#[test]
fn a_copy_of_the_superblock_that_verifies_and_is_not_the_other_one_is_a_warning() {
    type Replace = fn(&Patient) -> Vec<u64>;
    let [first, second] = SUPERBLOCK_OFFSETS;
    let cases: [(&str, u64, Replace); 4] = [
        ("it is version 2 beside version 5", first, |patient| {
            let old = self::patient();
            assert_eq!(old.superblock.sequence + 2, patient.superblock.sequence);
            old.bytes()
        }),
        ("it belongs to another pool", first, |patient| {
            let mut other = self::patient();
            other.say(|superblock| superblock.uuid = [8; 16]);
            assert_eq!(other.superblock.sequence, patient.superblock.sequence);
            other.bytes()
        }),
        ("it is what belongs in the place of the other copy", first, |patient| {
            patient.bytes().split_off(SUPERBLOCK_OFFSETS[1] as usize / 8)
        }),
        ("it is what belongs in the place of the other copy", second, Patient::bytes),
    ];
    for (detail, copy, replace) in cases {
        let mut patient = patient();
        patient.say(|_| {});
        assert_eq!(patient.examine().superblocks, 2);
        let words = replace(&patient)[..512].to_vec();
        let _lost =
            store_lines(&patient.medium, Offset(copy), bytemuck::cast_slice(&words)).unwrap();
        let examination = patient.examine();
        let findings = examination.findings.iter();
        let found: Vec<_> = findings.map(|one| (&*one.detail, one.offset)).collect();
        assert_eq!((found, examination.superblocks), (vec![(detail, Offset(copy))], 1));
    }
}

/// What tests of noise draw from: a generator by Marsaglia, "Xorshift RNGs" (2003).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn noise_behind_superblocks_that_verify_is_damage() {
    let patient = patient();
    let mut noise = Noise(1);
    for page in (0..POOL_BYTES / PAGE).filter(|page| page % 512 != 0 || *page > 512) {
        let words: Vec<u64> = (0..512).map(|_| noise.next()).collect();
        let _lost = store_lines(&patient.medium, Offset(page * PAGE), bytemuck::cast_slice(&words))
            .unwrap();
    }
    // No word of the root verifies, but by chance.
    let found = patient.damage();
    assert!(found.len() > 500, "{} findings", found.len());
}

#[test]
fn words_that_verify_and_name_anything_are_examined_in_bounded_time() {
    for seed in 1..3 {
        let patient = patient();
        let mut noise = Noise(seed);
        // Each page of the pool becomes a table, as the first word that names it says.
        let mut is_table = [true; (POOL_BYTES / PAGE) as usize];
        (1..512).chain(513..4096).for_each(|page| is_table[page] = false);
        is_table[patient.map.root().0 as usize] = true;
        let mut open = vec![(patient.map.root(), 3, 0)];
        while let Some((table, level, first_index)) = open.pop() {
            for index in first_index..first_index + 512 {
                let page = PageNo(noise.next() % (POOL_BYTES / PAGE + 8));
                let word = match (level, noise.next() % 4) {
                    (_, 0) => Word::Hole,
                    (0, _) => Word::Page(page),
                    (1, 1) => Word::Huge(PageNo(page.0 / 512 * 512)),
                    _ => Word::Table(page),
                };
                patient.set((table, level, index), word);
                if let Word::Table(PageNo(page)) = word
                    && is_table.get(page as usize) == Some(&false)
                {
                    is_table[page as usize] = true;
                    open.push((PageNo(page), level - 1, index * 512));
                }
            }
        }
        let examination = patient.examine();
        assert!(examination.tables > 1000, "{} tables", examination.tables);
        assert_eq!(examination.findings.len(), report::LISTED_MAX);
        assert!(examination.unlisted > 0 && examination.owned_pages <= examination.pages);
    }
}
