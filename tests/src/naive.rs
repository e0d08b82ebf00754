//! A second reader of pools, written from `docs/FORMAT.md` in the plainest way: it shares no code with
//! the library, so that a mistake in how the library recovers is not made here too.
//!
//! 1. All of the image is read, whatever the state of the pool: no index, no digest, no shortcut.
//! 2. Bytes that do not verify are an error, but for the torn end of a segment without a seal.

use std::collections::BTreeMap;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use daxite_core::Pool;

use crate::Contents;

const PAGE: usize = 4096;
const LINE: usize = 64;
const MAGIC: &[u8] = b"DAXITE\r\n";
const BAD_PAGES_MAGIC: &[u8] = b"DAXbadPG";

/// What a page is used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// One of the superblocks.
    Superblock,
    /// One of the lists of bad pages.
    BadPages,
    /// A table of the extent map of the volume with this id.
    Table(u32),
    /// Bytes of the volume with this id.
    Bytes(u32),
}

/// What a pool says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Who has which page.
    pub owners: BTreeMap<u64, Owner>,
    /// Pages that are listed as bad.
    pub bad_pages: Vec<u64>,
    /// Ids of volumes by name.
    pub volumes: BTreeMap<String, u32>,
    /// What the database holds, if there is one.
    pub contents: Contents,
    /// Segments with a header.
    pub segments: u64,
}

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// In bytes from the start of the pool.
    pub offset: usize,
    /// What it is.
    pub what: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.what, self.offset)
    }
}

type Result<T> = std::result::Result<T, Wrong>;

fn wrong<T>(offset: usize, what: &'static str) -> Result<T> {
    Err(Wrong { offset, what })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// What stands on pages, without a look at the others.
pub trait Pages {
    /// How many there are.
    fn count(&self) -> u64;
    /// The bytes of one of them.
    fn page(&self, number: u64) -> [u8; PAGE];
}

impl Pages for [u8] {
    fn count(&self) -> u64 {
        (self.len() / PAGE) as u64
    }

    fn page(&self, number: u64) -> [u8; PAGE] {
        self[number as usize * PAGE..][..PAGE].try_into().expect("a page")
    }
}

impl Pages for Pool {
    fn count(&self) -> u64 {
        self.info().len_bytes / PAGE as u64
    }

    fn page(&self, number: u64) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        self.peek(number * PAGE as u64, &mut page);
        page
    }
}

/// Reads the pool in `image`.
///
/// # Errors
/// The first thing that is wrong.
pub fn read<P: Pages + ?Sized>(image: &P) -> Result<Reading> {
    let superblock = newest_superblock(image)?;
    let own = [0, 512].map(|page| (page, Owner::Superblock));
    let lists = [1, 513].map(|page| (page, Owner::BadPages));
    let pool_seed = xxh3_64_with_seed(&superblock[24..40], 0);
    let bad_pages = newest_bad_pages(image, pool_seed)?;
    let mut reader = Reader { image, pool_seed, owners: own.into_iter().chain(lists).collect() };
    let mut volumes = BTreeMap::new();
    let mut log = BTreeMap::new();
    for record in superblock[256..].chunks_exact(64).filter(|record| u32_at(record, 0) != 0) {
        let (id, name) = (u32_at(record, 0), &record[5..5 + usize::from(record[4])]);
        let name = String::from_utf8(name.to_vec()).or(wrong(0, "a volume without a name"))?;
        let mut extents = BTreeMap::new();
        reader.walk(id, u64_at(record, 48), 3, 0, &mut extents)?;
        if name == "log" {
            log = extents;
        }
        volumes.insert(name, id);
    }
    let mut records = Records::default();
    let mut segments = 0;
    let mut slots: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (logical, physical) in log {
        slots.entry(logical / 512).or_default().push(physical);
    }
    for (slot, pages) in slots {
        segments += u64::from(reader.segment(slot as u32, &pages, &mut records)?);
    }
    Ok(Reading {
        owners: reader.owners,
        bad_pages,
        volumes,
        contents: records.contents(),
        segments,
    })
}

fn newest_superblock<P: Pages + ?Sized>(image: &P) -> Result<[u8; PAGE]> {
    let copies = [0, 512].map(|number| image.page(number));
    let valid = copies.into_iter().filter(|copy| {
        let mut unsigned = *copy;
        unsigned[8..16].fill(0);
        copy.starts_with(MAGIC) && u64_at(copy, 8) == xxh3_64_with_seed(&unsigned, 0)
    });
    let newest = valid.max_by_key(|copy| u64_at(copy, 64));
    newest.map_or(wrong(0, "no superblock verifies"), Ok)
}

