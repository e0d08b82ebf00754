//! Completion: verbs first, then keyspaces behind `use` and keys behind verbs on keys.

use daxite::Database;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use crate::key;

use super::verbs;

/// So many keys are offered at most.
const KEYS_MAX: usize = 100;

/// What the line editor asks.
pub(crate) struct Completion {
    db: Database,
    /// The keyspace that the shell works on.
    pub(crate) keyspace: String,
}

impl Completion {
    /// Completes from what `db` holds.
    pub(crate) fn new(db: Database) -> Self {
        Self { db, keyspace: String::new() }
    }

    fn keys(&self, typed: &str) -> Vec<String> {
        let Ok(Some(keyspace)) = self.db.get_keyspace(&self.keyspace) else {
            return Vec::new();
        };
        let pairs = keyspace.prefix(typed).take(KEYS_MAX);
        pairs.map_while(Result::ok).map(|(key, _)| quote(&key::unparse(&key))).collect()
    }
}

/// `word` so that the shell takes it for one word.
fn quote(word: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '\'' | '"' | '\\' | '#');
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

impl Completer for Completion {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let head = &line[..at];
        let start = head.rfind(' ').map_or(0, |space| space + 1);
        let typed = &head[start..];
        let verb = head.split_whitespace().next().unwrap_or_default();
        let offered = match verb {
            _ if start == 0 => verbs::NAMES.iter().map(|name| name.to_string()).collect(),
            "use" => self.db.keyspaces(),
            "get" | "put" | "del" => self.keys(typed.trim_start_matches('\'')),
            _ => Vec::new(),
        };
        let bare = typed.trim_start_matches('\'');
        let fits = |word: &String| word.trim_start_matches('\'').starts_with(bare);
        Ok((start, offered.into_iter().filter(fits).collect()))
    }
}

impl Helper for Completion {}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Hinter for Completion {
    type Hint = String;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::shell::words;

    #[test]
    fn what_is_offered_is_read_back_as_one_word() {
        for word in ["plain", "two words", "it's", "\"", "#", "a\\b", ""] {
            assert_eq!(words::split(&quote(word)).unwrap(), [word]);
        }
    }
}
