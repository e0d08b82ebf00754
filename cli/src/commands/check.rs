//! `daxite check`: every damage of a pool by name, and not a byte changed.
//!
//! First everything that the pool itself needs, without stopping at the first finding; then, if
//! that is sound, the log, as an opening would read it, up to its first damage.

use std::path::Path;

use daxite::daxite_core::{Examination, Pool, Severity};
use daxite::{Error, Options};
use serde::Serialize;

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
    /// What is in the log; absent if it was not looked at, or has damage.
    log: Option<Log>,
    findings: Vec<Finding>,
    /// Findings that are not listed.
    unlisted: u64,
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
    let examination = Pool::examine(path).map_err(|error| Failure::store(path, error.into()))?;
    let mut damaged = examination.is_damaged();
    let mut report = Report::of(path, examination);
    if !damaged {
        match look_at_log(path) {
            Ok(log) => report.log = log,
            Err(Error::Corruption { what, offset, detail }) => {
                damaged = true;
                let (severity, volume) = (Severity::Damage.to_string(), Some("log".to_string()));
                report.findings.push(Finding { severity, what, volume, offset, detail });
            }
            Err(error) => return Err(Failure::store(path, error)),
        }
    }
    report.print(out)?;
    match damaged {
        true => Err(Failure::damaged(path, report.findings.len() as u64 + report.unlisted)),
        false => Ok(()),
    }
}

/// Reads the log as an opening does; `None` if the pool has none.
fn look_at_log(path: &Path) -> Result<Option<Log>, Error> {
    let database = match Options::new().open_read_only(path) {
        // A pool of volumes alone.
        Err(Error::NotAPool { .. }) => return Ok(None),
        opened => opened?,
    };
    let found = database.recovery_report();
    let log = Log {
        segments: found.segments,
        frames: found.frames,
        records: found.records,
        torn_tails: found.torn_tails,
    };
    database.close()?;
    Ok(Some(log))
}

impl Report {
    fn of(path: &Path, examination: Examination) -> Self {
        let findings = examination.findings.into_iter().map(|finding| Finding {
            severity: finding.severity.to_string(),
            what: finding.what.to_string(),
            volume: finding.volume,
            offset: finding.offset.0,
            detail: finding.detail,
        });
        Self {
            path: path.display().to_string(),
            was_clean: examination.was_clean,
            superblocks: examination.superblocks,
            volumes: examination.volumes,
            tables: examination.tables,
            huge_extents: examination.huge_extents,
            page_extents: examination.page_extents,
            log: None,
            findings: findings.collect(),
            unlisted: examination.unlisted,
        }
    }

    fn print(&self, out: &mut Out) -> Outcome<()> {
        let mut table = Table::default();
        for finding in &self.findings {
            let Finding { severity, what, volume, offset, detail } = finding;
            let volume = volume.as_deref().unwrap_or("-");
            match out.mode {
                Mode::Json => {}
                Mode::Tsv => {
                    let volume = crate::encoding::escape(volume.as_bytes());
                    out.line(format_args!("{severity}\t{what}\t{volume}\t{offset:#x}\t{detail}"))?;
                }
                Mode::Table => table.row([
                    severity.clone(),
                    what.clone(),
                    format!("volume {volume}"),
                    format!("{offset:#x}"),
                    detail.clone(),
                ]),
            }
        }
        if out.is_json() {
            return out.object(self);
        }
        table.print(out, 0)?;
        if out.mode == Mode::Table {
            out.line(self.summary())?;
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let log = match &self.log {
            Some(log) => format!(
                ", {}, {}",
                counted(log.segments, "segment", "segments"),
                counted(log.records, "record", "records")
            ),
            None => String::new(),
        };
        format!(
            "examined: {} of 2 superblocks, {}, {}, {} of 2 MiB and {} of 4 KiB{log}; {}",
            self.superblocks,
            counted(self.volumes, "volume", "volumes"),
            counted(self.tables, "table", "tables"),
            counted(self.huge_extents, "extent", "extents"),
            grouped(self.page_extents),
            match self.findings.len() as u64 + self.unlisted {
                0 => "nothing is wrong".to_string(),
                findings => counted(findings, "finding", "findings"),
            }
        )
    }
}
