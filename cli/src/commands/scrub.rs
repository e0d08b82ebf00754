//! `daxite scrub`: read all of the log of a pool that opens, and name what cannot be read or has rotted.

use daxite::LogFinding;
use serde::Serialize;

use crate::args::ScrubArgs;
use crate::commands::bad_pages::BadPages;
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
    bad_pages: BadPages,
    /// Where listed pages are that can be read again.
    healed: Vec<u64>,
    /// How many of these are not listed any more.
    forgotten: u64,
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
pub(crate) fn run(pool: &Session, args: &ScrubArgs, out: &mut Out) -> Outcome<()> {
    let scrubbed = pool.db.scrub().map_err(|error| pool.fail(error))?;
    let layer = pool.db.pool();
    let mut forgotten = 0;
    for page in scrubbed.healed.iter().filter(|_| args.forget_healed) {
        let forgot = layer.forget_bad_page(*page).map_err(|error| pool.fail(error.into()))?;
        forgotten += u64::from(forgot);
    }
    let findings = scrubbed.media_errors.into_iter().chain(scrubbed.damaged).map(Finding::of);
    let report = Report {
        path: pool.path.display().to_string(),
        segments: scrubbed.segments,
        frames: scrubbed.frames,
        bytes: scrubbed.bytes,
        findings: findings.collect(),
        bad_pages: BadPages::of(&layer.bad_pages()),
        healed: scrubbed.healed.iter().map(|page| page.0).collect(),
        forgotten,
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
            if !self.bad_pages.is_empty() {
                out.line(format_args!("bad pages: {}", self.bad_pages.text()))?;
            }
            for page in &self.healed {
                let now = if self.forgotten > 0 { "and is used again" } else { "and stays listed" };
                out.line(format_args!("the page at {page:#x} can be read again {now}"))?;
            }
        }
        Ok(())
    }
}
