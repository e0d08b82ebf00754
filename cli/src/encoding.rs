//! Bytes as text and back: hexadecimal, base64, and the escaped form that tables and TSV use.
//!
//! 1. `escape` is one-to-one: what it prints without a backslash is what is there.
//! 2. Decoders refuse everything that the encoder could not have written.
//!
//! Knows nothing of keys, files or terminals.

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes that `text` spells in hexadecimal, in either case.
pub(crate) fn from_hex(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("odd number of hexadecimal digits");
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    pairs
        .iter()
        .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
        .collect::<Option<_>>()
        .ok_or("not a hexadecimal digit")
}

/// The bytes that `text` spells in base64 (RFC 4648, both alphabets, padding optional).
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, &'static str> {
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return Err("not base64: wrong length");
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            bits = bits << 6 | base64_digit(digit).ok_or("not a base64 digit")?;
        }
        bits <<= 6 * (4 - group.len());
        let whole = group.len() * 6 / 8;
        if bits & ((1 << (24 - 8 * whole)) - 1) != 0 {
            return Err("not base64: bits left over");
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..1 + whole]);
    }
    Ok(bytes)
}

fn base64_digit(digit: u8) -> Option<u32> {
    Some(u32::from(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    }))
}

/// `bytes` as text that fits one table cell: UTF-8 stays, control characters, backslashes and
/// bytes that are no UTF-8 become `\t`, `\n`, `\r`, `\\` or `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                c if c.is_control() => escape_bytes(&mut text, c.encode_utf8(&mut [0; 4])),
                c => text.push(c),
            }
        }
        escape_bytes(&mut text, chunk.invalid());
    }
    text
}

fn escape_bytes(text: &mut String, bytes: impl AsRef<[u8]>) {
    for byte in bytes.as_ref() {
        text.push_str("\\x");
        text.push_str(&hex(&[*byte]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(hex(&all).as_bytes()).unwrap(), all);
        assert_eq!(from_hex(b"00FF").unwrap(), [0, 255]);
        assert_eq!(from_hex(b"").unwrap(), b"");
        assert!(from_hex(b"abc").is_err());
        assert!(from_hex(b"zz").is_err());
    }

    #[test]
    fn base64_agrees_with_the_standard() {
        // The vectors of RFC 4648, section 10.
        for (text, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zg", "f"),
        ] {
            assert_eq!(from_base64(text).unwrap(), plain.as_bytes(), "{text}");
        }
        assert_eq!(from_base64("-_8=").unwrap(), from_base64("+/8=").unwrap());
        for wrong in ["Z", "Zg===", "Zh==", "Z g=", "Zm9v!"] {
            assert!(from_base64(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn escaped_text_fits_a_cell_and_stays_readable() {
        assert_eq!(escape("Zürich".as_bytes()), "Zürich");
        assert_eq!(escape(b"a\tb\nc\\"), "a\\tb\\nc\\\\");
        assert_eq!(escape(b"\x00\xff\x1b[0m"), "\\x00\\xff\\x1b[0m");
        assert_eq!(escape("\u{85}".as_bytes()), "\\xc2\\x85");
    }
}