fn newest_bad_pages<P: Pages + ?Sized>(image: &P, pool_seed: u64) -> Result<Vec<u64>> {
    let copies = [1, 513].map(|number| image.page(number));
    let valid = copies.into_iter().filter(|copy| {
        let mut unsigned = *copy;
        unsigned[8..16].fill(0);
        copy.starts_with(BAD_PAGES_MAGIC)
            && u64_at(copy, 8) == xxh3_64_with_seed(&unsigned, pool_seed)
    });
    let Some(newest) = valid.max_by_key(|copy| u64_at(copy, 16)) else {
        return wrong(PAGE, "no list of bad pages verifies");
    };
    let pages = newest[64..].chunks_exact(8).take(u64_at(&newest, 24) as usize);
    let pages: Vec<u64> = pages.map(|page| u64_at(page, 0)).collect();
    match pages.iter().all(|&page| page < image.count()) && pages.is_sorted() {
        true => Ok(pages),
        false => wrong(PAGE, "a list of bad pages that no pool has"),
    }
}

struct Reader<'i, P: ?Sized> {
    image: &'i P,
    /// Ties everything that has a check to the pool.
    pool_seed: u64,
    owners: BTreeMap<u64, Owner>,
}

impl<P: Pages + ?Sized> Reader<'_, P> {
    fn own(&mut self, page: u64, owner: Owner) -> Result<()> {
        let offset = page as usize * PAGE;
        if page >= self.image.count() {
            return wrong(offset, "a page outside the pool");
        }
        match self.owners.insert(page, owner) {
            None => Ok(()),
            Some(_) => wrong(offset, "a page with two owners"),
        }
    }

    /// Follows the table on `page`, whose first word has number `first` of its level.
    fn walk(
        &mut self,
        volume: u32,
        page: u64,
        level: u64,
        first: u64,
        extents: &mut BTreeMap<u64, u64>,
    ) -> Result<()> {
        self.own(page, Owner::Table(volume))?;
        let seed = xxh3_64_with_seed(&volume.to_le_bytes(), self.pool_seed);
        let words = self.image.page(page);
        for nth in 0..512 {
            let word = u64_at(&words, nth as usize * 8);
            let (index, payload) = (first + nth, word & 0xffff_ffff_ffff);
            let checked = [(level | index << 8).to_le_bytes(), payload.to_le_bytes()].concat();
            if word >> 48 != xxh3_64_with_seed(&checked, seed) >> 48 {
                return wrong(page as usize * PAGE + nth as usize * 8, "a word does not verify");
            }
            let (kind, target) = (payload & 0xff, payload >> 8);
            match (kind, level) {
                (1, _) => {}
                (2, 0) => {
                    self.own(target, Owner::Bytes(volume))?;
                    extents.insert(index, target);
                }
                (3, 1) => {
                    for page in 0..512 {
                        self.own(target + page, Owner::Bytes(volume))?;
                        extents.insert(index * 512 + page, target + page);
                    }
                }
                (4, 1..=3) => self.walk(volume, target, level - 1, index * 512, extents)?,
                _ => return wrong(page as usize * PAGE + nth as usize * 8, "a word of no kind"),
            }
        }
        Ok(())
    }

    /// Reads what the slot `no` holds. False if nothing was ever written there.
    fn segment(&self, no: u32, pages: &[u64], records: &mut Records) -> Result<bool> {
        let bytes: Vec<u8> = pages.iter().flat_map(|&page| self.image.page(page)).collect();
        let offset = |at: usize| pages[at / PAGE] as usize * PAGE + at % PAGE;
        let seed = xxh3_64_with_seed(&no.to_le_bytes(), self.pool_seed);
        let at = |seed: u64, at: usize| seed ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let verifies = |start: usize, magic: &[u8]| {
            let line = &bytes[start..start + LINE];
            line.starts_with(magic)
                && u64_at(line, 8) == xxh3_64_with_seed(&line[16..], at(seed, start))
        };
        let (copy, seal) = (bytes.len() - 2 * LINE, bytes.len() - LINE);
        let Some(header) = [0, copy].into_iter().find(|&start| verifies(start, b"DAXlogSG")) else {
            return Ok(false);
        };
        let birth = u64_at(&bytes, header + 16);
        let frames = xxh3_64_with_seed(&birth.to_le_bytes(), seed);
        let sealed = verifies(seal, b"DAXlogSL") && u64_at(&bytes, seal + 16) == birth;
        let end = if sealed { u64_at(&bytes, seal + 24) as usize } else { copy };
        let mut start = LINE;
        while start + 24 <= end {
            let len = u32_at(&bytes, start + 16) as usize;
            let lines = len.next_multiple_of(LINE);
            let is_whole = len >= 24
                && start + lines <= end
                && u64_at(&bytes, start)
                    == xxh3_64_with_seed(&bytes[start + 8..start + lines], at(frames, start));
            match is_whole {
                true => records.take_frame(&bytes[start..start + len]),
                false if sealed => return wrong(offset(start), "a frame of a sealed segment"),
                false => break,
            }
            start += lines;
        }
        Ok(true)
    }
}

