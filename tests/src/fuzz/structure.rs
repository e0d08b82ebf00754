//! Structures that say what cannot be, under checksums that are right.
//!
//! An input chooses one of two pools, and some changes: a field of a structure gets another number, a
//! word names another page, a structure is copied over another. Then all that was touched is signed
//! again. Allowed is an error that names the place, or an opening that shows what the log says then, and
//! goes on from there.

use std::sync::OnceLock;

use daxite::craft::{frame_fields, header_fields, record_fields, seal_fields};
use daxite_core::craft::{
    Field, Table, bad_pages_fields, sign_bad_pages, sign_superblock, superblock_fields, tables,
    volume_fields,
};
use daxite_core::{HUGE, LINE, PAGE};

use super::input::Input;
use super::trial::tried;
use crate::{Log, LogSegment, Subject};

/// The most changes that an input makes.
const CHANGES_MAX: usize = 12;
const SUPERBLOCKS: [usize; 2] = [0, HUGE as usize];
const BAD_PAGES: [usize; 2] = [PAGE as usize, (HUGE + PAGE) as usize];
const LINE_BYTES: usize = LINE as usize;
const PAGE_BYTES: usize = PAGE as usize;
/// Volume records in a superblock.
const VOLUMES: usize = 60;

/// A pool, and where its structures are.
struct Base {
    image: Vec<u8>,
    tables: Vec<Table>,
    segments: Vec<LogSegment>,
    /// What stands in its fields: numbers that mean something.
    numbers: Vec<u64>,
    /// Pages of tables, of segments, of superblocks, at the end.
    pages: Vec<u64>,
}

fn bases() -> &'static [Base; 2] {
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
    BASES.get_or_init(|| {
        let Subject { killed, closed, .. } = Subject::new(0);
        [killed, closed].map(Base::new)
    })
}

impl Base {
    fn new(image: Vec<u8>) -> Self {
        let tables = tables(&image).expect("a sound pool");
        let segments = Log::of(&image).expect("a sound pool").segments;
        let mut pages: Vec<u64> = tables.iter().map(|table| table.start.0 / PAGE).collect();
        for segment in &segments {
            pages.extend([segment.bytes.start as u64 / PAGE, segment.bytes.end as u64 / PAGE]);
        }
        let end = image.len() as u64 / PAGE;
        pages.extend([0, 1, HUGE / PAGE, end - 1, end, (1 << 40) - 1]);
        let mut base = Self { image, tables, segments, numbers: Vec::new(), pages };
        base.numbers = base.meaningful();
        base
    }

    /// The numbers in the fields of its structures.
    fn meaningful(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut take = |fields: Vec<Field>, at: usize| {
            for field in fields.iter().filter(|field| field.len_bytes <= 8) {
                numbers.push(read(&self.image[at + field.start..][..field.len_bytes]));
            }
        };
        take(superblock_fields(), 0);
        take(bad_pages_fields(), BAD_PAGES[0]);
        (0..2).for_each(|record| take(volume_fields(), volume_start(0, record)));
        for segment in &self.segments {
            take(header_fields(), segment.bytes.start);
            take(seal_fields(), segment.bytes.end - LINE_BYTES);
            let frames = segment.contents.iter().flat_map(|contents| &contents.frames);
            frames.for_each(|frame| take(frame_fields(), segment.bytes.start + frame.start));
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// What an input does to a pool.
struct Crafted<'a> {
    base: &'a Base,
    image: Vec<u8>,
    /// What must be signed again.
    superblocks: [bool; 2],
    bad_pages: [bool; 2],
    segments: Vec<bool>,
}

pub(super) fn run(bytes: &[u8]) -> String {
    let mut input = Input::new(bytes);
    let base = input.pick(bases());
    let mut crafted = Crafted {
        base,
        image: base.image.clone(),
        superblocks: [false; 2],
        bad_pages: [false; 2],
        segments: vec![false; base.segments.len()],
    };
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        crafted.change(&mut input);
    }
    crafted.sign();
    tried(&crafted.image, |_| {})
}

impl Crafted<'_> {
    fn change(&mut self, input: &mut Input<'_>) {
        match input.below(13) {
            0 => self.superblock(input, superblock_fields(), 0),
            1 => {
                // Records that are used, mostly.
                let record = [0, 1, 2, VOLUMES - 1][input.below(4)];
                self.superblock(input, volume_fields(), volume_start(0, record));
            }
            2 => self.copy_volume(input),
            3..=5 => self.word(input),
            6 => {
                let nth = self.segment(input);
                let bytes = self.base.segments[nth].bytes.clone();
                let copy = bytes.end - 2 * LINE_BYTES;
                // Both, the header, or its copy.
                let places = [bytes.start, copy];
                let places = [&places[..], &places[..1], &places[1..]][input.below(3)];
                self.set_in(input, &header_fields(), places);
            }
            7 => {
                let nth = self.segment(input);
                let seal = self.base.segments[nth].bytes.end - LINE_BYTES;
                self.set_in(input, &seal_fields(), &[seal]);
            }
            8 => {
                if let Some(frame) = self.frame(input) {
                    self.set_in(input, &frame_fields(), &[frame.start]);
                }
            }
            9 | 10 => self.record(input),
            11 => self.copy_frame(input),
            _ => self.bad_pages(input),
        }
    }

