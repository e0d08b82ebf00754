//! The counters of the DAX layer as a person reads them. What never happened is left out.

use crate::size::{counted, grouped};
use crate::table::Table;

use super::report::{Counts, Dax, Entries, Faults};
use super::text::row;

/// Faults by what they were for and how they ended, fallbacks by reason, upgrades, entries, locks.
pub(crate) fn dax_rows(dax: &Dax) -> Table {
    let mut table = Table::default();
    fault_rows(&mut table, &dax.faults);
    upgrade_rows(&mut table, &dax.faults);
    entry_rows(&mut table, "", &dax.entries);
    let faults = &dax.faults;
    let locks = [
        (faults.waits, "wait", "waits"),
        (faults.wakes, "wake", "wakes"),
        (faults.downgrades, "downgrade", "downgrades"),
    ];
    listed(&mut table, "entry locks", locks);
    table
}

/// Entries by size and kind, in rows whose names start with `indent`.
pub(super) fn entry_rows(table: &mut Table, indent: &str, entries: &Entries) {
    for (name, mapping, zero, empty) in [
        ("entries of 2 MiB", entries.huge_mapping, entries.huge_zero, entries.huge_empty),
        ("entries of 4 KiB", entries.page_mapping, entries.page_zero, entries.page_empty),
    ] {
        let kinds = [(mapping, "mapping"), (zero, "zero"), (empty, "empty")];
        let name = format!("{indent}{name}");
        listed(table, &name, kinds.map(|(count, kind)| (count, kind, kind)));
    }
}

/// Adds a row of those figures that are not zero, if there are any.
pub(super) fn listed<const N: usize>(
    table: &mut Table,
    name: &str,
    figures: [(u64, &str, &str); N],
) {
    let figures = figures.into_iter().filter(|(count, ..)| *count > 0);
    let figures: Vec<String> =
        figures.map(|(count, one, many)| counted(count, one, many)).collect();
    if !figures.is_empty() {
        row(table, name, figures.join(", "));
    }
}

fn fault_rows(table: &mut Table, faults: &Faults) {
    let resolved = faults.huge + faults.page + faults.zero;
    if resolved + faults.failed == 0 {
        row(table, "faults", "none");
        return;
    }
    for (access, outcomes) in &faults.by_access {
        let ended = outcomes.iter().filter(|(_, count)| **count > 0);
        let ended: Vec<String> = ended
            .map(|(outcome, count)| format!("{} {}", grouped(*count), meaning(outcome)))
            .collect();
        if !ended.is_empty() {
            row(table, &format!("faults to {access}"), ended.join(", "));
        }
    }
    let allocated = [
        (faults.allocated_huge, "extent of 2 MiB", "extents of 2 MiB"),
        (faults.allocated_pages, "page of 4 KiB", "pages of 4 KiB"),
    ];
    listed(table, "allocated", allocated);
    if faults.fallbacks.values().all(|count| *count == 0) {
        row(table, "fallbacks", "none: every huge page that was asked for was had");
    }
    reasons(table, "fallback to 4 KiB", &faults.fallbacks);
}

/// The end of a fault, in words.
fn meaning(outcome: &str) -> &str {
    match outcome {
        "huge" => "at 2 MiB",
        "page" => "at 4 KiB",
        "huge-zero" => "by zeros of a slot",
        "page-zero" => "by zeros of a page",
        other => other,
    }
}

fn upgrade_rows(table: &mut Table, faults: &Faults) {
    let done = [
        (faults.upgraded_in_place, "slot in place", "slots in place"),
        (faults.relocated, "slot by relocation", "slots by relocation"),
    ];
    listed(table, "upgraded to 2 MiB", done);
    reasons(table, "upgrade refused", &faults.refusals);
}

fn reasons(table: &mut Table, name: &str, counts: &Counts) {
    for (reason, count) in counts.iter().filter(|(_, count)| **count > 0) {
        row(table, name, format!("{reason}: {}", counted(*count, "time", "times")));
    }
}
