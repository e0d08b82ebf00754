//! Call sites: the places in the code that store, write back or fence.

use std::fmt;
use std::panic::Location;

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Act {
    /// Bytes are stored.
    Store,
    /// Lines are written back. A store past the cache does this, too.
    WriteBack,
    /// What was written back is waited for.
    Fence,
}

/// A place in the code that does something to a medium.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Site {
    /// As the compiler names it.
    pub file: &'static str,
    /// From 1 on.
    pub line: u32,
    /// From 1 on.
    pub column: u32,
    /// What it does there.
    pub act: Act,
}

impl Site {
    /// The place that called the caller.
    #[track_caller]
    pub(crate) fn here(act: Act) -> Self {
        let place = Location::caller();
        Self { file: place.file(), line: place.line(), column: place.column(), act }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let act = match self.act {
            Act::Store => "store",
            Act::WriteBack => "write-back",
            Act::Fence => "fence",
        };
        write!(f, "{}:{}:{} {act}", self.file, self.line, self.column)
    }
}