/// A sequence number, and the value unless it is a tombstone.
type Newest = (u64, Option<Vec<u8>>);

/// The newest record of each keyspace and key.
#[derive(Default)]
struct Records(BTreeMap<(u32, Vec<u8>), Newest>);

impl Records {
    fn take_frame(&mut self, frame: &[u8]) {
        let mut at = 24;
        for _ in 0..u16_at(frame, 20) {
            let (value_len, key_len) =
                (u32_at(frame, at + 4) as usize, u16_at(frame, at + 8) as usize);
            let (kind, is_moved) = (frame[at + 10], frame[at + 11] == 1);
            let own = if is_moved { 8 } else { 0 };
            let seqno = u64_at(frame, if is_moved { at + 12 } else { 8 });
            let key_at = at + 12 + own;
            let (key, rest) = frame[key_at..].split_at(key_len);
            let value = (kind == 1).then(|| rest[..value_len].to_vec());
            let newest = self.0.entry((u32_at(frame, at), key.to_vec())).or_default();
            if seqno >= newest.0 {
                *newest = (seqno, value);
            }
            at += (12 + own + key_len + value_len).next_multiple_of(8);
        }
    }

    fn contents(&self) -> Contents {
        let names: BTreeMap<u32, String> = (self.0.iter())
            .filter(|((keyspace, _), _)| *keyspace == 0)
            .filter_map(|((_, name), (_, number))| {
                let name = String::from_utf8_lossy(name).into_owned();
                Some((u32_at(number.as_deref()?, 0), name))
            })
            .collect();
        let pairs = self.0.iter().filter_map(|((keyspace, key), (_, value))| {
            let name = names.get(keyspace)?;
            Some(((name.clone(), key.clone()), value.clone()?))
        });
        pairs.collect()
    }
}

/// Compares what `image` says with what the recovered database on it has: contents, and pages.
///
/// # Errors
/// What differs.
pub fn compare<P: Pages + ?Sized>(
    image: &P,
    database: &daxite::Database,
) -> std::result::Result<(), String> {
    let reading = read(image).map_err(|wrong| wrong.to_string())?;
    let found = crate::contents(database).map_err(|error| error.to_string())?;
    if reading.contents != found {
        return Err(format!(
            "the database has {} pairs, its image {}, not all the same",
            found.len(),
            reading.contents.len()
        ));
    }
    let listed = database.pool().bad_pages().listed;
    if !listed.iter().map(|page| page.0 / PAGE as u64).eq(reading.bad_pages.iter().copied()) {
        return Err(format!("{listed:?} are bad, its image lists {:?}", reading.bad_pages));
    }
    let space = database.pool().space();
    let unowned = reading.bad_pages.iter().filter(|page| !reading.owners.contains_key(page));
    if unowned.count() as u64 != space.bad_pages {
        return Err(format!("{} pages are kept from everyone, not those listed", space.bad_pages));
    }
    if reading.owners.len() as u64 != space.mapped_pages {
        let (owned, mapped) = (reading.owners.len(), space.mapped_pages);
        return Err(format!("{owned} pages have an owner, {mapped} are not free"));
    }
    for stats in database.pool().volumes().map_err(|error| error.to_string())? {
        let of = |owner| reading.owners.values().filter(|&&has| has == owner).count() as u64;
        let (tables, bytes) = (of(Owner::Table(stats.id)), of(Owner::Bytes(stats.id)));
        if (tables, bytes) != (stats.table_pages, stats.huge_extents * 512 + stats.page_extents) {
            return Err(format!("volume {} has {tables} tables and {bytes} pages", stats.name));
        }
    }
    Ok(())
}
