//! What happens in a cycle, drawn from the seed: the same in all its processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daxite::{Options, daxite_core::PAGE};
use daxite_tests::{Event, KeyNo, Random};

/// Keys of the test, half of them in each of two keyspaces. As many as a clear can name in one event.
pub(crate) const KEYS: KeyNo = 1200;
/// The names of the keyspaces.
pub(crate) const KEYSPACES: [&str; 2] = ["even", "odd"];
/// Keys whose number is a multiple of it are long.
const LONG_KEY_EVERY: KeyNo = 17;

/// Which of the two pools.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PoolKind {
    /// Segments of 4 KiB pages; so small that every cycle reclaims.
    Pages,
    /// Segments of huge pages.
    Huge,
}

/// When the process is killed: some time after this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Trigger {
    Opening,
    Working,
    Reclaiming,
    Closing,
}

/// How the next process looks at the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Without a change, so that the next cycle begins with a recovery.
    ReadOnly,
    /// By a recovery; then it goes as if it had crashed.
    Recover,
    /// By a recovery and a reclaim, and closes it.
    ReclaimAndClose,
}

/// What happens in a cycle.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) cycle: u32,
    pub(crate) pool: PoolKind,
    pub(crate) threads: u16,
    pub(crate) lanes: Option<usize>,
    pub(crate) trigger: Trigger,
    /// How long after it.
    pub(crate) delay: Duration,
    /// Keys that threads use in this cycle: the fewer, the more often they meet.
    pub(crate) keys: KeyNo,
    /// A thread reclaims about once in so many operations.
    pub(crate) reclaim_every: u64,
    /// How long a process works that closes the pool itself.
    pub(crate) closes_after: Option<Duration>,
    pub(crate) look: Look,
}

impl PoolKind {
    pub(crate) fn len_bytes(self) -> u64 {
        match self {
            Self::Pages => 8 << 20,
            Self::Huge => 96 << 20,
        }
    }

    /// Pages of a segment: the target of `store/src/space.rs`.
    pub(crate) fn segment_bytes(self) -> u64 {
        match self {
            Self::Pages => self.len_bytes() / 32,
            Self::Huge => 2 << 20,
        }
    }

    /// The longest value: such that all keys together take less than half of the pool.
    pub(crate) fn value_max(self) -> u64 {
        self.len_bytes() / 240
    }
}

impl Trigger {
    /// Whether `event` is the moment.
    pub(crate) fn is(self, event: &Event) -> bool {
        match self {
            Self::Opening => matches!(event, Event::Opening),
            Self::Working => matches!(event, Event::End { .. }),
            Self::Reclaiming => matches!(event, Event::Reclaiming),
            Self::Closing => matches!(event, Event::Closing),
        }
    }
}

impl Plan {
    /// The plan of `cycle`.
    pub(crate) fn new(seed: u64, cycle: u32, pool: PoolKind) -> Self {
        let mut random = Random::new(seed << 32 | u64::from(cycle) << 1 | pool as u64);
        // The first numbers of neighbouring seeds are alike.
        (0..8).for_each(|_| _ = random.below(2));
        let trigger = match random.below(20) {
            0..=3 => Trigger::Opening,
            4..=6 => Trigger::Reclaiming,
            7..=9 => Trigger::Closing,
            _ => Trigger::Working,
        };
        let most_us = match trigger {
            Trigger::Opening => 1 + pool.len_bytes() / 2000,
            Trigger::Working => 60_000,
            Trigger::Reclaiming => 4_000,
            Trigger::Closing => 1_000,
        };
        let delay = Duration::from_micros(random.below(most_us));
        let closes = trigger == Trigger::Closing || random.below(10) == 0;
        Self {
            seed,
            cycle,
            pool,
            threads: if random.below(4) == 0 { 1 } else { 1 + random.below(32) as u16 },
            lanes: random.pick(&[None, Some(1), Some(2), Some(3), Some(16)]),
            trigger,
            delay,
            keys: random.pick(&[3, 50, KEYS, KEYS]),
            reclaim_every: if trigger == Trigger::Reclaiming { 50 } else { 2000 },
            closes_after: closes.then(|| Duration::from_micros(1 + random.below(40_000))),
            look: random.pick(&[Look::ReadOnly, Look::Recover, Look::ReclaimAndClose]),
        }
    }

    /// As one line, with the path of the pool, for the process of `role`.
    pub(crate) fn part(&self, role: &str, path: &Path) -> String {
        let kind = match self.pool {
            PoolKind::Pages => "pages",
            PoolKind::Huge => "huge",
        };
        let path = path.to_str().expect("a path of plain text");
        format!("{role} {} {} {kind} {path}", self.seed, self.cycle)
    }

    /// The plan and the path of such a line, behind its role.
    pub(crate) fn parse(part: &str) -> (Self, PathBuf) {
        let words: Vec<&str> = part.splitn(4, ' ').collect();
        let [seed, cycle, kind, path] = words[..] else { panic!("{part:?} is no part") };
        let pool = if kind == "pages" { PoolKind::Pages } else { PoolKind::Huge };
        let (seed, cycle) = (seed.parse().expect("a seed"), cycle.parse().expect("a cycle"));
        (Self::new(seed, cycle, pool), PathBuf::from(path))
    }

    pub(crate) fn options(&self) -> Options {
        let options = Options::new();
        match self.lanes {
            Some(lanes) => options.lanes(lanes),
            None => options,
        }
    }

    /// Bytes of the pool that may be in use when `live_bytes` of records are, after a reclaim:
    /// segments that have an eighth to gain are emptied, which leaves room for a seventh and what does
    /// not divide; every lane has a segment open, and the lane of reclaim too.
    pub(crate) fn used_bytes_max(&self, live_bytes: u64, lanes: u64) -> u64 {
        let tables_and_superblocks = 8 * PAGE;
        live_bytes * 4 / 3 + (lanes + 2) * self.pool.segment_bytes() + tables_and_superblocks
    }
}

/// The bytes of a key.
pub(crate) fn key_bytes(key: KeyNo) -> Vec<u8> {
    let mut bytes = format!("{key:05}").into_bytes();
    if key.is_multiple_of(LONG_KEY_EVERY) {
        bytes.resize(300, b'x');
    }
    bytes
}

/// The key with these bytes, if it is one.
pub(crate) fn key_of(bytes: &[u8]) -> Option<KeyNo> {
    let key: KeyNo = std::str::from_utf8(bytes.get(..5)?).ok()?.parse().ok()?;
    (key < KEYS && key_bytes(key) == bytes).then_some(key)
}

/// The keyspace of a key.
pub(crate) fn keyspace_of(key: KeyNo) -> usize {
    usize::from(key) % KEYSPACES.len()
}
