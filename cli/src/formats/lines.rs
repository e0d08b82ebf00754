//! Lines of input, counted, and never longer than the longest that can mean something.

use std::io::{BufRead, Read};
use std::path::Path;

use daxite::{MAX_KEY_LEN, MAX_VALUE_LEN};

use crate::failure::{Failure, Outcome};

/// The longest line in bytes. JSON may spell a byte of a key or value with six characters (`\u001f`).
const LINE_MAX: usize = 6 * (MAX_KEY_LEN + MAX_VALUE_LEN) + 1024;

/// The lines of some input.
pub(crate) struct Lines<R> {
    input: R,
    source: String,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`, which messages call `source`.
    pub(crate) fn new(input: R, source: &str) -> Self {
        Self { input, source: source.to_string(), line: Vec::new(), number: 0 }
    }

    /// The next line without its end; `None` behind the last.
    pub(crate) fn next(&mut self) -> Outcome<Option<&[u8]>> {
        self.line.clear();
        let read = (&mut self.input)
            .take(LINE_MAX as u64 + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Failure::io("read", Path::new(&self.source), &error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.line.len() > LINE_MAX {
            return Err(self.fail(format!("longer than {LINE_MAX} bytes")));
        }
        Ok(Some(self.current()))
    }

    /// The first byte of the next line, without taking it.
    pub(crate) fn peek_byte(&mut self) -> Outcome<Option<u8>> {
        match self.input.fill_buf() {
            Ok(bytes) => Ok(bytes.first().copied()),
            Err(error) => Err(Failure::io("read", Path::new(&self.source), &error)),
        }
    }

    /// The line that `next` gave last.
    pub(crate) fn current(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// A failure at the line that `next` gave last.
    pub(crate) fn fail(&self, what: impl std::fmt::Display) -> Failure {
        Failure::input(&self.source, self.number, what)
    }

    /// A failure at the line that `next` would give.
    pub(crate) fn fail_next(&self, what: impl std::fmt::Display) -> Failure {
        Failure::input(&self.source, self.number + 1, what)
    }
}

/// Refuses a record that no pool takes, while it is known where it comes from.
pub(crate) fn check_limits(key: &[u8], value: &[u8]) -> Result<(), String> {
    if key.len() > MAX_KEY_LEN {
        return Err(format!("key of {} bytes, the longest has {MAX_KEY_LEN}", key.len()));
    }
    if value.len() > MAX_VALUE_LEN {
        return Err(format!("value of {} bytes, the largest has {MAX_VALUE_LEN}", value.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_their_ends_removed() {
        let mut lines = Lines::new(&b"a\r\n\nb"[..], "x");
        assert_eq!(lines.peek_byte().unwrap(), Some(b'a'));
        assert_eq!(lines.next().unwrap(), Some(&b"a"[..]));
        assert_eq!(lines.next().unwrap(), Some(&b""[..]));
        assert_eq!(lines.next().unwrap(), Some(&b"b"[..]));
        assert!(lines.fail("odd").to_string().contains("x: line 3: odd"));
        assert_eq!(lines.next().unwrap(), None);
    }

    #[test]
    fn an_endless_line_takes_bounded_memory() {
        let mut lines = Lines::new(std::io::BufReader::new(std::io::repeat(b'x')), "x");
        assert!(lines.next().is_err());
    }
}
