//! Looking at a database for damage without opening it, and without stopping at the first.
//!
//! 1. Not a byte is changed.
//! 2. What is damaged is what an opening would refuse: the pool is examined by the layer below, the
//!    log is read by recovery.
//! 3. Of a segment its first damage is told; where that is lies what verifies, and nothing tells what
//!    is behind it.

use std::path::Path;

use daxite_core::{Examination, Offset, OpenOptions, Pool, Severity};

use crate::error::{Error, Result};
use crate::recovery;
use crate::stats::RecoveryReport;
use crate::store::{LOG_VOLUME, Store};

/// What [`Database::examine`](crate::Database::examine) looked at, and what it found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checkup {
    /// Of the pool: superblocks, volumes, and what they map.
    pub pool: Examination,
    /// Of the log in it.
    pub log: LogCheckup,
}

/// What was found in the log of a pool.
#[derive(Clone, Debug)]
pub enum LogCheckup {
    /// Nothing is known: the pool is damaged.
    Unread,
    /// There is none; the pool is one of volumes.
    Absent,
    /// It was read.
    Read {
        /// What an opening finds; `None` if it refuses.
        found: Option<RecoveryReport>,
        /// What is wrong, in the order of segments.
        findings: Vec<LogFinding>,
    },
}

/// Something in the log that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LogFinding {
    /// How bad it is.
    pub severity: Severity,
    /// Which structure, for example `segment 17`.
    pub what: String,
    /// Where, in bytes from the start of the pool.
    pub offset: Offset,
    /// What contradicts what.
    pub detail: String,
}

impl Checkup {
    /// Whether anything is damaged, so that the database does not open.
    pub fn is_damaged(&self) -> bool {
        self.pool.is_damaged() || matches!(&self.log, LogCheckup::Read { found: None, .. })
    }
}

impl LogFinding {
    /// What `error` says, if it is about the log.
    ///
    /// # Errors
    /// `error` if it is about something else.
    pub(crate) fn of(severity: Severity, error: Error) -> Result<Self> {
        match error {
            Error::Corruption { what, offset, detail } => {
                Ok(Self { severity, what, offset: Offset(offset), detail })
            }
            Error::MediaError { what, offset, len_bytes, .. } => {
                let detail = format!("{len_bytes} bytes cannot be read: a media error");
                Ok(Self { severity, what, offset: Offset(offset), detail })
            }
            other => Err(other),
        }
    }
}

/// Examines the database at `path`.
///
/// # Errors
/// Those of [`Database::examine`](crate::Database::examine).
pub(crate) fn examine(path: &Path) -> Result<Checkup> {
    let pool = Pool::examine(path)?;
    let log = match pool.is_damaged() {
        true => LogCheckup::Unread,
        false => examine_log(path)?,
    };
    Ok(Checkup { pool, log })
}

fn examine_log(path: &Path) -> Result<LogCheckup> {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let pool = Pool::open(path, &options)?;
    let (found, refusal) = match Store::open(pool.clone(), None) {
        Ok(store) => (Some(store.recovery), None),
        Err(Error::NotAPool { .. }) => return Ok(LogCheckup::Absent),
        Err(error) => (None, Some(LogFinding::of(Severity::Damage, error)?)),
    };
    let is_whole = found.is_some_and(|report| report.headers_from_copy == 0);
    let mut findings = match (is_whole, pool.volume(LOG_VOLUME)?) {
        (false, Some(volume)) => recovery::flaws(&pool, &volume)?,
        _ => Vec::new(),
    };
    // Each segment by itself may be in order, and all together still not.
    if !findings.iter().any(|finding| finding.severity == Severity::Damage) {
        findings.extend(refusal);
    }
    Ok(LogCheckup::Read { found, findings })
}
