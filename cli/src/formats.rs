//! The text formats that records travel in: JSON lines and LMDB's dump.
//!
//! Readers are iterators over [`Item`]s. They hold one line at a time, whatever the length of the
//! input, and name the line of everything they refuse.

pub(crate) mod jsonl;
pub(crate) mod lines;
pub(crate) mod lmdb;

use std::io::BufRead;

use crate::args::ReadFormat;
use crate::failure::Outcome;
use lines::Lines;

/// What a file of records consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Item {
    /// From here on the records belong to this keyspace; `None` where the input does not say.
    Keyspace(Option<String>),
    /// A record.
    Pair {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
}

/// The items of some input.
pub(crate) type Items<'a> = Box<dyn Iterator<Item = Outcome<Item>> + 'a>;

/// The items in `input`, which messages call `source`.
///
/// # Errors
/// When the first line fits no format that is known. Later lines are judged when they are read.
pub(crate) fn read<'a>(
    input: impl BufRead + 'a,
    source: &str,
    format: ReadFormat,
) -> Outcome<Items<'a>> {
    let mut lines = Lines::new(input, source);
    let format = match format {
        ReadFormat::Auto => tell(&mut lines)?,
        known => known,
    };
    Ok(match format {
        ReadFormat::Lmdb => Box::new(lmdb::Reader::new(lines)),
        _ => Box::new(jsonl::Reader::new(lines)),
    })
}

fn tell(lines: &mut Lines<impl BufRead>) -> Outcome<ReadFormat> {
    match lines.peek_byte()? {
        Some(b'V') => Ok(ReadFormat::Lmdb),
        Some(b'{') | None => Ok(ReadFormat::Jsonl),
        Some(_) => Err(lines
            .fail_next("neither a JSON object nor the header of an LMDB dump")
            .hint("name the format with --format")),
    }
}
