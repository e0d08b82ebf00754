//! Pages that met a media error, as `info`, `check` and `scrub` tell them.

use daxite::daxite_core::{self, Offset};
use serde::Serialize;

use crate::size::{counted, grouped};

/// How many are named to a person; JSON has all.
const NAMED_MAX: usize = 4;

/// Pages that are given to nobody, in bytes from the start of the pool.
#[derive(Serialize)]
pub(crate) struct BadPages {
    /// On the list of the pool.
    listed: Vec<u64>,
    /// Known, and without a place there.
    unlisted: Vec<u64>,
}

impl BadPages {
    /// What the pool knows.
    pub(crate) fn of(pages: &daxite_core::BadPages) -> Self {
        Self { listed: starts(&pages.listed), unlisted: starts(&pages.unlisted) }
    }

    /// What is `listed` in a pool that nobody has open.
    pub(crate) fn on_medium(listed: &[Offset]) -> Self {
        Self { listed: starts(listed), unlisted: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.unlisted.is_empty()
    }

    /// How many there are, and the first ones.
    pub(crate) fn text(&self) -> String {
        let all = self.listed.iter().chain(&self.unlisted);
        let first: Vec<String> = all.take(NAMED_MAX).map(|page| format!("{page:#x}")).collect();
        let mut text = counted(self.listed.len() as u64, "page is listed", "pages are listed");
        if !self.unlisted.is_empty() {
            text += &format!(", {} found no place", grouped(self.unlisted.len() as u64));
        }
        if !first.is_empty() {
            let more = self.listed.len() + self.unlisted.len() > first.len();
            text += &format!(", at {}{}", first.join(", "), if more { ", ..." } else { "" });
        }
        text
    }
}

fn starts(pages: &[Offset]) -> Vec<u64> {
    pages.iter().map(|page| page.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_how_many_and_where_the_first_are() {
        let of = |listed: &[u64], unlisted: &[u64]| {
            BadPages { listed: listed.to_vec(), unlisted: unlisted.to_vec() }.text()
        };
        assert_eq!(of(&[], &[]), "0 pages are listed");
        assert_eq!(of(&[0x1000], &[]), "1 page is listed, at 0x1000");
        assert_eq!(
            of(&[1, 2, 3], &[4, 5]),
            "3 pages are listed, 2 found no place, at 0x1, 0x2, 0x3, 0x4, ..."
        );
    }
}
