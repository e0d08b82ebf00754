//! The volumes of a pool as a person reads them.

use crate::size::{counted, human};
use crate::table::Table;

use super::dax::{entry_rows, listed};
use super::report::Volume;
use super::text::row;

/// For each volume its length and extents, and what this opening knows of them.
pub(super) fn volume_rows(volumes: &[Volume]) -> Table {
    let mut table = Table::default();
    for volume in volumes {
        row(&mut table, &volume.name, format!("{} long", human(volume.len_bytes)));
        let extents = [
            (volume.huge_extents, "extent of 2 MiB", "extents of 2 MiB"),
            (volume.page_extents, "page of 4 KiB", "pages of 4 KiB"),
            (volume.table_pages, "page of map", "pages of map"),
        ];
        listed(&mut table, "  extents", extents);
        if volume.dirty_bytes > 0 {
            row(&mut table, "  dirty", human(volume.dirty_bytes));
        }
        if volume.pins > 0 {
            let pins = counted(volume.pins, "guard or handle", "guards and handles");
            row(&mut table, "  in use by", pins);
        }
        entry_rows(&mut table, "  ", &volume.entries);
        if volume.index_bytes > 0 {
            row(&mut table, "  index memory", human(volume.index_bytes));
        }
    }
    table
}
