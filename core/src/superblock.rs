//! The superblock: two copies, of which at least one is whole at every moment.
//!
//! 1. Version N is written to copy N mod 2. An update writes version N, fences, then writes
//!    version N + 1 over the other copy: a crash leaves one whole copy, and between updates both
//!    say the same, so that losing one loses nothing.
//! 2. A copy counts only with the right magic, version, checksum, and zeros where zeros belong.
//!
//! Knows nothing of extents; the volume table is carried, not understood.

use std::collections::HashSet;

use bytemuck::Zeroable;
use xxhash_rust::xxh3::xxh3_64;

use crate::bad_pages;
use crate::error::{Error, Result};
use crate::layout::{FORMAT_VERSION, MAGIC, SUPERBLOCK_OFFSETS, Superblock, VolumeRecord};
use crate::medium::{Medium, Mode};
use crate::persist::{copy_out, fence, store_lines, store_word};
use crate::units::{ByteRange, HUGE, Offset, PAGE, PageNo};

/// The smallest pool: both copies of the superblock, and room to work.
pub(crate) const POOL_BYTES_MIN: u64 = 2 * HUGE;

/// No counter gets there in the life of a pool; the next ones fit any integer.
const COUNT_MAX: u64 = 1 << 62;

impl Superblock {
    /// The superblock of a pool without volumes.
    pub(crate) fn new(uuid: [u8; 16], pool_bytes: u64, created_unix_s: u64) -> Self {
        Self {
            magic: MAGIC,
            version: FORMAT_VERSION,
            page_bytes: PAGE as u32,
            uuid,
            pool_bytes,
            created_unix_s,
            next_volume_id: 1,
            ..Self::zeroed()
        }
    }

    /// The seed that ties checksums of this pool to it.
    pub(crate) fn seed(&self) -> u64 {
        xxh3_64(&self.uuid)
    }

    /// With the right checksum.
    pub(crate) fn sealed(mut self) -> Self {
        self.checksum = 0;
        self.checksum = xxh3_64(bytemuck::bytes_of(&self));
        self
    }

    /// Whether a pool can have the length that it says.
    pub(crate) fn has_possible_length(&self) -> bool {
        self.pool_bytes >= POOL_BYTES_MIN && self.pool_bytes.is_multiple_of(PAGE)
    }

    /// All that no pool of ours could say: the checksum is right, but anyone can compute it.
    pub(crate) fn contradictions(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        let mut find = |record, detail| found.push(Contradiction { record, detail });
        if !self.has_possible_length() {
            find(None, format!("a pool of {} bytes is impossible", self.pool_bytes));
        }
        if self.sequence.max(self.opens) > COUNT_MAX {
            find(None, "it was written or opened impossibly often".to_string());
        }
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        for (index, record) in self.volumes.iter().enumerate().filter(|(_, one)| one.is_used()) {
            if !ids.insert(record.id) {
                find(Some(index), format!("another volume has its id, {}", record.id));
            }
            if record.id >= self.next_volume_id {
                find(Some(index), format!("its id, {}, was not given to anyone yet", record.id));
            }
            if record.name_len == 0 {
                find(Some(index), "it has no name".to_string());
            } else if !names.insert(record.name()) {
                find(Some(index), "another volume has its name".to_string());
            }
        }
        if self.next_volume_id == 0 {
            find(None, "the next volume would have id 0".to_string());
        }
        found
    }

    /// Where the copy is that says this.
    pub(crate) fn offset(&self) -> Offset {
        Offset(SUPERBLOCK_OFFSETS[(self.sequence % 2) as usize])
    }

    /// Where record `index` of the volume table is.
    pub(crate) fn record_offset(&self, index: usize) -> Offset {
        let in_copy = std::mem::offset_of!(Self, volumes) + index * size_of::<VolumeRecord>();
        Offset(self.offset().0 + in_copy as u64)
    }

    fn reserved_is_zero(&self) -> bool {
        self.reserved.iter().all(|&byte| byte == 0)
            && self.volumes.iter().all(VolumeRecord::is_plausible)
    }
}

impl VolumeRecord {
    pub(crate) fn is_used(&self) -> bool {
        self.id != 0
    }

    /// The name, if it is one.
    pub(crate) fn name(&self) -> Option<&str> {
        std::str::from_utf8(self.name.get(..usize::from(self.name_len))?).ok()
    }

