//! What a volume must hold and map, in the plainest way: pages of bytes, and a shape for each slot.
//!
//! 1. A page that is absent reads as zeros.
//! 2. A slot that is absent has no extent. Shapes change only by what was asked of the volume; what
//!    the volume may decide (2 MiB or 4 KiB, and when to upgrade) is learned by [`Model::settle`].
//! 3. Nothing is behind the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use daxite_core::{ExtentInfo, ExtentSize, HUGE, LogicalRange, PAGE, PAGES_PER_HUGE};

/// The extents of one slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One of 2 MiB.
    Huge,
    /// 4 KiB extents for these pages of the volume, at least one.
    Pages(BTreeSet<u64>),
}

/// What [`Model::settle`] learned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Learned {
    /// Slots without extents that got one of 2 MiB.
    pub allocated_huge: u64,
    /// Slots whose pages became one of 2 MiB.
    pub upgraded: u64,
}

/// The model of one volume.
#[derive(Clone, Debug)]
pub struct Model {
    len_bytes: u64,
    pages: BTreeMap<u64, Vec<u8>>,
    shapes: BTreeMap<u64, Shape>,
    /// Slots that had no extent when the operation under way began, and may get a huge page.
    fresh: BTreeSet<u64>,
}

impl Model {
    /// A volume that is all hole.
    pub fn new(len_bytes: u64) -> Self {
        Self { len_bytes, pages: BTreeMap::new(), shapes: BTreeMap::new(), fresh: BTreeSet::new() }
    }

    /// Its length.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The slots that have extents, in order.
    pub fn slots(&self) -> Vec<u64> {
        self.shapes.keys().copied().collect()
    }

    /// The shape of `slot`, unless it has no extent.
    pub fn shape(&self, slot: u64) -> Option<&Shape> {
        self.shapes.get(&slot)
    }

    /// Whether `page` has an extent.
    pub fn is_mapped(&self, page: u64) -> bool {
        match self.shapes.get(&(page / PAGES_PER_HUGE)) {
            None => false,
            Some(Shape::Huge) => true,
            Some(Shape::Pages(pages)) => pages.contains(&page),
        }
    }

    /// The pages that may hold something else than zeros.
    pub fn written_pages(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().copied()
    }

