//! Records as JSON lines.
//!
//! ```text
//! {"key":"alice","value":"42"}
//! {"key_hex":"00ff","value_hex":"deadbeef"}
//! {"keyspace":"users","key":"bob","value":"{\"age\":7}"}
//! ```
//! Text that is UTF-8 stands under `key` and `value`, other bytes in hexadecimal under `key_hex`
//! and `value_hex`. `keyspace` stands only where it differs from the default. What `scan --json`
//! and `dump` print is what `load` reads.

use std::borrow::Cow;
use std::io::BufRead;

use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::failure::Outcome;

use super::Item;
use super::lines::{Lines, check_limits};

/// One line. A field that is absent is not written.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    keyspace: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl<'a> Line<'a> {
    /// A line with a key and nothing else.
    pub(crate) fn of_key(key: &'a [u8]) -> Self {
        let (text, hex) = text_or_hex(key);
        Self { key: text, key_hex: hex, ..Self::default() }
    }

    /// Adds the value.
    pub(crate) fn value(self, value: &'a [u8]) -> Self {
        let (text, hex) = text_or_hex(value);
        Self { value: text, value_hex: hex, ..self }
    }

    /// Adds the keyspace.
    pub(crate) fn keyspace(self, name: &'a str) -> Self {
        Self { keyspace: Some(name.into()), ..self }
    }

    fn into_pair(self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let key = bytes("key", self.key, self.key_hex)?;
        let value = bytes("value", self.value, self.value_hex)?;
        check_limits(&key, &value)?;
        Ok((key, value))
    }
}

fn text_or_hex(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(encoding::hex(bytes))),
    }
}

fn bytes(name: &str, text: Option<Cow<'_, str>>, hex: Option<String>) -> Result<Vec<u8>, String> {
    match (text, hex) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(hex)) => {
            encoding::from_hex(hex.as_bytes()).map_err(|what| format!("{name}_hex: {what}"))
        }
        (None, None) => Err(format!("no {name}")),
        (Some(_), Some(_)) => Err(format!("both {name} and {name}_hex")),
    }
}

/// Reads JSON lines; empty lines are passed over.
pub(crate) struct Reader<R> {
    lines: Lines<R>,
    keyspace: Option<String>,
    /// The pair that follows the change of keyspace that was handed out just now.
    waiting: Option<Item>,
}

impl<R: BufRead> Reader<R> {
    /// A reader of `lines`.
    pub(crate) fn new(lines: Lines<R>) -> Self {
        Self { lines, keyspace: None, waiting: None }
    }

    fn read(&mut self) -> Outcome<Option<Item>> {
        if let Some(item) = self.waiting.take() {
            return Ok(Some(item));
        }
        loop {
            match self.lines.next()? {
                None => return Ok(None),
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(_) => break,
            }
        }
        let parsed = parse(self.lines.current());
        let (keyspace, key, value) = parsed.map_err(|what| self.lines.fail(what))?;
        let pair = Item::Pair { key, value };
        if keyspace == self.keyspace {
            return Ok(Some(pair));
        }
        self.keyspace.clone_from(&keyspace);
        self.waiting = Some(pair);
        Ok(Some(Item::Keyspace(keyspace)))
    }
}

type Parsed = (Option<String>, Vec<u8>, Vec<u8>);

fn parse(line: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_string())?;
    let mut line: Line<'_> = serde_json::from_str(text).map_err(|error| {
        // serde counts lines and columns of its own; only the column means something here.
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default().to_string();
        format!("column {}: {words}", error.column())
    })?;
    let keyspace = line.keyspace.take().map(|name| name.into_owned());
    let (key, value) = line.into_pair()?;
    Ok((keyspace, key, value))
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

    fn pair(key: &[u8], value: &[u8]) -> Item {
        Item::Pair { key: key.to_vec(), value: value.to_vec() }
    }

    #[test]
    fn text_bytes_and_keyspaces_come_back() {
        for (key, value) in [(&b"a"[..], &b"\"quoted\"\n"[..]), (b"", b""), (b"\xff", b"\x00\xfe")]
        {
            let line = serde_json::to_vec(&Line::of_key(key).value(value)).unwrap();
            assert_eq!(read(&line).unwrap(), [pair(key, value)]);
        }
        let text = b"{\"keyspace\":\"u\",\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\",\"value\":\"2\"}";
        let expected = [
            Item::Keyspace(Some("u".into())),
            pair(b"a", b"1"),
            Item::Keyspace(None),
            pair(b"b", b"2"),
        ];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (line, what) in [
            ("{\"key\":\"a\"}", "no value"),
            ("{\"value\":\"a\"}", "no key"),
            ("{\"key\":\"a\",\"value\":1}", "column"),
            ("{\"key\":\"a\",\"value\":\"1\",\"more\":1}", "unknown field"),
            ("{\"key\":\"a\",\"key_hex\":\"00\",\"value\":\"1\"}", "both"),
            ("{\"key_hex\":\"0\",\"value\":\"1\"}", "odd number"),
            ("[1]", "column"),
            ("{\"key\":\"a\",\"value\":\"1\"", "EOF"),
        ] {
            let text = format!("{{\"key\":\"k\",\"value\":\"v\"}}\n{line}\n");
            let message = read(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains("line 2: ") && message.contains(what), "{line}: {message}");
        }
        assert!(
            read(b"{\"key\":\"\xff\",\"value\":\"\"}").unwrap_err().to_string().contains("UTF-8")
        );
    }
}
