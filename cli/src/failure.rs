//! How a command that did not succeed says so: exit code, message, hint.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | a negative answer: no such key, no such keyspace |
//! | 2 | wrong usage |
//! | 3 | the file could not be read, opened, locked, or is no pool; input could not be understood |
//! | 4 | damaged bytes in the pool |
//! | 5 | the pool is full |
//!
//! (130 is the shell's code for a process that Ctrl-C ended.) On standard error a person reads
//! `daxite: <path>: <what> (<hint>)`, a program that asked for `--json` reads
//! `{"error":{"kind":…,"path":…,"message":…,"hint":…,…}}`, where `kind` is the name of the
//! library's error variant.

use std::fmt;
use std::io;
use std::path::Path;

use daxite::Error;
use serde_json::{Map, Value, json};

/// What a step of a command answers with.
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) struct Failure(Box<Report>);

#[derive(Debug)]
struct Report {
    code: u8,
    kind: &'static str,
    path: Option<String>,
    what: String,
    hint: Option<String>,
    fields: Map<String, Value>,
}

impl Failure {
    fn new(code: u8, kind: &'static str, what: impl Into<String>) -> Self {
        let (path, hint, fields) = (None, None, Map::new());
        Self(Box::new(Report { code, kind, path, what: what.into(), hint, fields }))
    }

    /// Nothing is wrong, and the answer is no.
    pub(crate) fn negative(kind: &'static str, what: impl Into<String>) -> Self {
        Self::new(1, kind, what)
    }

