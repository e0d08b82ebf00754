//! A pool that is damaged in one place after the other, and what each part of it is.

use std::ops::Range;

use daxite::{Database, Error};
use daxite_core::craft::tables;
use daxite_core::{HUGE, LogicalRange, Offset, PAGE, Volume};
use daxite_tests::{BAD_PAGES, Bed, Log, Shown, shown};

/// What a byte of a pool belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Superblock,
    BadPages,
    Table,
    /// The segment of this number in [`Log::segments`].
    Segment(usize),
    /// Free, or of a volume of users, which has no checksum.
    Other,
}

/// What a damaged pool must show, if it opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shows {
    /// What was written, but for damaged frames at the ends of segments without a seal.
    Written,
    /// What the log in it says: where several places are damaged at once, or one is as it was earlier, in
    /// a pool that was not closed.
    Log,
}

/// A pool in a bed of its own.
pub(crate) struct Patient {
    pub image: Vec<u8>,
    pub log: Log,
    shown: Shown,
    /// Where each part is, but for [`Part::Other`].
    parts: Vec<(Range<usize>, Part)>,
    /// Its lines that are not zero.
    pub lines: Vec<usize>,
    bed: Bed,
}

impl Patient {
    pub(crate) fn new(image: &[u8]) -> Self {
        let log = Log::of(image).unwrap();
        let page = |start: u64| start as usize..(start + PAGE) as usize;
        let mut parts: Vec<(Range<usize>, Part)> = [0, HUGE]
            .into_iter()
            .flat_map(|at| [(page(at), Part::Superblock), (page(at + PAGE), Part::BadPages)])
            .collect();
        let tables = tables(image).unwrap().into_iter();
        parts.extend(tables.map(|table| (page(table.start.0), Part::Table)));
        let segments = log.segments.iter().enumerate();
        parts.extend(segments.map(|(nth, segment)| (segment.bytes.clone(), Part::Segment(nth))));
        let lines = image.chunks_exact(64).enumerate();
        let used = lines.filter(|(_, line)| line.iter().any(|&byte| byte != 0));
        let lines = used.map(|(nth, _)| nth * 64).collect();
        let mut bed = Bed::default();
        bed.put(image);
        let shown = log.shows();
        Self { image: image.to_vec(), log, shown, parts, lines, bed }
    }

    /// What the byte at `at` belongs to, and where that is.
    pub(crate) fn part(&self, at: usize) -> (Range<usize>, Part) {
        let found = self.parts.iter().find(|(bytes, _)| bytes.contains(&at));
        found.cloned().unwrap_or((at..at + 1, Part::Other))
    }

    /// Opens the pool with `patches` in it, and answers how many frames are gone.
    ///
    /// # Errors
    /// That of opening.
    pub(crate) fn open(
        &mut self,
        patches: &[(usize, &[u8])],
        shows: Shows,
        what: &str,
    ) -> Result<usize, Error> {
        let damaged: Vec<_> = patches.iter().map(|(at, with)| *at..at + with.len()).collect();
        let (log, expected) = (&self.log, &self.shown);
        self.bed.look(patches, |database, image| {
            let found = shown(database).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(database.pool().volumes().unwrap().len() == 2, "{what}: volumes");
            assert_eq!(plain(database), PLAIN, "{what}: the other volume");
            let mut listed = database.pool().bad_pages().listed;
            listed.reverse();
            assert_eq!(listed, BAD_PAGES.map(|page| Offset(page * PAGE)), "{what}: bad pages");
            if found == *expected {
                return 0;
            }
            let left = Log::in_pool(database.pool(), image).unwrap();
            left.explains(&found).unwrap_or_else(|why| panic!("{what}: {why}"));
            if shows == Shows::Written {
                log.survives_as(&left, &damaged).unwrap_or_else(|why| panic!("{what}: {why}"));
            }
            frames(log).abs_diff(frames(&left))
        })
    }
}

/// Where the volume beside the log has its pages.
const PLAIN: [u64; 3] = [0, 5 << 20, 3 << 30];

fn plain(database: &Database) -> [u64; 3] {
    let volume: Volume = database.pool().volume("plain").unwrap().expect("a volume");
    let extents = volume.extents(LogicalRange::new(0, volume.len_bytes())).unwrap();
    let starts: Vec<u64> = extents.iter().map(|extent| extent.logical.start).collect();
    starts.try_into().expect("three extents")
}

fn frames(log: &Log) -> usize {
    let contents = log.segments.iter().flat_map(|segment| &segment.contents);
    contents.map(|contents| contents.frames.len()).sum()
}