    fn is_plausible(&self) -> bool {
        let padding = self.name.get(usize::from(self.name_len)..).unwrap_or(&[1]);
        let padding_is_zero =
            padding.iter().chain(&self.reserved).all(|&byte| byte == 0) && self.name().is_some();
        if self.is_used() { padding_is_zero } else { *self == Self::zeroed() }
    }
}

/// Something in a superblock that cannot be.
pub(crate) struct Contradiction {
    /// Which record of the volume table, if it is one.
    pub record: Option<usize>,
    pub detail: String,
}

/// What one copy turned out to be.
enum Copy {
    Valid(Box<Superblock>),
    OtherVersion(u32),
    /// There is a media error.
    Unreadable,
    Damaged,
    Foreign,
}

/// Reads the newest valid copy.
///
/// # Errors
/// Those of [`newest`], and [`Error::Corrupt`] if it contradicts itself.
pub(crate) fn read(medium: &Medium) -> Result<Superblock> {
    let superblock = newest(medium)?;
    match superblock.contradictions().into_iter().next() {
        None => Ok(superblock),
        Some(Contradiction { record, detail }) => {
            let (what, offset) = match record {
                Some(index) => ("volume record", superblock.record_offset(index)),
                None => ("superblock", superblock.offset()),
            };
            Err(Error::Corrupt { what, offset: offset.0, detail })
        }
    }
}

/// Reads the newest valid copy, whatever it says.
///
/// # Errors
/// [`Error::NotAPool`], [`Error::UnsupportedVersion`], [`Error::UnsupportedFeature`],
/// [`Error::Corrupt`] if both copies are damaged, [`Error::Truncated`].
pub(crate) fn newest(medium: &Medium) -> Result<Superblock> {
    let copies = read_copies(medium);
    let Some((_, superblock)) = newest_of(&copies) else {
        return Err(explain(medium, &copies));
    };
    let required = match medium.mode() {
        Mode::ReadOnly => superblock.incompat,
        Mode::ReadWrite => superblock.incompat | superblock.ro_compat,
    };
    if required != 0 {
        return Err(Error::UnsupportedFeature { incompat: required });
    }
    if superblock.pool_bytes > medium.len_bytes() {
        return Err(Error::Truncated {
            path: medium.path().to_path_buf(),
            expected_bytes: superblock.pool_bytes,
            found_bytes: medium.len_bytes(),
        });
    }
    Ok(*superblock)
}

/// Where a copy is that could not stand in for the other one, and why.
pub(crate) fn flawed_copies(medium: &Medium) -> Vec<(Offset, String)> {
    let copies = read_copies(medium);
    let newest = newest_of(&copies);
    let flaw = |(index, copy): (usize, &Copy)| {
        let detail = match copy {
            Copy::Valid(superblock) => flaw_beside(index, superblock, newest?)?,
            Copy::OtherVersion(found) => format!("it has format version {found}"),
            Copy::Unreadable => "it cannot be read: a media error".to_string(),
            Copy::Damaged => "its checksum does not match".to_string(),
            Copy::Foreign => "it is not there".to_string(),
        };
        Some((Offset(SUPERBLOCK_OFFSETS[index]), detail))
    };
    copies.iter().enumerate().filter_map(flaw).collect()
}

/// What is wrong with the valid copy `index` beside the newest one, if anything is.
fn flaw_beside(index: usize, copy: &Superblock, newest: (usize, &Superblock)) -> Option<String> {
    let (newest_index, newest) = newest;
    if copy.sequence % 2 != index as u64 {
        return Some("it is what belongs in the place of the other copy".to_string());
    }
    if index == newest_index || newest.sequence % 2 != newest_index as u64 {
        return None;
    }
    if copy.uuid != newest.uuid {
        return Some("it belongs to another pool".to_string());
    }
    // A crash in an update leaves the version before; nothing leaves an older one.
    let is_neighbour = copy.sequence.checked_add(1) == Some(newest.sequence);
    (!is_neighbour)
        .then(|| format!("it is version {} beside version {}", copy.sequence, newest.sequence))
}

/// Whether either copy carries the magic of a pool, whole or not.
pub(crate) fn is_present(medium: &Medium) -> bool {
    SUPERBLOCK_OFFSETS
        .iter()
        .any(|&offset| !matches!(read_copy(medium, Offset(offset)), Copy::Foreign))
}

