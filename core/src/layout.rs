//! What stands on the medium: the superblock, the volume table, and the list of bad pages. The asserts
//! are the table.
//!
//! 1. Plain old data, little-endian, fixed width; reserved bytes are zero and checked to be.
//! 2. No pointer, lock or allocator state is ever on the medium.
//!
//! `docs/FORMAT.md` draws the picture and tells why.

use bytemuck::{Pod, Zeroable};

use crate::units::{HUGE, PAGE};

#[cfg(target_endian = "big")]
compile_error!("the format is little-endian and is read in place");

/// States the size of a media struct and the offset of every field, at compile time.
macro_rules! assert_layout {
    ($type:ty, $size:expr, { $($field:ident : $offset:expr),+ $(,)? }) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(std::mem::offset_of!($type, $field) == $offset);)+
        };
        #[cfg(feature = "sim")]
        impl $type {
            /// Where each field starts.
            pub(crate) const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), $offset)),+];
        }
    };
}

/// First eight bytes of a superblock.
pub(crate) const MAGIC: [u8; 8] = *b"DAXITE\r\n";
/// The format that this build reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 3;
/// Where the two copies of the superblock stand, in bytes: one in each of the first two huge
/// pages, so that losing either huge page to a media error leaves the other copy.
pub(crate) const SUPERBLOCK_OFFSETS: [u64; 2] = [0, HUGE];
/// Where the two copies of the list of bad pages stand, in bytes: each beside a superblock, and in a
/// page of its own, so that a media error takes one of the four.
pub(crate) const BAD_PAGES_OFFSETS: [u64; 2] = [PAGE, HUGE + PAGE];
/// First eight bytes of a list of bad pages.
pub(crate) const BAD_PAGES_MAGIC: [u8; 8] = *b"DAXbadPG";
/// Pages that fit the list.
pub(crate) const BAD_PAGES_MAX: usize = 504;
/// Volumes that fit the table of a superblock.
pub(crate) const VOLUMES_MAX: usize = 60;
/// Longest volume name, in bytes of UTF-8.
pub(crate) const NAME_LEN_MAX: usize = 31;

/// One copy of the superblock: exactly one page.
#[derive(Clone, Copy, Pod, Zeroable, PartialEq, Debug)]
#[repr(C)]
pub(crate) struct Superblock {
    pub magic: [u8; 8],
    /// XXH3-64 of the page with this field zero.
    pub checksum: u64,
    pub version: u32,
    /// Size of a page in bytes, 4096.
    pub page_bytes: u32,
    pub uuid: [u8; 16],
    /// Features that a reader may ignore.
    pub compat: u64,
    /// Features that a reader must know in order to write.
    pub ro_compat: u64,
    /// Features that a reader must know.
    pub incompat: u64,
    /// Version N of the superblock is written to copy N mod 2.
    pub sequence: u64,
    pub pool_bytes: u64,
    /// How often the pool was opened and written to; no two lives that write share a number.
    pub opens: u64,
    /// Seconds since 1970 at creation.
    pub created_unix_s: u64,
    /// The id that the next volume gets; ids are never used twice.
    pub next_volume_id: u32,
    /// [`STATE_CLEAN`] or [`STATE_OPEN`].
    pub state: u32,
    /// What the owner of the volumes said about them at a clean close.
    pub owner_digest: u64,
    pub reserved: [u8; 144],
    pub volumes: [VolumeRecord; VOLUMES_MAX],
}

/// Closed in good order.
pub(crate) const STATE_CLEAN: u32 = 0;
/// Open for writing, or left so by a crash.
pub(crate) const STATE_OPEN: u32 = 1;

assert_layout!(Superblock, 4096, {
    magic: 0, checksum: 8, version: 16, page_bytes: 20, uuid: 24, compat: 40, ro_compat: 48,
    incompat: 56, sequence: 64, pool_bytes: 72, opens: 80, created_unix_s: 88,
    next_volume_id: 96, state: 100, owner_digest: 104, reserved: 112, volumes: 256,
});

/// One volume; a record with id 0 is unused and all zero.
#[derive(Clone, Copy, Pod, Zeroable, PartialEq, Debug)]
#[repr(C)]
pub(crate) struct VolumeRecord {
    pub id: u32,
    pub name_len: u8,
    pub name: [u8; NAME_LEN_MAX],
    pub reserved: [u8; 4],
    /// Over all extents and tables of its extent map, at a clean close.
    pub map_digest: u64,
    /// Page of the root table of the extent map.
    pub root_page: u64,
    /// Length of the logical space.
    pub len_bytes: u64,
}

assert_layout!(VolumeRecord, 64, {
    id: 0, name_len: 4, name: 5, reserved: 36, map_digest: 40, root_page: 48, len_bytes: 56,
});

/// One copy of the list of bad pages: exactly one page.
#[derive(Clone, Copy, Pod, Zeroable, PartialEq, Debug)]
#[repr(C)]
pub(crate) struct BadPagesCopy {
    pub magic: [u8; 8],
    /// XXH3-64 of the page with this field zero, seeded by the pool.
    pub checksum: u64,
    /// Generation N of the list is written to copy N mod 2.
    pub generation: u64,
    /// How many pages are listed.
    pub count: u64,
    pub reserved: [u8; 32],
    /// Their numbers, ascending; behind them zeros.
    pub pages: [u64; BAD_PAGES_MAX],
}

assert_layout!(BadPagesCopy, 4096, {
    magic: 0, checksum: 8, generation: 16, count: 24, reserved: 32, pages: 64,
});
