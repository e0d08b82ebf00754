//! How keys and values are written on the command line.
//!
//! | written | means |
//! | --- | --- |
//! | `text` | these bytes of UTF-8 |
//! | `text:hex:1` | the text behind `text:`, whatever it looks like |
//! | `hex:00ff` | bytes in hexadecimal |
//! | `b64:AP8=` | bytes in base64 |
//! | `@name` | the bytes of a file |
//! | `-` | the bytes of standard input |

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::encoding;
use crate::failure::{Failure, Outcome};

/// The bytes that `written` stands for.
pub(crate) fn parse(written: &str) -> Outcome<Vec<u8>> {
    let wrong = |what| Failure::usage(format!("{written:?}: {what}"));
    if written == "-" {
        return stdin();
    }
    if let Some(name) = written.strip_prefix('@') {
        return fs::read(name).map_err(|error| Failure::io("read", Path::new(name), &error));
    }
    match written.split_once(':') {
        Some(("text", text)) => Ok(text.as_bytes().to_vec()),
        Some(("hex", digits)) => encoding::from_hex(digits.as_bytes()).map_err(wrong),
        Some(("b64", digits)) => encoding::from_base64(digits).map_err(wrong),
        _ => Ok(written.as_bytes().to_vec()),
    }
}

/// `bytes` in the shortest form of this syntax that a person can read and `parse` takes back.
pub(crate) fn unparse(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().any(char::is_control) => format!("hex:{}", encoding::hex(bytes)),
        Ok(text) if is_plain(text) => text.to_string(),
        Ok(text) => format!("text:{text}"),
        Err(_) => format!("hex:{}", encoding::hex(bytes)),
    }
}

fn is_plain(text: &str) -> bool {
    let marked = ["text:", "hex:", "b64:", "@"].iter().any(|mark| text.starts_with(mark));
    // A leading dash would be taken for an option.
    !marked && !text.starts_with('-')
}

fn stdin() -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::io("read", Path::new("standard input"), &error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        assert_eq!(parse("plain").unwrap(), b"plain");
        assert_eq!(parse("").unwrap(), b"");
        assert_eq!(parse("a:b").unwrap(), b"a:b");
        assert_eq!(parse("text:hex:00").unwrap(), b"hex:00");
        assert_eq!(parse("hex:00ff").unwrap(), [0, 255]);
        assert_eq!(parse("b64:AP8=").unwrap(), [0, 255]);
        assert!(parse("hex:0").is_err());
        assert!(parse("b64:!").is_err());
        assert!(parse("@/nonexistent/file").is_err());
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for bytes in [&b"plain"[..], b"", b"-", b"@x", b"hex:zz", b"\xff\x00", b"a\nb", b"text:"] {
            assert_eq!(parse(&unparse(bytes)).unwrap(), bytes);
        }
    }
}