    /// The bytes of `range`.
    pub fn read(&self, range: LogicalRange) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(range.len_bytes as usize);
        for (page, part) in parts(range) {
            match self.pages.get(&page) {
                Some(content) => bytes.extend_from_slice(&content[part]),
                None => bytes.resize(bytes.len() + part.len(), 0),
            }
        }
        bytes
    }

    /// Whether `page` begins with `bytes`.
    pub fn begins_with(&self, page: u64, bytes: &[u8]) -> bool {
        match self.pages.get(&page) {
            Some(content) => content.starts_with(bytes),
            None => [0; PAGE as usize].starts_with(bytes),
        }
    }

    /// `bytes` were stored from `start` on; every page that they touch has an extent.
    pub fn write(&mut self, start: u64, bytes: &[u8]) {
        let range = LogicalRange::new(start, bytes.len() as u64);
        self.map(range);
        let mut rest = bytes;
        for (page, part) in parts(range) {
            let (head, tail) = rest.split_at(part.len());
            let content = self.pages.entry(page).or_insert_with(|| vec![0; PAGE as usize]);
            content[part].copy_from_slice(head);
            rest = tail;
        }
    }

    /// `range` was mapped for writing.
    pub fn map(&mut self, range: LogicalRange) {
        for (page, _) in parts(range) {
            let slot = page / PAGES_PER_HUGE;
            let shape = self.shapes.entry(slot).or_insert_with(|| {
                self.fresh.insert(slot);
                Shape::Pages(BTreeSet::new())
            });
            if let Shape::Pages(pages) = shape {
                pages.insert(page);
            }
        }
    }

    /// `range` was zeroed.
    pub fn zero(&mut self, range: LogicalRange) {
        let end = range.start + range.len_bytes;
        let touched = range.start / PAGE..end.div_ceil(PAGE);
        for (&page, content) in self.pages.range_mut(touched) {
            let start = range.start.max(page * PAGE) - page * PAGE;
            content[start as usize..(end.min((page + 1) * PAGE) - page * PAGE) as usize].fill(0);
        }
    }

    /// `range` was punched: what it covers whole has no extent any more. Behind the end of the
    /// volume there is nothing to keep.
    pub fn punch(&mut self, range: LogicalRange) {
        self.zero(range);
        let (start, mut end) = (range.start, range.start + range.len_bytes);
        if end == self.len_bytes {
            end = end.next_multiple_of(HUGE);
        }
        self.shapes.retain(|slot, shape| {
            let covered = start <= slot * HUGE && (slot + 1) * HUGE <= end;
            match shape {
                Shape::Huge => !covered,
                Shape::Pages(pages) => {
                    pages.retain(|page| page * PAGE < start || (page + 1) * PAGE > end);
                    !pages.is_empty()
                }
            }
        });
    }

    /// The volume was made `len_bytes` long.
    pub fn set_len(&mut self, len_bytes: u64) {
        if len_bytes < self.len_bytes {
            self.punch(LogicalRange::new(len_bytes, self.len_bytes - len_bytes));
        }
        self.len_bytes = len_bytes;
    }

    /// Compares `extents`, which are those of the whole volume after an operation, with the shapes,
    /// and takes over what was free to decide.
    ///
    /// # Errors
    /// What differs, in words.
    pub fn settle(&mut self, extents: &[ExtentInfo]) -> Result<Learned, String> {
        let mut learned = Learned::default();
        let mut actual = shapes_of(extents)?;
        for (slot, shape) in &mut self.shapes {
            match (actual.remove(slot), &shape) {
                (Some(found), expected) if found == **expected => {}
                (Some(Shape::Huge), Shape::Pages(_)) => {
                    match self.fresh.contains(slot) {
                        true => learned.allocated_huge += 1,
                        false => learned.upgraded += 1,
                    }
                    *shape = Shape::Huge;
                }
                (found, expected) => {
                    return Err(format!("slot {slot} has {found:?}, not {expected:?}"));
                }
            }
        }
        self.fresh.clear();
        match actual.first_key_value() {
            None => Ok(learned),
            Some((slot, shape)) => Err(format!("slot {slot} has {shape:?}, not a hole")),
        }
    }
}

fn shapes_of(extents: &[ExtentInfo]) -> Result<BTreeMap<u64, Shape>, String> {
    let mut shapes = BTreeMap::new();
    for extent in extents {
        let slot = extent.logical.start / HUGE;
        match extent.size {
            ExtentSize::Huge => {
                if shapes.insert(slot, Shape::Huge).is_some() {
                    return Err(format!("slot {slot} has extents of both sizes"));
                }
            }
            ExtentSize::Page => {
                let shape = shapes.entry(slot).or_insert_with(|| Shape::Pages(BTreeSet::new()));
                let Shape::Pages(pages) = shape else {
                    return Err(format!("slot {slot} has extents of both sizes"));
                };
                pages.extend(parts(extent.logical).map(|(page, _)| page));
            }
        }
    }
    Ok(shapes)
}

/// The pages that `range` touches, each with the part of it that is touched.
fn parts(range: LogicalRange) -> impl Iterator<Item = (u64, Range<usize>)> {
    let end = range.start + range.len_bytes;
    let pages = if range.len_bytes == 0 { 0..0 } else { range.start / PAGE..end.div_ceil(PAGE) };
    pages.map(move |page| {
        let first = range.start.max(page * PAGE) - page * PAGE;
        let last = end.min((page + 1) * PAGE) - page * PAGE;
        (page, first as usize..last as usize)
    })
}
