//! What an examination answers with.

use std::fmt;

use crate::units::Offset;

/// Findings that are listed; more are only counted.
pub(super) const LISTED_MAX: usize = 10_000;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The pool opens all the same, and nothing is lost.
    Warning,
    /// The pool does not open.
    Damage,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Warning => "warning",
            Self::Damage => "damage",
        })
    }
}

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which structure, for example `extent map word`.
    pub what: &'static str,
    /// The volume that it belongs to, if to one.
    pub volume: Option<String>,
    /// Where, in bytes from the start of the pool.
    pub offset: Offset,
    /// What contradicts what.
    pub detail: String,
}

/// What [`crate::Pool::examine`] looked at, and what it found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Examination {
    /// Copies of the superblock that are good, of two.
    pub superblocks: u64,
    /// Volumes.
    pub volumes: u64,
    /// Tables of extent maps that could be read.
    pub tables: u64,
    /// 2 MiB extents.
    pub huge_extents: u64,
    /// 4 KiB extents.
    pub page_extents: u64,
    /// Pages of the pool.
    pub pages: u64,
    /// Pages that something owns: superblocks, lists of bad pages, tables and extents.
    pub owned_pages: u64,
    /// Where the pages are that are listed as bad, ascending.
    pub bad_pages: Vec<Offset>,
    /// Whether the pool was closed in good order.
    pub was_clean: bool,
    /// What was found, in the order of volumes and of what they map; the first 10,000.
    pub findings: Vec<Finding>,
    /// How many findings there are beyond those that are listed.
    pub unlisted: u64,
}

impl Examination {
    /// Whether any finding is damage.
    pub fn is_damaged(&self) -> bool {
        // Warnings come first, and are few.
        self.unlisted > 0 || self.findings.iter().any(|one| one.severity == Severity::Damage)
    }

    /// Findings, those that are not listed included.
    pub fn findings_count(&self) -> u64 {
        self.findings.len() as u64 + self.unlisted
    }

    pub(super) fn add(&mut self, finding: Finding) {
        match self.findings.len() < LISTED_MAX {
            true => self.findings.push(finding),
            false => self.unlisted += 1,
        }
    }
}