/// Writes the first superblock of a pool, and its list of bad pages. The magic comes last, so that a
/// crash in between leaves something that is no pool; where a pool was before it leaves that, or the new
/// one: both of its superblocks said the same, in later versions than the first of the new one, and the one
/// that comes last goes when the new pool is whole. So does the second of its lists.
///
/// The caller owns the whole medium.
///
/// # Errors
/// [`Error::MediaError`] where a copy cannot be read: what is there might come back, as a later version.
/// [`Error::Io`] as the medium reports it.
pub(crate) fn create(medium: &Medium, superblock: &mut Superblock) -> Result<()> {
    copies().into_iter().try_for_each(|copy| medium.require_readable(copy))?;
    let bad_pages = bad_pages::begin(medium, superblock.seed())?;
    superblock.sequence += 1;
    *superblock = superblock.sealed();
    let offset = Offset(SUPERBLOCK_OFFSETS[(superblock.sequence % 2) as usize]);
    let without_magic = Superblock { magic: [0; 8], ..*superblock };
    let [_] = fence(medium, [store_lines(medium, offset, bytemuck::bytes_of(&without_magic))?])?;
    let magic = store_word(medium, offset, u64::from_le_bytes(MAGIC))?;
    let [_] = fence(medium, [magic.flush(medium)?])?;
    write(medium, superblock)?;
    bad_pages.finish(medium, superblock.seed())
}

/// Writes the next version, and the one after it to the other copy. `superblock` is then what
/// both copies say, but for one that has a media error.
///
/// The caller holds the lock of the pool's superblock.
///
/// # Errors
/// [`Error::Io`] as the medium reports it.
pub(crate) fn write(medium: &Medium, superblock: &mut Superblock) -> Result<()> {
    let mut lost = None;
    for _ in 0..2 {
        superblock.sequence += 1;
        *superblock = superblock.sealed();
        let copy = copies()[(superblock.sequence % 2) as usize];
        let stored = medium
            .require_readable(copy)
            .and_then(|()| store_lines(medium, copy.start, bytemuck::bytes_of(superblock)));
        match (stored, &lost) {
            (Ok(stored), _) => {
                let [_] = fence(medium, [stored])?;
            }
            // The other copy is good enough, as it is for whoever opens the pool.
            (Err(error @ Error::MediaError { .. }), None) => lost = Some(error),
            (Err(error), _) => return Err(error),
        }
    }
    Ok(())
}

/// Where the copies are.
pub(crate) fn copies() -> [ByteRange; 2] {
    SUPERBLOCK_OFFSETS.map(|offset| ByteRange::new(Offset(offset), PAGE))
}

fn read_copies(medium: &Medium) -> [Copy; 2] {
    SUPERBLOCK_OFFSETS.map(|offset| read_copy(medium, Offset(offset)))
}

/// The valid copy of the latest version, with its number.
fn newest_of(copies: &[Copy; 2]) -> Option<(usize, &Superblock)> {
    let valid = copies.iter().enumerate().filter_map(|(index, copy)| match copy {
        Copy::Valid(superblock) => Some((index, &**superblock)),
        _ => None,
    });
    valid.max_by_key(|(_, superblock)| superblock.sequence)
}

fn read_copy(medium: &Medium, offset: Offset) -> Copy {
    let mut superblock = Superblock::zeroed();
    if offset.0 + PAGE > medium.len_bytes() {
        return Copy::Foreign;
    }
    let page = ByteRange::new(offset, PAGE);
    if medium.require_readable(page).is_err() {
        return Copy::Unreadable;
    }
    if copy_out(medium, offset, bytemuck::bytes_of_mut(&mut superblock)).is_err() {
        return Copy::Unreadable;
    }
    if superblock.magic != MAGIC {
        Copy::Foreign
    } else if superblock.version != FORMAT_VERSION {
        Copy::OtherVersion(superblock.version)
    } else if superblock.sealed().checksum != superblock.checksum
        || superblock.page_bytes != PAGE as u32
        || !superblock.reserved_is_zero()
    {
        Copy::Damaged
    } else {
        Copy::Valid(Box::new(superblock))
    }
}

