//! What there is to see of a slot: entries, extent map, bytes and counters, as the table says it.

use std::fmt;

use super::request::fill;
use super::stage::{OTHER_PAGE, PAGE_OF_INTEREST, Stage, TESTED};
use crate::counters::{Access, FallbackReason, FaultOutcome, Refusal};
use crate::entry::Entry;
use crate::extent_map::Word;
use crate::units::{ExtentSize, LogicalPage, PAGES_PER_HUGE};

/// The columns of the table that a run fills.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// How the request ended.
    pub result: String,
    /// What readers then find in the page of interest, and in another one.
    pub holds: String,
    pub entries: String,
    pub map: String,
    /// What the counters of faults counted.
    pub counted: String,
}

impl Seen {
    /// Five columns of the table.
    pub(super) fn of(columns: &[&str]) -> Self {
        let [result, holds, entries, map, counted] = columns else {
            panic!("five columns: {columns:?}")
        };
        let [result, holds, entries, map, counted] =
            [result, holds, entries, map, counted].map(|column| column.to_string());
        Self { result, holds, entries, map, counted }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { result, holds, entries, map, counted } = self;
        write!(f, "{result} | {holds} | {entries} | {map} | {counted}")
    }
}

impl Stage {
    pub(super) fn look(&self, result: String) -> Seen {
        self.pool.check();
        let counted = self.counted();
        let entries = self.entries();
        let map = self.map();
        // The last look, since it faults. What was never appended has no bytes to speak of.
        let holds = match result.as_str() {
            "512 to append" | "8 to append" => "-".to_string(),
            _ => [PAGE_OF_INTEREST, OTHER_PAGE].map(|page| fill(&self.volume, page)).join(" "),
        };
        Seen { result, holds, entries, map, counted }
    }

    /// The entries of the slot; neighbours of one kind as a run.
    fn entries(&self) -> String {
        let index = &self.volume.shared.index;
        let dirty = index.lock_slot(TESTED).dirty_entries();
        let mut runs = Runs::default();
        let mut huge = None;
        index.for_each_entry(&mut |slot, size, page, entry| {
            assert_eq!(slot, TESTED, "an entry in a slot that nobody asked for");
            let kind = match entry {
                Entry::Empty => "E",
                Entry::Zero => "Z",
                Entry::Mapping(_) => "M",
            };
            let star = if dirty.iter().any(|dirty| dirty.index == page) { "*" } else { "" };
            match size {
                ExtentSize::Huge => huge = Some(format!("{kind}2{star}")),
                ExtentSize::Page => runs.push(page, format!("{kind}4{star}")),
            }
        });
        huge.unwrap_or_else(|| runs.show())
    }

    /// The words of the extent map.
    fn map(&self) -> String {
        let map = &self.volume.shared.map;
        match map.slot(TESTED).unwrap() {
            Word::Hole => return "-".to_string(),
            Word::Huge(_) => return "huge".to_string(),
            _ => {}
        }
        let mut runs = Runs::default();
        for page in 0..PAGES_PER_HUGE {
            match map.page(LogicalPage(TESTED.first_page().0 + page)).unwrap() {
                Word::Hole => {}
                Word::Page(_) => runs.push(page as usize, String::new()),
                word => panic!("{word:?} in a table of pages"),
            }
        }
        runs.show()
    }

    fn counted(&self) -> String {
        let (before, now) = (&self.counts, self.pool.fault_counts());
        let mut all = Vec::new();
        let mut count = |what: String, before: u64, now: u64| match now - before {
            0 => {}
            1 => all.push(what),
            more => all.push(format!("{what} x{more}")),
        };
        for why in FallbackReason::ALL {
            count(format!("{why}"), before.fallbacks(why), now.fallbacks(why));
        }
        count("downgrade".to_string(), before.downgrades, now.downgrades);
        count("new huge".to_string(), before.allocated_huge, now.allocated_huge);
        count("new page".to_string(), before.allocated_pages, now.allocated_pages);
        for access in Access::ALL {
            for outcome in FaultOutcome::ALL {
                let of = [before, &now].map(|counts| counts.faults(access, outcome));
                count(format!("{access} {outcome}"), of[0], of[1]);
            }
        }
        count("in place".to_string(), before.upgraded_in_place, now.upgraded_in_place);
        count("moved".to_string(), before.relocated, now.relocated);
        for why in Refusal::ALL {
            count(format!("refused {why}"), before.refusals(why), now.refusals(why));
        }
        if all.is_empty() { "-".to_string() } else { all.join(", ") }
    }
}

/// Pages with the same note, as runs: `0-4:M4* 5:M4`.
#[derive(Default)]
struct Runs(Vec<(usize, usize, String)>);

impl Runs {
    fn push(&mut self, page: usize, note: String) {
        match self.0.last_mut() {
            Some((_, last, of_run)) if *last + 1 == page && *of_run == note => *last = page,
            _ => self.0.push((page, page, note)),
        }
    }

    fn show(&self) -> String {
        let runs = self.0.iter().map(|(first, last, note)| {
            let pages = if first == last { first.to_string() } else { format!("{first}-{last}") };
            if note.is_empty() { pages } else { format!("{pages}:{note}") }
        });
        let runs: Vec<_> = runs.collect();
        if runs.is_empty() { "-".to_string() } else { runs.join(" ") }
    }
}
