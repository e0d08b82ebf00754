//! `daxite check`: every damage of a pool by name, and not a byte changed.
//!
//! First everything that the pool itself needs; then, if that is sound, the log. What is said about
//! the log says so where it was not read.

use std::path::Path;

use daxite::{Checkup, Database, LogCheckup, RecoveryReport};
use serde::Serialize;

use crate::commands::bad_pages::BadPages;
use crate::encoding::escape;
use crate::failure::{Failure, Outcome};
use crate::output::{Mode, Out};
use crate::size::{counted, grouped};
use crate::table::Table;

/// What was found.
#[derive(Serialize)]
struct Report {
    path: String,
    was_clean: bool,
    superblocks: u64,
    volumes: u64,
    tables: u64,
    huge_extents: u64,
    page_extents: u64,
    pages: u64,
    owned_pages: u64,
    bad_pages: BadPages,
    log_state: LogState,
    /// What is in the log, if it is sound.
    log: Option<Log>,
    findings: Vec<Finding>,
    /// Findings that are not listed.
    unlisted: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum LogState {
    Sound,
    Damaged,
    Absent,
    Unread,
}

#[derive(Serialize)]
struct Log {
    segments: u64,
    frames: u64,
    records: u64,
    torn_tails: u64,
}

#[derive(Serialize)]
struct Finding {
    severity: String,
    what: String,
    volume: Option<String>,
    offset: u64,
    detail: String,
}

/// Checks the pool at `path`.
pub(crate) fn run(path: &Path, out: &mut Out) -> Outcome<()> {
    let checkup = Database::examine(path).map_err(|error| Failure::store(path, error))?;
    let is_damaged = checkup.is_damaged();
    let report = Report::of(path, checkup);
    report.print(out)?;
    match is_damaged {
        true => Err(Failure::damaged(path, report.findings_count())),
        false => Ok(()),
    }
}

impl Report {
    fn of(path: &Path, checkup: Checkup) -> Self {
        let Checkup { pool, log, .. } = checkup;
        let of_pool = pool.findings.into_iter().map(|finding| Finding {
            severity: finding.severity.to_string(),
            what: finding.what.to_string(),
            volume: finding.volume,
            offset: finding.offset.0,
            detail: finding.detail,
        });
        let (log_state, found, of_log) = match log {
            LogCheckup::Absent => (LogState::Absent, None, Vec::new()),
            LogCheckup::Unread => (LogState::Unread, None, Vec::new()),
            LogCheckup::Read { found: None, findings } => (LogState::Damaged, None, findings),
            LogCheckup::Read { found, findings } => (LogState::Sound, found, findings),
        };
        let of_log = of_log.into_iter().map(|finding| Finding {
            severity: finding.severity.to_string(),
            what: finding.what,
            volume: Some("log".to_string()),
            offset: finding.offset.0,
            detail: finding.detail,
        });
        Self {
            path: path.display().to_string(),
            was_clean: pool.was_clean,
            superblocks: pool.superblocks,
            volumes: pool.volumes,
            tables: pool.tables,
            huge_extents: pool.huge_extents,
            page_extents: pool.page_extents,
            pages: pool.pages,
            owned_pages: pool.owned_pages,
            bad_pages: BadPages::on_medium(&pool.bad_pages),
            log_state,
            log: found.map(|found| Log::of(&found)),
            findings: of_pool.chain(of_log).collect(),
            unlisted: pool.unlisted,
        }
    }

    fn findings_count(&self) -> u64 {
        self.findings.len() as u64 + self.unlisted
    }

    fn print(&self, out: &mut Out) -> Outcome<()> {
        if out.is_json() {
            return out.object(self);
        }
        let mut table = Table::default();
        for Finding { severity, what, volume, offset, detail } in &self.findings {
            let volume = volume.as_ref().map(|name| escape(name.as_bytes()));
            match (out.mode, volume) {
                (Mode::Table, volume) => table.row([
                    severity.clone(),
                    what.clone(),
                    volume.map_or_else(String::new, |name| format!("volume {name}")),
                    format!("{offset:#x}"),
                    detail.clone(),
                ]),
                (_, volume) => {
                    let volume = volume.as_deref().unwrap_or("-");
                    out.line(format_args!("{severity}\t{what}\t{volume}\t{offset:#x}\t{detail}"))?;
                }
            }
        }
        table.print(out, 0)?;
        if out.mode != Mode::Table {
            return Ok(());
        }
        if !self.bad_pages.is_empty() {
            out.line(format_args!("bad pages: {}", self.bad_pages.text()))?;
        }
        out.line(self.summary())
    }

    fn summary(&self) -> String {
        let log = match (&self.log, self.log_state) {
            (Some(log), _) => format!(
                "{}, {}",
                counted(log.segments, "segment", "segments"),
                counted(log.records, "record", "records")
            ),
            (None, LogState::Absent) => "no log".to_string(),
            (None, LogState::Unread) => "not the log, since the pool does not open".to_string(),
            (None, _) => "the log".to_string(),
        };
        format!(
            "examined: {} of 2 superblocks, {}, {}, {} of 2 MiB and {} of 4 KiB, in {} of {}, {log}; {}",
            self.superblocks,
            counted(self.volumes, "volume", "volumes"),
            counted(self.tables, "table", "tables"),
            counted(self.huge_extents, "extent", "extents"),
            grouped(self.page_extents),
            grouped(self.owned_pages),
            counted(self.pages, "page", "pages"),
            match (self.findings_count(), self.unlisted) {
                (0, _) => "nothing is wrong".to_string(),
                (findings, 0) => counted(findings, "finding", "findings"),
                (findings, unlisted) => format!(
                    "{}, of which {} are not listed",
                    counted(findings, "finding", "findings"),
                    grouped(unlisted)
                ),
            }
        )
    }
}

impl Log {
    fn of(found: &RecoveryReport) -> Self {
        Self {
            segments: found.segments,
            frames: found.frames,
            records: found.records,
            torn_tails: found.torn_tails,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daxite::Options;

    #[test]
    fn the_summary_says_what_was_examined_and_what_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool");
        let database = Options::new().capacity(8 << 20).create(&path).unwrap();
        database.keyspace("main").unwrap().insert("a", "1").unwrap();
        database.close().unwrap();
        let summary = || Report::of(&path, Database::examine(&path).unwrap()).summary();
        let of_pool = "examined: 2 of 2 superblocks, 1 volume, 4 tables, 0 extents of 2 MiB and 64 of \
                       4 KiB, in 72 of 2,048 pages, ";
        // The record, and the one that names its keyspace.
        assert_eq!(summary(), format!("{of_pool}1 segment, 2 records; nothing is wrong"));
        let mut image = std::fs::read(&path).unwrap();
        let segment = image.windows(8).position(|bytes| bytes == b"DAXlogSG").unwrap();
        image[segment + 100] ^= 1;
        std::fs::write(&path, &image).unwrap();
        assert_eq!(summary(), format!("{of_pool}the log; 1 finding"));
        (image[30], image[(2 << 20) + 30]) = (1, 1);
        std::fs::write(&path, &image).unwrap();
        let (found, unread) = ("; 2 findings", "not the log, since the pool does not open");
        assert!(summary().ends_with(&format!("{unread}{found}")), "{}", summary());
    }
}
