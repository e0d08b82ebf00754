//! The report as a person reads it.

use std::time::Duration;

use crate::failure::Outcome;
use crate::output::Out;
use crate::size::{counted, grouped, human, time};
use crate::table::Table;

use super::dax_rows;
use super::report::{Format, Info, Log, Medium, Recovery, Space};
use super::volumes::volume_rows;

/// Cells that a section is indented by.
const INDENT: usize = 2;

/// Prints all sections.
pub(crate) fn print(info: &Info, out: &mut Out) -> Outcome<()> {
    out.heading(&format!("Pool {}", info.path))?;
    format_rows(&info.format).print(out, INDENT)?;
    out.heading("Medium")?;
    medium_rows(&info.medium).print(out, INDENT)?;
    out.heading("Space")?;
    space_rows(&info.space).print(out, INDENT)?;
    out.heading("Log")?;
    log_rows(&info.log).print(out, INDENT)?;
    out.heading("Keyspaces")?;
    let mut table = Table::default();
    for listed in &info.keyspaces {
        table.row([
            listed.name.clone(),
            counted(listed.keys, "key", "keys"),
            human(listed.record_bytes),
        ]);
    }
    table.print(out, INDENT)?;
    out.heading("Volumes")?;
    volume_rows(&info.volumes).print(out, INDENT)?;
    out.heading("DAX layer, since this opening")?;
    dax_rows(&info.dax).print(out, INDENT)?;
    out.heading("Recovery, at this opening")?;
    recovery_rows(&info.recovery).print(out, INDENT)
}

/// Adds a figure and its name.
pub(super) fn row(table: &mut Table, name: &str, value: impl Into<String>) {
    table.row([name.to_string(), value.into()]);
}

fn format_rows(format: &Format) -> Table {
    let mut table = Table::default();
    row(&mut table, "format version", format.version.to_string());
    row(&mut table, "uuid", &*format.uuid);
    row(&mut table, "opened for writing", counted(format.opens, "time", "times"));
    let clean = if format.clean { "yes" } else { "no, its last user did not close it" };
    row(&mut table, "closed cleanly", clean);
    table
}

fn medium_rows(medium: &Medium) -> Table {
    let mut table = Table::default();
    row(&mut table, "kind", &*medium.kind);
    let power = match (medium.survives_power_failure, medium.dax) {
        (true, true) => "a write survives a power failure once it is flushed and fenced",
        (true, false) => "a write survives a power failure once it is synced: slow, correct",
        (false, _) => "a write survives the process, not a power failure",
    };
    row(&mut table, "persistence", format!("{}: {power}", medium.persistence));
    row(&mut table, "flush instruction", &*medium.flush);
    row(&mut table, "page sizes obtained", page_sizes(medium));
    table
}

fn page_sizes(medium: &Medium) -> String {
    let resident = human(medium.resident_bytes);
    match medium.resident_in_huge_pages_bytes {
        Some(huge) => format!("{} of {resident} resident is in pages of 2 MiB", human(huge)),
        None => format!("the kernel does not tell for DAX; {resident} resident"),
    }
}

fn space_rows(space: &Space) -> Table {
    let mut table = Table::default();
    let share = |bytes: u64| {
        let percent = bytes as f64 * 100.0 / space.capacity_bytes.max(1) as f64;
        format!("{:>10}  {percent:5.1} %", human(bytes))
    };
    row(&mut table, "capacity", format!("{:>10}", human(space.capacity_bytes)));
    row(&mut table, "log segments", share(space.log_bytes));
    row(&mut table, "  live records", share(space.live_bytes));
    row(&mut table, "  dead, to reclaim", share(space.dead_bytes));
    row(&mut table, "free", share(space.free_bytes));
    row(&mut table, "  kept for removals", share(space.reserve_bytes));
    row(&mut table, "free huge pages", format!("{:>6}", grouped(space.free_huge_pages)));
    if !space.bad_pages.is_empty() {
        row(&mut table, "bad pages", space.bad_pages.text());
    }
    table
}

fn log_rows(log: &Log) -> Table {
    let mut table = Table::default();
    row(
        &mut table,
        "records",
        format!("{} live, highest seqno {}", grouped(log.live_records), log.seqno),
    );
    row(&mut table, "tombstones", grouped(log.tombstones));
    let states = [
        (log.open_segments, "open"),
        (log.sealed_segments, "sealed"),
        (log.retired_segments, "retired"),
    ];
    let states: Vec<String> =
        states.iter().map(|(count, state)| format!("{} {state}", grouped(*count))).collect();
    row(&mut table, "segments by state", states.join(", "));
    row(
        &mut table,
        "segments by extent",
        format!(
            "{} of 2 MiB, {} of 4 KiB pages",
            grouped(log.huge_segments),
            grouped(log.page_segments)
        ),
    );
    table
}

fn recovery_rows(recovery: &Recovery) -> Table {
    let mut table = Table::default();
    row(
        &mut table,
        "read",
        format!(
            "{} ({} sealed), {}, {}",
            counted(recovery.segments, "segment", "segments"),
            grouped(recovery.sealed),
            counted(recovery.records, "record", "records"),
            human(recovery.bytes)
        ),
    );
    row(&mut table, "found", counted(recovery.live, "live record", "live records"));
    row(
        &mut table,
        "dropped",
        format!(
            "{} that nobody had been promised, {}",
            counted(recovery.torn_tails, "torn write", "torn writes"),
            human(recovery.dropped_bytes)
        ),
    );
    if recovery.headers_from_copy > 0 {
        row(&mut table, "headers from copies", grouped(recovery.headers_from_copy));
    }
    row(&mut table, "took", time(Duration::from_nanos(recovery.duration_ns)));
    table
}
