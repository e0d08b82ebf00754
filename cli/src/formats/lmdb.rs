//! Records in the text format of LMDB's `mdb_dump` and `mdb_load`, which is Berkeley DB's.
//!
//! ```text
//! VERSION=3
//! format=bytevalue
//! database=users
//! type=btree
//! mapsize=67108864
//! HEADER=END
//!  616c696365
//!  3432
//! DATA=END
//! ```
//! Lines of key and value start with a space and alternate. `format=print` spells bytes that do
//! not print, and the backslash, as `\xx`. Each database has a header of its own.
//!
//! `mdb_load` takes a dump that ends before `DATA=END` as complete and answers success; this
//! reader refuses it. `mdb_dump -p` of some versions does not spell backslashes as it should; where
//! that shows, the dump is refused too.
//!
//! Source: the programs `mdb_dump.c` and `mdb_load.c` of LMDB 0.9.

use std::io::BufRead;

use crate::encoding;
use crate::failure::{Failure, Outcome};

use super::Item;
use super::lines::{Lines, check_limits};

/// The longest key that LMDB takes as it is usually built, in bytes.
pub(crate) const LMDB_KEY_MAX: usize = 511;

/// The lines in front of the records of keyspace `name`. `map_bytes` is the space that the map of
/// the LMDB environment needs; address space, not memory.
///
/// # Errors
/// The format has no way to spell a name with a line end or without any character.
pub(crate) fn header(name: &str, map_bytes: u64) -> Outcome<String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Failure::usage(format!("LMDB's format cannot name the keyspace {name:?}"))
            .hint("use --format jsonl"));
    }
    Ok(format!(
        "VERSION=3\nformat=bytevalue\ndatabase={name}\ntype=btree\nmapsize={map_bytes}\nHEADER=END\n"
    ))
}

/// The two lines of a record.
pub(crate) fn pair(key: &[u8], value: &[u8]) -> String {
    format!(" {}\n {}\n", encoding::hex(key), encoding::hex(value))
}

/// The line behind the records of a keyspace.
pub(crate) const FOOTER: &str = "DATA=END\n";

/// Reads a dump of one or more databases.
pub(crate) struct Reader<R> {
    lines: Lines<R>,
    /// How the records that follow are spelled; `None` between two databases.
    spelling: Option<Spelling>,
}

#[derive(Clone, Copy, Debug)]
enum Spelling {
    Hex,
    Print,
}

impl<R: BufRead> Reader<R> {
    /// A reader of `lines`.
    pub(crate) fn new(lines: Lines<R>) -> Self {
        Self { lines, spelling: None }
    }

    fn read(&mut self) -> Outcome<Option<Item>> {
        loop {
            match self.spelling {
                None => return self.header(),
                Some(spelling) => match self.pair(spelling)? {
                    None => self.spelling = None,
                    pair => return Ok(pair),
                },
            }
        }
    }

    /// Reads a header; `None` where the input ends instead.
    fn header(&mut self) -> Outcome<Option<Item>> {
        let mut name = None;
        let mut spelling = None;
        let mut first = true;
        loop {
            let Some(line) = self.lines.next()? else {
                return if first { Ok(None) } else { Err(self.cut("in a header")) };
            };
            if first && line.is_empty() {
                continue;
            }
            let line = String::from_utf8_lossy(line).into_owned();
            if first && line != "VERSION=3" {
                return Err(self.lines.fail(format!("expected VERSION=3, found {line:?}")));
            }
            first = false;
            match line.split_once('=') {
                Some(("HEADER", "END")) => break,
                Some(("database", text)) => name = Some(text.to_string()),
                Some(("format", "bytevalue")) => spelling = Some(Spelling::Hex),
                Some(("format", "print")) => spelling = Some(Spelling::Print),
                Some(pair) => self.check_header(pair)?,
                None => return Err(self.lines.fail(format!("not a header line: {line:?}"))),
            }
        }
        self.spelling = Some(spelling.ok_or_else(|| self.lines.fail("header without a format"))?);
        Ok(Some(Item::Keyspace(name)))
    }

    /// Refuses what would lose records or change their meaning; the rest of a header describes
    /// the file that the dump was made of, and does not matter here.
    fn check_header(&self, (name, value): (&str, &str)) -> Outcome<()> {
        match (name, value) {
            ("format", _) => Err(self.lines.fail(format!("unknown format {value:?}"))),
            ("type", "btree") => Ok(()),
            ("type", _) => Err(self.lines.fail(format!("a database of type {value:?}"))),
            ("dupsort" | "duplicates", "1") => {
                Err(self.lines.fail("a database with several values per key"))
            }
            _ => Ok(()),
        }
    }

