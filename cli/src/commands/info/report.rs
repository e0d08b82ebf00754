//! The figures of a pool, gathered. The names of the fields are those of the JSON.

use std::collections::BTreeMap;

use daxite::daxite_core::{
    Access, EntryCounts, FallbackReason, FaultCounts, FaultOutcome, PageSizes, Pool, PoolInfo,
    Refusal, VolumeStats,
};
use daxite::{RecoveryReport, Stats};
use serde::Serialize;

use crate::commands::bad_pages::BadPages;
use crate::commands::keyspaces::{self, Listed};
use crate::encoding;
use crate::failure::Outcome;
use crate::session::Session;

/// Everything that `info` tells.
#[derive(Serialize)]
pub(crate) struct Info {
    pub(crate) path: String,
    pub(crate) format: Format,
    pub(crate) medium: Medium,
    pub(crate) space: Space,
    pub(crate) log: Log,
    pub(crate) keyspaces: Vec<Listed>,
    pub(crate) volumes: Vec<Volume>,
    #[serde(flatten)]
    pub(crate) dax: Dax,
    pub(crate) recovery: Recovery,
}

/// What was written on the medium when the pool was made, and since.
#[derive(Serialize)]
pub(crate) struct Format {
    pub(crate) version: u32,
    pub(crate) uuid: String,
    pub(crate) created_unix_s: u64,
    pub(crate) opens: u64,
    pub(crate) clean: bool,
}

/// What the pool runs on.
#[derive(Serialize)]
pub(crate) struct Medium {
    pub(crate) kind: String,
    pub(crate) persistence: String,
    pub(crate) survives_power_failure: bool,
    pub(crate) dax: bool,
    pub(crate) flush: String,
    pub(crate) resident_bytes: u64,
    pub(crate) resident_in_huge_pages_bytes: Option<u64>,
    pub(crate) kernel_page_bytes: u64,
}

/// How full the pool is.
#[derive(Serialize)]
pub(crate) struct Space {
    pub(crate) capacity_bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) reserve_bytes: u64,
    pub(crate) log_bytes: u64,
    pub(crate) free_huge_pages: u64,
    pub(crate) bad_pages: BadPages,
}

/// What the log consists of.
#[derive(Serialize)]
pub(crate) struct Log {
    pub(crate) live_records: u64,
    pub(crate) tombstones: u64,
    pub(crate) seqno: u64,
    pub(crate) lanes: u64,
    pub(crate) open_segments: u64,
    pub(crate) sealed_segments: u64,
    pub(crate) retired_segments: u64,
    pub(crate) huge_segments: u64,
    pub(crate) page_segments: u64,
}

/// A volume: its extents on the medium, and what this opening knows of them.
#[derive(Serialize)]
pub(crate) struct Volume {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) len_bytes: u64,
    pub(crate) huge_extents: u64,
    pub(crate) page_extents: u64,
    pub(crate) table_pages: u64,
    pub(crate) dirty_bytes: u64,
    pub(crate) pins: u64,
    pub(crate) entries: Entries,
    pub(crate) index_bytes: u64,
}

/// What the DAX layer did since this opening, from its counters.
#[derive(Serialize)]
pub(crate) struct Dax {
    pub(crate) faults: Faults,
    pub(crate) entries: Entries,
}

/// Counters by name, zeros included.
pub(crate) type Counts = BTreeMap<String, u64>;

#[derive(Serialize)]
pub(crate) struct Faults {
    pub(crate) huge: u64,
    pub(crate) page: u64,
    pub(crate) zero: u64,
    pub(crate) failed: u64,
    /// By what they were for, then by how they ended.
    pub(crate) by_access: BTreeMap<String, Counts>,
    pub(crate) allocated_huge: u64,
    pub(crate) allocated_pages: u64,
    pub(crate) fallbacks: Counts,
    pub(crate) waits: u64,
    pub(crate) wakes: u64,
    pub(crate) downgrades: u64,
    pub(crate) upgraded_in_place: u64,
    pub(crate) relocated: u64,
    pub(crate) refusals: Counts,
}

/// Entries of the entry index, by size and kind.
#[derive(Serialize)]
pub(crate) struct Entries {
    pub(crate) huge_mapping: u64,
    pub(crate) huge_zero: u64,
    pub(crate) huge_empty: u64,
    pub(crate) page_mapping: u64,
    pub(crate) page_zero: u64,
    pub(crate) page_empty: u64,
}

/// What opening found.
#[derive(Serialize)]
pub(crate) struct Recovery {
    pub(crate) was_clean: bool,
    pub(crate) segments: u64,
    pub(crate) sealed: u64,
    pub(crate) headers_from_copy: u64,
    pub(crate) discarded: u64,
    pub(crate) torn_tails: u64,
    pub(crate) dropped_bytes: u64,
    pub(crate) frames: u64,
    pub(crate) records: u64,
    pub(crate) live: u64,
    pub(crate) bytes: u64,
    pub(crate) duration_ns: u64,
}