    /// The command cannot be carried out as it was written.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new(2, "Usage", what)
    }

    /// The operating system refused `op`.
    pub(crate) fn io(op: &str, path: &Path, error: &io::Error) -> Self {
        let failure = Self::new(3, "Io", format!("cannot {op}: {}", plain(error))).at(path);
        match io_hint(error.kind()) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    /// Input that is not what it claims to be, in line `line` of `source`.
    pub(crate) fn input(source: &str, line: u64, what: impl fmt::Display) -> Self {
        let mut failure = Self::new(3, "BadInput", format!("line {line}: {what}"));
        failure.0.path = Some(source.to_string());
        failure.field("line", line)
    }

    /// Standard output went away, as `head` does when it has seen enough.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(0, "BrokenPipe", "standard output was closed"),
            _ => Self::io("write", Path::new("standard output"), error),
        }
    }

    /// The pool at `path` has so many findings, which were listed.
    pub(crate) fn damaged(path: &Path, findings: u64) -> Self {
        let what = format!("damaged: {}", crate::size::counted(findings, "finding", "findings"));
        Self::new(4, "Corruption", what)
            .at(path)
            .hint("nothing was changed; make a copy before you try anything")
    }

    /// A check of the program's own found something that must not be.
    pub(crate) fn broken_promise(what: impl Into<String>) -> Self {
        Self::new(4, "BrokenPromise", what).hint("this is a defect of daxite; please report it")
    }

    /// What the store answered about the pool at `path`.
    pub(crate) fn store(path: &Path, error: Error) -> Self {
        let failure = match error {
            Error::Io { op, path, source } => return Self::open_io(op, &path, &source),
            Error::NotAPool { reason, .. } => {
                Self::new(3, "NotAPool", format!("not a daxite pool: {reason}"))
                    .hint("the file was left as it is")
            }
            Error::AlreadyExists { is_pool: true, .. } => {
                Self::new(3, "AlreadyExists", "already holds a pool")
                    .hint("--force destroys it and everything in it")
            }
            Error::AlreadyExists { .. } => Self::new(3, "AlreadyExists", "already exists")
                .hint("--force overwrites what is there"),
            Error::UnsupportedVersion { found, supported } => Self::new(
                3,
                "UnsupportedVersion",
                format!("the pool has format version {found}, this build reads {supported}"),
            )
            .hint("dump it with the release that wrote it, then load the dump")
            .field("found", found)
            .field("supported", supported),
            Error::UnsupportedFeature { incompat } => Self::new(
                3,
                "UnsupportedFeature",
                format!("the pool uses unknown format features ({incompat:#x})"),
            )
            .hint("use a newer daxite")
            .field("incompat", incompat),
            Error::Locked { .. } => Self::new(3, "Locked", "already open elsewhere")
                .hint("one process at a time; `fuser PATH` names the other"),
            Error::ReadOnly { .. } => Self::new(3, "ReadOnly", "read-only")
                .hint("reading commands work; writing needs write permission"),
            Error::Truncated { expected_bytes, found_bytes, .. } => Self::new(
                3,
                "Truncated",
                format!("truncated: {expected_bytes} bytes long once, {found_bytes} bytes now"),
            )
            .hint("restore the whole file; what is left was not touched")
            .field("expected_bytes", expected_bytes)
            .field("found_bytes", found_bytes),
            Error::NotPersistentMemory { reason, .. } => {
                Self::new(3, "NotPersistentMemory", format!("not persistent memory: {reason}"))
                    .hint("leave --require-dax out to accept it")
            }
            Error::Corruption { what, offset, detail } => {
                Self::new(4, "Corruption", format!("{what} at offset {offset:#x}: {detail}"))
                    .hint("nothing was changed; make a copy before you try anything")
                    .field("offset", offset)
            }
            Error::MediaError { what, offset, len_bytes, .. } => {
                let lost =
                    format!("{what}: media error in {len_bytes} bytes at offset {offset:#x}");
                Self::new(4, "MediaError", lost).field("offset", offset)
            }
            Error::Full { needed, free } => Self::new(
                5,
                "Full",
                format!("the pool is full: {needed} bytes needed, {free} bytes free"),
            )
            .hint("delete something, or dump it and load it into a larger pool")
            .field("needed", needed)
            .field("free", free),
            Error::KeyTooLong { .. } => Self::new(2, "KeyTooLong", error.to_string()),
            Error::ValueTooLarge { .. } => Self::new(2, "ValueTooLarge", error.to_string()),
            Error::BatchTooLarge { .. } => {
                Self::new(2, "BatchTooLarge", error.to_string()).hint("choose a smaller --batch")
            }
            Error::InvalidArgument(what) => Self::new(2, "InvalidArgument", what),
            other => Self::new(3, "Other", other.to_string()),
        };
        failure.at(path)
    }

    /// Adds where it happened.
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.0.path = Some(path.display().to_string());
        self
    }

    /// Adds what the user can do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a field for programs.
    pub(crate) fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(name.to_string(), value.into());
        self
    }

    /// Adds to the message how far the command had come.
    pub(crate) fn after(mut self, so_far: impl fmt::Display) -> Self {
        self.0.what = format!("{}; {so_far}", self.0.what);
        self
    }

    /// The exit code of the process.
    pub(crate) fn code(&self) -> u8 {
        self.0.code
    }

    /// Whether the reader of standard output went away: nothing to tell anyone.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.0.kind == "BrokenPipe"
    }

    /// The same failure where a closed standard output is one.
    pub(crate) fn loud(mut self) -> Self {
        self.0.code = self.0.code.max(3);
        self
    }

    /// The form for programs.
    pub(crate) fn to_json(&self) -> Value {
        let report = &self.0;
        let mut error = json!({ "kind": report.kind, "message": report.what });
        if let Some(path) = &report.path {
            error["path"] = json!(path);
        }
        if let Some(hint) = &report.hint {
            error["hint"] = json!(hint);
        }
        for (name, value) in &report.fields {
            error[name] = value.clone();
        }
        json!({ "error": error })
    }

    fn open_io(op: &str, path: &Path, source: &io::Error) -> Self {
        let failure = Self::io(op, path, source);
        match source.kind() {
            io::ErrorKind::NotFound => {
                failure.hint(format!("make one with `daxite create {} --size 1G`", path.display()))
            }
            io::ErrorKind::StorageFull => failure.hint("the file system has too little room"),
            _ => failure,
        }
    }
}

/// The form for people, without `daxite: `.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&self.0.what)?;
        match &self.0.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

fn io_hint(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::IsADirectory => "a pool is one file or one device; name a file inside",
        io::ErrorKind::PermissionDenied => "check the permissions of the file and of its folder",
        _ => return None,
    })
}

/// The system's words in lower case and without the number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_and_a_program_are_told_the_same() {
        let failure = Failure::store(Path::new("p.pool"), Error::Full { needed: 640, free: 128 });
        assert_eq!(failure.code(), 5);
        assert!(failure.to_string().starts_with("p.pool: the pool is full: 640 bytes needed"));
        let json = failure.to_json();
        assert_eq!(json["error"]["kind"], "Full");
        assert_eq!(json["error"]["path"], "p.pool");
        assert_eq!(json["error"]["needed"], 640);
    }

    #[test]
    fn the_systems_words_are_fitted_in() {
        let error = io::Error::from_raw_os_error(2);
        let failure = Failure::io("open", Path::new("x"), &error);
        assert_eq!(failure.to_string(), "x: cannot open: no such file or directory");
    }
}