/// Why no copy is valid.
fn explain(medium: &Medium, copies: &[Copy; 2]) -> Error {
    let other_version = copies.iter().find_map(|copy| match copy {
        Copy::OtherVersion(found) => Some(*found),
        _ => None,
    });
    if let Some(found) = other_version {
        return Error::UnsupportedVersion { found, supported: FORMAT_VERSION };
    }
    for (copy, offset) in copies.iter().zip(SUPERBLOCK_OFFSETS) {
        if matches!(copy, Copy::Unreadable) {
            return medium.bad_page(PageNo(offset / PAGE));
        }
    }
    match copies.iter().position(|copy| matches!(copy, Copy::Damaged)) {
        Some(copy) => Error::Corrupt {
            what: "superblock",
            offset: SUPERBLOCK_OFFSETS[copy],
            detail: "neither copy has a valid checksum".to_string(),
        },
        None => {
            Error::NotAPool { path: medium.path().to_path_buf(), reason: "it has no superblock" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::STATE_OPEN;
    use crate::pool::Pool;

    type Change = fn(&mut Superblock);

    fn record(id: u32, name: &str) -> VolumeRecord {
        let mut record = VolumeRecord::zeroed();
        record.id = id;
        record.name_len = name.len() as u8;
        record.name[..name.len()].copy_from_slice(name.as_bytes());
        record.root_page = 9;
        record.len_bytes = PAGE;
        record
    }

    /// Opens a medium whose superblock says something else, under a valid checksum.
    fn open_with(change: impl FnOnce(&mut Superblock)) -> Result<Pool> {
        let medium = Medium::anonymous(4 * HUGE)?;
        let mut superblock = Superblock::new([7; 16], medium.len_bytes(), 0);
        bad_pages::begin(&medium, superblock.seed())?.finish(&medium, superblock.seed())?;
        change(&mut superblock);
        superblock.sequence = superblock.sequence.wrapping_sub(2);
        for _ in 0..2 {
            superblock.sequence = superblock.sequence.wrapping_add(1);
            superblock = superblock.sealed();
            let offset = SUPERBLOCK_OFFSETS[(superblock.sequence % 2) as usize];
            let stored = store_lines(&medium, Offset(offset), bytemuck::bytes_of(&superblock))?;
            let [_] = fence(&medium, [stored])?;
        }
        Pool::load(medium)
    }

    #[test]
    fn a_superblock_that_says_the_impossible_is_damage_whatever_its_checksum() {
        assert!(open_with(|good| (good.sequence, good.opens) = (8, 3)).is_ok());
        let changes: [(&str, Change); 12] = [
            ("pool of 0 bytes", |bad| bad.pool_bytes = 0),
            ("odd pool", |bad| bad.pool_bytes -= 1),
            ("last sequence", |bad| bad.sequence = u64::MAX),
            ("last open", |bad| bad.opens = u64::MAX),
            ("next id 0", |bad| bad.next_volume_id = 0),
            ("id not given yet", |bad| bad.volumes[0] = record(1, "a")),
            ("no name", |bad| (bad.next_volume_id, bad.volumes[0]) = (5, record(1, ""))),
            ("one id", |bad| {
                bad.next_volume_id = 5;
                bad.volumes[..2].copy_from_slice(&[record(1, "a"), record(1, "b")]);
            }),
            ("one name", |bad| {
                bad.next_volume_id = 5;
                bad.volumes[..2].copy_from_slice(&[record(1, "a"), record(2, "a")]);
            }),
            ("root nowhere", |bad| {
                bad.next_volume_id = 5;
                bad.volumes[0] = VolumeRecord { root_page: u64::MAX, ..record(1, "a") };
            }),
            ("root in a superblock", |bad| {
                bad.next_volume_id = 5;
                bad.volumes[0] = VolumeRecord { root_page: 512, ..record(1, "a") };
            }),
            ("root of zeros", |bad| (bad.next_volume_id, bad.volumes[0]) = (5, record(1, "a"))),
        ];
        for (name, change) in changes {
            let opened = open_with(|bad| {
                (bad.sequence, bad.state) = (8, STATE_OPEN);
                change(bad);
            });
            assert!(matches!(opened, Err(Error::Corrupt { .. })), "{name}");
        }
    }

    #[test]
    fn features_that_a_writer_must_know_keep_writers_out() {
        let changes: [Change; 2] = [|new| new.incompat = 4, |new| new.ro_compat = 4];
        for change in changes {
            let opened = open_with(|new| {
                new.sequence = 8;
                change(new);
            });
            assert!(matches!(opened, Err(Error::UnsupportedFeature { incompat: 4 })));
        }
    }

    #[test]
    fn the_last_volume_id_is_never_given() {
        let pool = open_with(|last| (last.sequence, last.next_volume_id) = (8, u32::MAX)).unwrap();
        assert!(matches!(pool.create_volume("v", 1), Err(Error::InvalidArgument(_))));
        assert_eq!(pool.space().mapped_pages, 4);
    }
}