impl Info {
    /// Asks the pool for everything.
    pub(crate) fn of(session: &Session) -> Outcome<Self> {
        let pool = session.db.pool();
        let stats = session.db.stats();
        let info = pool.info();
        let volumes = pool.volumes().map_err(|error| session.fail(error.into()))?;
        Ok(Self {
            path: session.path.display().to_string(),
            format: Format::of(&info),
            medium: Medium::of(&info, pool.page_sizes()),
            space: Space::of(&stats, pool),
            log: Log::of(&stats),
            keyspaces: keyspaces::list(session)?,
            volumes: volumes.into_iter().map(Volume::of).collect(),
            dax: Dax::of(pool),
            recovery: Recovery::of(session.db.recovery_report()),
        })
    }
}

impl Format {
    fn of(info: &PoolInfo) -> Self {
        Self {
            version: info.format_version,
            uuid: uuid(&info.uuid),
            created_unix_s: info.created_unix_s,
            opens: info.opens,
            clean: info.was_clean,
        }
    }
}

/// A UUID in its usual groups.
fn uuid(bytes: &[u8; 16]) -> String {
    let digits = encoding::hex(bytes);
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    groups.join("-")
}

impl Medium {
    fn of(info: &PoolInfo, pages: PageSizes) -> Self {
        Self {
            kind: info.kind.to_string(),
            persistence: info.persistence.to_string(),
            survives_power_failure: info.persistence.survives_power_failure(),
            dax: info.persistence.is_dax(),
            flush: info.flush_instruction.to_string(),
            resident_bytes: pages.resident_bytes,
            resident_in_huge_pages_bytes: pages.huge_bytes,
            kernel_page_bytes: pages.kernel_page_bytes,
        }
    }
}

impl Space {
    fn of(stats: &Stats, pool: &Pool) -> Self {
        Self {
            capacity_bytes: stats.capacity_bytes,
            live_bytes: stats.live_bytes,
            dead_bytes: stats.dead_bytes,
            free_bytes: stats.free_bytes,
            reserve_bytes: stats.reserve_bytes,
            log_bytes: stats.log_bytes,
            free_huge_pages: pool.space().free_huge_pages,
            bad_pages: BadPages::of(&pool.bad_pages()),
        }
    }
}

impl Log {
    fn of(stats: &Stats) -> Self {
        Self {
            live_records: stats.live_records,
            tombstones: stats.tombstones,
            seqno: stats.seqno.0,
            lanes: stats.lanes,
            open_segments: stats.open_segments,
            sealed_segments: stats.sealed_segments,
            retired_segments: stats.retired_segments,
            huge_segments: stats.huge_segments,
            page_segments: stats.page_segments,
        }
    }
}

impl Volume {
    fn of(volume: VolumeStats) -> Self {
        Self {
            id: volume.id,
            name: volume.name,
            len_bytes: volume.len_bytes,
            huge_extents: volume.huge_extents,
            page_extents: volume.page_extents,
            table_pages: volume.table_pages,
            dirty_bytes: volume.dirty_bytes,
            pins: volume.pins,
            entries: Entries::of(volume.entries),
            index_bytes: volume.index_bytes,
        }
    }
}

impl Dax {
    /// Reads the counters.
    pub(crate) fn of(pool: &Pool) -> Self {
        Self { faults: Faults::of(&pool.fault_counts()), entries: Entries::of(pool.entry_counts()) }
    }
}

impl Faults {
    fn of(counts: &FaultCounts) -> Self {
        let outcomes = |access| named(FaultOutcome::ALL, |outcome| counts.faults(access, outcome));
        let by_access = Access::ALL.map(|access| (access.to_string(), outcomes(access)));
        Self {
            huge: counts.outcomes(FaultOutcome::Huge),
            page: counts.outcomes(FaultOutcome::Page),
            zero: counts.outcomes(FaultOutcome::HugeZero) + counts.outcomes(FaultOutcome::PageZero),
            failed: counts.outcomes(FaultOutcome::Failed),
            by_access: by_access.into(),
            allocated_huge: counts.allocated_huge,
            allocated_pages: counts.allocated_pages,
            fallbacks: named(FallbackReason::ALL, |reason| counts.fallbacks(reason)),
            waits: counts.waits,
            wakes: counts.wakes,
            downgrades: counts.downgrades,
            upgraded_in_place: counts.upgraded_in_place,
            relocated: counts.relocated,
            refusals: named(Refusal::ALL, |reason| counts.refusals(reason)),
        }
    }
}

/// The counter of each of `all`, by its name.
fn named<T: Copy + ToString, const N: usize>(all: [T; N], count: impl Fn(T) -> u64) -> Counts {
    all.map(|one| (one.to_string(), count(one))).into()
}

impl Entries {
    fn of(entries: EntryCounts) -> Self {
        Self {
            huge_mapping: entries.huge_mapping,
            huge_zero: entries.huge_zero,
            huge_empty: entries.huge_empty,
            page_mapping: entries.page_mapping,
            page_zero: entries.page_zero,
            page_empty: entries.page_empty,
        }
    }
}

impl Recovery {
    /// The report as it is printed.
    pub(crate) fn of(report: &RecoveryReport) -> Self {
        Self {
            was_clean: report.was_clean,
            segments: report.segments,
            sealed: report.sealed,
            headers_from_copy: report.headers_from_copy,
            discarded: report.discarded,
            torn_tails: report.torn_tails,
            dropped_bytes: report.dropped_bytes,
            frames: report.frames,
            records: report.records,
            live: report.live,
            bytes: report.bytes,
            duration_ns: report.duration.as_nanos() as u64,
        }
    }
}