    /// Sets a field, `start` bytes from the start of a superblock or of both.
    fn superblock(&mut self, input: &mut Input<'_>, fields: Vec<Field>, start: usize) {
        let copies: &[usize] = [&[0, 1][..], &[0], &[1]][input.below(3)];
        let places: Vec<usize> = copies.iter().map(|&copy| SUPERBLOCKS[copy] + start).collect();
        copies.iter().for_each(|&copy| self.superblocks[copy] = true);
        self.set_in(input, &fields, &places);
    }

    /// Sets a field of a copy of the list of bad pages, or of both.
    fn bad_pages(&mut self, input: &mut Input<'_>) {
        let copies: &[usize] = [&[0, 1][..], &[0], &[1]][input.below(3)];
        let places: Vec<usize> = copies.iter().map(|&copy| BAD_PAGES[copy]).collect();
        copies.iter().for_each(|&copy| self.bad_pages[copy] = true);
        self.set_in(input, &bad_pages_fields(), &places);
    }

    /// Copies a record of the volume table over another, with an id and a name of its own if the input
    /// wants to, so that a map has two volumes.
    fn copy_volume(&mut self, input: &mut Input<'_>) {
        let (from, to) = (input.below(2), input.below(4));
        let is_another = input.below(4) > 0;
        for (copy, superblock) in SUPERBLOCKS.into_iter().enumerate() {
            let record = volume_start(superblock, from);
            let to = volume_start(superblock, to);
            self.image.copy_within(record..record + size_of_volume(), to);
            if is_another {
                // The id, and the first letter of the name.
                self.image[to] = 9;
                self.image[to + 5] = b'X';
                self.image[superblock + 96] = 10;
            }
            self.superblocks[copy] = true;
        }
    }

