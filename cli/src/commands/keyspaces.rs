//! `daxite keyspaces`: what keyspaces there are and how many keys they have.

use serde::Serialize;

use crate::failure::Outcome;
use crate::output::{Mode, Out};
use crate::session::Session;
use crate::size;
use crate::table::Table;

/// A keyspace in a listing.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: String,
    /// Number of keys.
    pub(crate) keys: u64,
    /// Bytes of their records in the log.
    pub(crate) record_bytes: u64,
}

/// The keyspaces of a pool, by name.
pub(crate) fn list(pool: &Session) -> Outcome<Vec<Listed>> {
    let mut listed = Vec::new();
    for name in pool.db.keyspaces() {
        let stats = pool.keyspace(&name)?.stats().map_err(|error| pool.fail(error))?;
        listed.push(Listed { name, keys: stats.records, record_bytes: stats.record_bytes });
    }
    Ok(listed)
}

/// Prints them.
pub(crate) fn run(pool: &Session, out: &mut Out) -> Outcome<()> {
    let mut table = Table::default();
    for Listed { name, keys, record_bytes } in list(pool)? {
        match out.mode {
            Mode::Json => out.json_line(&Listed { name, keys, record_bytes })?,
            Mode::Tsv => out.line(format_args!("{name}\t{keys}\t{record_bytes}"))?,
            Mode::Table => {
                table.row([name, size::counted(keys, "key", "keys"), size::human(record_bytes)])
            }
        }
    }
    table.print(out, 0)
}
