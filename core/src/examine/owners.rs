//! Who has which pages of a pool: whoever claimed them first.
//!
//! 1. A page has one owner. Whoever claims it later is told by whom it is held, and changes nothing.
//! 2. Extents that are neighbours in pool and volume are kept as one run.
//!
//! Knows nothing of words or tables; unlike the allocator it can say who.

use std::collections::BTreeMap;

use crate::extent_map::LEVEL_BITS;
use crate::units::{LogicalPage, PageNo, PageRun};

/// Whose a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Superblock,
    /// A copy of the list of bad pages.
    BadPages,
    /// The map of `volume`, as its table of `level` for what starts at `logical`.
    Table {
        volume: usize,
        level: u32,
        logical: LogicalPage,
    },
    /// `volume`, where it holds what stands at `logical`.
    Extent {
        volume: usize,
        logical: LogicalPage,
    },
}

impl Owner {
    /// Whether this is a table of a map, under which `other` is a table or an extent.
    pub(super) fn is_above(self, other: Self) -> bool {
        let Self::Table { volume, level, logical } = self else { return false };
        let (under, at) = match other {
            Self::Superblock | Self::BadPages => return false,
            Self::Table { level: lower, .. } if lower >= level => return false,
            Self::Table { volume, logical, .. } | Self::Extent { volume, logical } => {
                (volume, logical)
            }
        };
        let reach = LEVEL_BITS * (level + 1);
        under == volume && at.0 >> reach == logical.0 >> reach
    }

    /// The owner of the page that is `pages` pages further on in its run.
    fn at(self, pages: u64) -> Self {
        match self {
            Self::Extent { volume, logical } => {
                Self::Extent { volume, logical: LogicalPage(logical.0 + pages) }
            }
            one_page => one_page,
        }
    }
}

/// A page that is claimed already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Taken {
    pub page: PageNo,
    pub by: Owner,
}

/// The owners of all pages claimed so far.
#[derive(Default)]
pub(super) struct Owners {
    /// By first page.
    runs: BTreeMap<u64, Run>,
}

struct Run {
    pages: u64,
    /// Of the first page.
    owner: Owner,
}

impl Owners {
    /// Gives `run` to `owner`.
    ///
    /// # Errors
    /// The first page of it that is [`Taken`]; then nothing is changed.
    pub(super) fn claim(&mut self, run: PageRun, owner: Owner) -> Result<(), Taken> {
        if let Some(taken) = self.taken(run) {
            return Err(taken);
        }
        let first = run.first.0;
        match self.runs.range_mut(..first).next_back() {
            Some((start, before))
                if start + before.pages == first && before.owner.at(before.pages) == owner =>
            {
                before.pages += run.pages;
            }
            _ => drop(self.runs.insert(first, Run { pages: run.pages, owner })),
        }
        Ok(())
    }

    fn taken(&self, run: PageRun) -> Option<Taken> {
        let first = run.first.0;
        let before = self.runs.range(..=first).next_back();
        let (start, held) = before
            .filter(|(start, held)| *start + held.pages > first)
            .or_else(|| self.runs.range(first..first + run.pages).next())?;
        let page = first.max(*start);
        Some(Taken { page: PageNo(page), by: held.owner.at(page - start) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, pages: u64) -> PageRun {
        PageRun { first: PageNo(first), pages }
    }

    fn extent(volume: usize, logical: u64) -> Owner {
        Owner::Extent { volume, logical: LogicalPage(logical) }
    }

    #[test]
    fn a_page_that_is_held_names_its_holder_and_stays_with_it() {
        let mut owners = Owners::default();
        owners.claim(run(512, 512), extent(0, 2048)).unwrap();
        let inside = Taken { page: PageNo(600), by: extent(0, 2048 + 88) };
        assert_eq!(owners.claim(run(600, 1), extent(1, 7)), Err(inside));
        assert_eq!(owners.claim(run(511, 1), extent(1, 7)), Ok(()));
        assert_eq!(owners.claim(run(1024, 1), Owner::Superblock), Ok(()));
        let around = Taken { page: PageNo(511), by: extent(1, 7) };
        assert_eq!(owners.claim(run(0, 2048), extent(2, 0)), Err(around));
        assert_eq!(owners.claim(run(0, 511), extent(2, 0)), Ok(()));
    }

    #[test]
    fn neighbours_in_pool_and_volume_are_one_run() {
        let mut owners = Owners::default();
        for page in 0..100 {
            owners.claim(run(page, 1), extent(0, 40 + page)).unwrap();
        }
        assert_eq!(owners.runs.len(), 1);
        let held = Taken { page: PageNo(99), by: extent(0, 139) };
        assert_eq!(owners.claim(run(99, 1), extent(0, 139)), Err(held));
        owners.claim(run(100, 1), extent(0, 141)).unwrap();
        owners.claim(run(101, 1), extent(1, 142)).unwrap();
        assert_eq!(owners.runs.len(), 3);
    }
}