    /// Reads a record; `None` where the database ends.
    fn pair(&mut self, spelling: Spelling) -> Outcome<Option<Item>> {
        match self.lines.next()? {
            None => return Err(self.cut("before DATA=END")),
            Some(b"DATA=END") => return Ok(None),
            Some(_) => {}
        }
        let key = self.data(spelling)?;
        match self.lines.next()? {
            None => return Err(self.cut("between a key and its value")),
            Some(b"DATA=END") => return Err(self.lines.fail("a key without a value")),
            Some(_) => {}
        }
        let value = self.data(spelling)?;
        check_limits(&key, &value).map_err(|what| self.lines.fail(what))?;
        Ok(Some(Item::Pair { key, value }))
    }

    /// The bytes that the current line spells.
    fn data(&self, spelling: Spelling) -> Outcome<Vec<u8>> {
        let bytes = match (self.lines.current().strip_prefix(b" "), spelling) {
            (None, _) => Err("expected a space and data, or DATA=END"),
            (Some(text), Spelling::Hex) => encoding::from_hex(text),
            (Some(text), Spelling::Print) => from_print(text),
        };
        bytes.map_err(|what| match spelling {
            Spelling::Hex => self.lines.fail(what),
            // mdb_dump -p of LMDB 0.9.24 prints a backslash as it is: what follows is anyone's
            // guess, so nothing is guessed.
            Spelling::Print => self.lines.fail(what).hint("make the dump without mdb_dump's -p"),
        })
    }

    fn cut(&self, place: &str) -> Failure {
        self.lines
            .fail_next(format!("the dump ends {place}"))
            .hint("it was cut off; make it again, a part of it is not loaded")
    }
}

/// The bytes that `text` spells in `format=print`: `\\` is a backslash, `\xx` any byte.
fn from_print(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                bytes.push(b'\\');
                tail
            }
            (b'\\', [high, low, tail @ ..]) => {
                bytes.extend(encoding::from_hex(&[*high, *low])?);
                tail
            }
            (b'\\', _) => return Err("a backslash without two digits"),
            (plain, tail) => {
                bytes.push(*plain);
                tail
            }
        };
    }
    Ok(bytes)
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Outcome<Item>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Outcome<Vec<Item>> {
        Reader::new(Lines::new(text, "x")).collect()
    }

    fn keyspace(name: &str) -> Item {
        Item::Keyspace(Some(name.to_string()))
    }

    fn item(key: &[u8], value: &[u8]) -> Item {
        Item::Pair { key: key.to_vec(), value: value.to_vec() }
    }

    fn dump() -> Vec<u8> {
        let mut text = header("a", 1 << 20).unwrap();
        text += &pair(b"", b"\xff");
        text += &pair(b"DATA=END", b"");
        text += FOOTER;
        text += &header("b", 1 << 20).unwrap();
        text += FOOTER;
        text.into_bytes()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let expected = [keyspace("a"), item(b"", b"\xff"), item(b"DATA=END", b""), keyspace("b")];
        assert_eq!(read(&dump()).unwrap(), expected);
    }

    #[test]
    fn printed_bytes_and_nameless_databases_are_understood() {
        let text = b"VERSION=3\nformat=print\ntype=btree\nHEADER=END\n a b\\00\\\\ \n \nDATA=END\n";
        assert_eq!(read(text).unwrap(), [Item::Keyspace(None), item(b"a b\x00\\ ", b"")]);
        assert!(from_print(b"\\0").is_err());
        assert!(from_print(b"\\zz").is_err());
    }

    #[test]
    fn a_dump_that_is_cut_anywhere_is_refused() {
        let dump = dump();
        let whole = read(&dump).unwrap();
        for end in 0..dump.len() - 1 {
            // A cut between two databases leaves a whole dump of the first, and a cut in front of
            // everything an empty one; nothing can tell.
            let at_a_seam = dump[..end].is_empty() || dump[..end].ends_with(FOOTER.as_bytes());
            let at_a_seam = at_a_seam || dump[..end].ends_with(b"\nDATA=END");
            match read(&dump[..end]) {
                Ok(items) => assert!(at_a_seam && whole.starts_with(&items), "cut at {end}"),
                Err(failure) => assert!(!at_a_seam, "cut at {end}: {failure}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (text, what) in [
            ("VERSION=2\n", "VERSION=3"),
            ("VERSION=3\nHEADER=END\n", "without a format"),
            ("VERSION=3\nformat=bytevalue\ntype=hash\nHEADER=END\n", "type"),
            ("VERSION=3\nformat=bytevalue\ndupsort=1\nHEADER=END\n", "several values"),
            ("VERSION=3\nformat=odd\nHEADER=END\n", "unknown format"),
            ("VERSION=3\nformat=bytevalue\nHEADER=END\n61\n 62\nDATA=END\n", "a space"),
            ("VERSION=3\nformat=bytevalue\nHEADER=END\n 6\n 62\nDATA=END\n", "odd number"),
            ("VERSION=3\nformat=bytevalue\nHEADER=END\n 61\nDATA=END\n", "without a value"),
        ] {
            let message = read(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(what), "{text:?}: {message}");
        }
        assert!(header("", 0).is_err());
        assert!(header("a\nb", 0).is_err());
    }
}