    /// Lets a word of a table say something else.
    fn word(&mut self, input: &mut Input<'_>) {
        let table = input.pick(&self.base.tables);
        // Words that are in use, mostly.
        let words = self.image[table.start.0 as usize..][..PAGE_BYTES].chunks_exact(8);
        let used: Vec<usize> =
            words.enumerate().filter(|(_, word)| word[0] != 1).map(|(nth, _)| nth).collect();
        let nth = match input.below(4) {
            0 => input.below(PAGE_BYTES / 8),
            _ if used.is_empty() => 0,
            _ => *input.pick(&used),
        };
        let at = table.start.0 as usize + nth * 8;
        let old = read(&self.image[at..at + 8]) & ((1 << 48) - 1);
        let payload = match input.below(8) {
            0 => self.number(input, old),
            // A hole.
            1 => 1,
            // What another word says.
            2 => {
                let other = input.pick(&self.base.tables).start.0 as usize;
                read(&self.image[other + input.below(PAGE_BYTES / 8) * 8..][..8])
            }
            3 | 4 => old & 0xff | input.pick(&self.base.pages) << 8,
            5 => (old & !0xff) | input.below(256) as u64,
            _ => [2, 3, 4][input.below(3)] | input.pick(&self.base.pages) << 8,
        };
        let word = table.signed(nth as u64, payload & ((1 << 48) - 1));
        self.image[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    /// Lets a record say something else: a field, a byte of key or value, or the number it brings along.
    fn record(&mut self, input: &mut Input<'_>) {
        let Some(frame) = self.frame(input) else { return };
        let starts = &self.base.segments[frame.segment].contents.as_ref().expect("it has frames");
        let records = &starts.frames[frame.nth].records;
        let base = self.base.segments[frame.segment].bytes.start;
        let record = base + input.pick(records).start;
        match input.below(3) {
            0 | 1 => self.set_in(input, &record_fields(), &[record]),
            _ => {
                let at = record + 12 + input.below(32);
                if at < base + frame.end {
                    self.image[at] = input.byte();
                }
            }
        }
    }

    /// Copies a frame over another one, or behind the last one of a segment.
    fn copy_frame(&mut self, input: &mut Input<'_>) {
        let (Some(from), Some(to)) = (self.frame(input), self.frame(input)) else { return };
        let target = &self.base.segments[to.segment];
        let to = match input.below(2) {
            0 => to.start,
            _ => {
                let frames = &target.contents.as_ref().expect("it has frames").frames;
                let last = frames.last().expect("it has frames");
                target.bytes.start + last.start + last.len_bytes
            }
        };
        let source = self.base.segments[from.segment].bytes.start;
        let bytes = from.start..source + from.end;
        if to + bytes.len() <= target.bytes.end - 2 * LINE_BYTES {
            self.image.copy_within(bytes, to);
        }
    }

    /// A segment, which is signed again.
    fn segment(&mut self, input: &mut Input<'_>) -> usize {
        let nth = input.below(self.base.segments.len());
        self.segments[nth] = true;
        nth
    }

    /// A frame of a segment, which is signed again.
    fn frame(&mut self, input: &mut Input<'_>) -> Option<FramePlace> {
        let segment = self.segment(input);
        let LogSegment { bytes, contents, .. } = &self.base.segments[segment];
        let frames = &contents.as_ref().expect("a sound pool").frames;
        if frames.is_empty() {
            return None;
        }
        // The last ones as often as all others.
        let nth = match input.below(2) {
            0 => frames.len() - 1 - input.below(frames.len().min(3)),
            _ => input.below(frames.len()),
        };
        let frame = &frames[nth];
        let end = frame.start + frame.len_bytes;
        Some(FramePlace { segment, nth, start: bytes.start + frame.start, end })
    }

    /// Sets one of `fields` in each of the structures that start at `places`.
    fn set_in(&mut self, input: &mut Input<'_>, fields: &[Field], places: &[usize]) {
        let field = input.pick(fields);
        let len_bytes = field.len_bytes.min(8);
        let within = field.start + input.below(field.len_bytes.div_ceil(8)) * 8;
        let within = within.min(field.start + field.len_bytes - len_bytes);
        let old = read(&self.image[places[0] + within..][..len_bytes]);
        let new = self.number(input, old).to_le_bytes();
        for place in places {
            self.image[place + within..][..len_bytes].copy_from_slice(&new[..len_bytes]);
        }
    }

    /// A number in place of `old`.
    fn number(&self, input: &mut Input<'_>, old: u64) -> u64 {
        match input.below(10) {
            0 => 0,
            1 => u64::MAX,
            2 => old.wrapping_add(1),
            3 => old.wrapping_sub(1),
            4 => 1 << input.below(64),
            5 => (1 << input.below(64)) - 1,
            6 => old ^ 1 << input.below(64),
            7 => input.number(8),
            8 => input.number(1),
            _ => *input.pick(&self.base.numbers),
        }
    }

    /// Gives everything that was touched the checksums of what it says.
    fn sign(&mut self) {
        for (superblock, _) in
            SUPERBLOCKS.iter().zip(self.superblocks).filter(|(_, touched)| *touched)
        {
            sign_superblock(&mut self.image[*superblock..][..PAGE_BYTES]);
        }
        let uuid: [u8; 16] = self.image[24..40].try_into().expect("16 bytes");
        for (list, _) in BAD_PAGES.iter().zip(self.bad_pages).filter(|(_, touched)| *touched) {
            sign_bad_pages(&mut self.image[*list..][..PAGE_BYTES], &uuid);
        }
        for (segment, _) in
            self.base.segments.iter().zip(&self.segments).filter(|(_, touched)| **touched)
        {
            sign_segment(segment, &mut self.image[segment.bytes.clone()]);
        }
    }
}

/// A frame that is to be changed.
struct FramePlace {
    /// The segment, and the frame in it.
    segment: usize,
    nth: usize,
    /// In bytes from the start of the pool.
    start: usize,
    /// In bytes from the start of the segment.
    end: usize,
}

/// Signs header, copy, frames and seal for what they say. Frames follow each other as their lengths say,
/// from the first to where no more can be.
fn sign_segment(segment: &LogSegment, bytes: &mut [u8]) {
    let place = segment.place;
    let (copy, seal) = (bytes.len() - 2 * LINE_BYTES, bytes.len() - LINE_BYTES);
    let birth = read(&bytes[16..24]);
    for at in [0, copy, seal] {
        let line = &mut bytes[at..at + LINE_BYTES];
        // A segment without a seal stays one.
        if line.iter().any(|&byte| byte != 0) {
            place.sign_line(line, at as u64);
        }
    }
    let contents = segment.contents.as_ref().expect("a sound pool");
    let last = contents.frames.last().map_or(0, |frame| frame.start + frame.len_bytes);
    let mut at = LINE_BYTES;
    // Beyond the last frame of the sound pool there is one at most, copied there.
    while at < copy && (at <= last) {
        let len_bytes = read(&bytes[at + 16..at + 20]) as usize;
        let lines = at..at + len_bytes.next_multiple_of(LINE_BYTES);
        if len_bytes == 0 || lines.end > copy {
            break;
        }
        place.sign_frame(&mut bytes[lines.clone()], at as u64, birth);
        at = lines.end;
    }
}

fn volume_start(superblock: usize, record: usize) -> usize {
    let volumes = superblock_fields().pop().expect("the last field is the table");
    superblock + volumes.start + record * size_of_volume()
}

fn size_of_volume() -> usize {
    volume_fields().last().map_or(0, |field| field.start + field.len_bytes)
}

fn read(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(number)
}
