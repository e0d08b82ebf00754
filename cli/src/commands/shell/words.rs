//! A line, split into words as a POSIX shell does it, without variables and wildcards.

/// The words of `line`.
///
/// # Errors
/// When a quote is not closed, or a backslash ends the line.
pub(crate) fn split(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        words.push(word(&mut chars)?);
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn word(chars: &mut Chars<'_>) -> Result<String, &'static str> {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
        match c {
            '\'' => single_quoted(chars, &mut word)?,
            '"' => double_quoted(chars, &mut word)?,
            '\\' => word.push(chars.next().ok_or("a backslash at the end of the line")?),
            c => word.push(c),
        }
    }
    Ok(word)
}

fn single_quoted(chars: &mut Chars<'_>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("a quote that is not closed")? {
            '\'' => return Ok(()),
            c => word.push(c),
        }
    }
}

fn double_quoted(chars: &mut Chars<'_>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next().ok_or("a quote that is not closed")? {
            '"' => return Ok(()),
            '\\' => match chars.next().ok_or("a quote that is not closed")? {
                c @ ('"' | '\\') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_and_unquoted() {
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(split("  put a  b ").unwrap(), ["put", "a", "b"]);
        assert_eq!(split("put 'a b' \"c \\\" d\"").unwrap(), ["put", "a b", "c \" d"]);
        assert_eq!(split("put '' x\\ y").unwrap(), ["put", "", "x y"]);
        assert_eq!(split("put a'b'c").unwrap(), ["put", "abc"]);
        assert_eq!(split("put \"a\\nb\"").unwrap(), ["put", "a\\nb"]);
        for wrong in ["'a", "\"a", "a\\", "\"a\\"] {
            assert!(split(wrong).is_err(), "{wrong}");
        }
    }
}
