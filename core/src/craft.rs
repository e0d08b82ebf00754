//! Structures that verify, whatever they say: for tests that must get past checks.
//!
//! Feature `sim`. Anyone can compute a checksum, so what stands under one is input all the same.
//! This says where the structures of a pool stand, and signs them again after a change.
//!
//! Knows nothing of what a change should be.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::extent_map::{ExtentMap, LEVEL_BITS, Owned, Step};
use crate::layout::{BadPagesCopy, Superblock, VolumeRecord};
use crate::medium::Medium;
use crate::persist::load_image;
use crate::superblock;
use crate::units::{Offset, PageNo};

/// A field of a structure on the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name in `layout.rs`.
    pub name: &'static str,
    /// Where it starts, in bytes from the start of the structure.
    pub start: usize,
    /// Its length in bytes.
    pub len_bytes: usize,
}

impl Field {
    /// The fields that start as `starts` says, in a structure of `len_bytes`.
    pub fn list(starts: &[(&'static str, usize)], len_bytes: usize) -> Vec<Self> {
        let ends = starts[1..].iter().map(|(_, start)| *start).chain([len_bytes]);
        let fields = starts.iter().zip(ends);
        fields.map(|(&(name, start), end)| Self { name, start, len_bytes: end - start }).collect()
    }
}

/// The fields of a superblock.
pub fn superblock_fields() -> Vec<Field> {
    Field::list(Superblock::FIELDS, size_of::<Superblock>())
}

/// The fields of a record of the volume table.
pub fn volume_fields() -> Vec<Field> {
    Field::list(VolumeRecord::FIELDS, size_of::<VolumeRecord>())
}

/// The fields of a copy of the list of bad pages.
pub fn bad_pages_fields() -> Vec<Field> {
    Field::list(BadPagesCopy::FIELDS, size_of::<BadPagesCopy>())
}

/// Gives the list of bad pages in `page` the checksum of what it says, in the pool with this UUID.
pub fn sign_bad_pages(page: &mut [u8], uuid: &[u8; 16]) {
    let signed = bytemuck::pod_read_unaligned::<BadPagesCopy>(page).sealed(xxh3_64(uuid));
    page.copy_from_slice(bytemuck::bytes_of(&signed));
}

/// Gives the superblock in `page` the checksum of what it says.
pub fn sign_superblock(page: &mut [u8]) {
    let signed = bytemuck::pod_read_unaligned::<Superblock>(page).sealed();
    page.copy_from_slice(bytemuck::bytes_of(&signed));
}

/// One table of an extent map.
#[derive(Clone)]
pub struct Table {
    /// Where it is.
    pub start: Offset,
    /// Level of its words.
    pub level: u32,
    /// Number of its first word among all of the level.
    first_index: u64,
    map: Arc<ExtentMap>,
}

impl Table {
    /// Word number `nth` of the table with `payload` (bits 0 to 47), and the check that belongs to both.
    pub fn signed(&self, nth: u64, payload: u64) -> u64 {
        payload | self.map.check(self.level, self.first_index + nth, payload) << 48
    }
}

/// The tables of all extent maps in `image`, each before those under it; of a table that several words
/// name, the first. Where a word does not verify, there is none under it.
///
/// # Errors
/// As [`crate::Pool::open`], without a superblock to start from.
pub fn tables(image: &[u8]) -> Result<Vec<Table>> {
    let medium = Arc::new(Medium::anonymous(image.len() as u64)?);
    load_image(&medium, image);
    let superblock = superblock::newest(&medium)?;
    let mut tables: Vec<Table> = Vec::new();
    for record in superblock.volumes.iter().filter(|record| record.is_used()) {
        let (root, seed) = (PageNo(record.root_page), superblock.seed());
        let map = Arc::new(ExtentMap::reader(Arc::clone(&medium), seed, record.id, root));
        map.explore(&mut |met| {
            let Ok(Owned::Table(table)) = met.owned else { return Step::Past };
            let start = Offset(table.0.saturating_mul(crate::units::PAGE));
            if tables.iter().any(|known| known.start == start) {
                return Step::Past;
            }
            let level = met.level - 1;
            let first_index = met.logical.0 >> (LEVEL_BITS * level);
            tables.push(Table { start, level, first_index, map: Arc::clone(&map) });
            Step::Down
        });
    }
    Ok(tables)
}
