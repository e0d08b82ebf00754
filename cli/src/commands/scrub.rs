//! `daxite scrub`: read all of the log of a pool that opens, and name what cannot be read or has rotted.

use daxite::LogFinding;
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::output::{Mode, Out};
use crate::session::Session;
use crate::size::counted;

/// What was found.
#[derive(Serialize)]
struct Report {
    path: String,
    segments: u64,
    frames: u64,
    bytes: u64,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    what: String,
    offset: u64,
    detail: String,
}

impl Finding {
    fn of(finding: LogFinding) -> Self {
        let LogFinding { what, offset, detail, .. } = finding;
        Self { what, offset: offset.0, detail }
    }
}

/// Scrubs the pool.
pub(crate) fn run(pool: &Session, out: &mut Out) -> Outcome<()> {
    let scrubbed = pool.db.scrub().map_err(|error| pool.fail(error))?;
    let findings = scrubbed.media_errors.into_iter().chain(scrubbed.damaged).map(Finding::of);
    let report = Report {
        path: pool.path.display().to_string(),
        segments: scrubbed.segments,
        frames: scrubbed.frames,
        bytes: scrubbed.bytes,
        findings: findings.collect(),
    };
    report.print(out)?;
    match report.findings.len() as u64 {
        0 => Ok(()),
        findings => Err(Failure::damaged(&pool.path, findings)),
    }
}

impl Report {
    fn print(&self, out: &mut Out) -> Outcome<()> {
        if out.is_json() {
            return out.object(self);
        }
        for Finding { what, offset, detail } in &self.findings {
            out.line(format_args!("{what}\t{offset:#x}\t{detail}"))?;
        }
        if out.mode == Mode::Table {
            let segments = counted(self.segments, "segment", "segments");
            let frames = counted(self.frames, "frame", "frames");
            out.line(format_args!("scrubbed: {segments}, {frames}"))?;
        }
        Ok(())
    }
}
