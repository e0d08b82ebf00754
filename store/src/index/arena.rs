//! Where the nodes of an index are: lines of words, in blocks that grow by doubling.
//!
//! 1. A place that once was a node of a class is a node of that class for ever, in use or free. So
//!    whoever still holds a reference to a node that was given back finds the version word of a node
//!    there, sees that it moved on, and starts over. Nothing has to wait for readers.
//! 2. The version of a place only grows, over all its lives (`node.rs`).
//! 3. Memory is given back with the arena.
//!
//! What a node holds is none of its business.

use std::sync::OnceLock;

use daxite_core::primitives::Mutex;
use daxite_core::primitives::atomic::{AtomicU64, Ordering};
use daxite_core::{LINE, Words};

use super::node::{Class, Node, NodeRef};
use crate::error::{Error, Result};

/// Words of a line.
pub(super) const LINE_WORDS: usize = LINE as usize / 8;
/// Lines of the first block: room for one node of each class.
const FIRST_LINES: usize = 64;
/// Blocks that a reference can name.
const BLOCKS: usize = 26;

/// All nodes of an index.
pub(super) struct Arena {
    blocks: [OnceLock<Words>; BLOCKS],
    /// Guards who gets which lines.
    free: Mutex<Free>,
    /// Lines that were handed out so far, to be nodes for ever.
    used_lines: AtomicU64,
}

#[derive(Default)]
struct Free {
    /// First lines of the nodes that were given back, by class.
    nodes: [Vec<u32>; Class::ALL.len()],
    /// The first line that was never handed out.
    next: usize,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            blocks: [const { OnceLock::new() }; BLOCKS],
            free: Mutex::new(Free::default()),
            used_lines: AtomicU64::new(0),
        }
    }

    /// The node at `place`.
    #[inline]
    pub(super) fn node(&self, place: NodeRef) -> Node<'_> {
        let (block, line) = split(place.line() as usize);
        let words = self.blocks[block].get().expect("a node is in a block that is there");
        let first = line * LINE_WORDS;
        Node::new(&words[first..first + place.class().words()], place.class())
    }

    /// A node of `class` that nobody else has, locked, with nothing in it.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no memory.
    pub(super) fn allocate(&self, class: Class) -> Result<NodeRef> {
        let mut free = self.free.lock();
        let place = match free.nodes[class as usize].pop() {
            Some(line) => NodeRef::new(line, class),
            None => self.take_lines(&mut free, class)?,
        };
        drop(free);
        self.node(place).begin();
        Ok(place)
    }

    /// Takes back a node that no other node refers to any more, and that says so itself.
    pub(super) fn release(&self, place: NodeRef) {
        self.free.lock().nodes[place.class() as usize].push(place.line());
    }

    /// Bytes of memory in use.
    pub(super) fn bytes(&self) -> u64 {
        self.used_lines.load(Ordering::Relaxed) * LINE
    }

    fn take_lines(&self, free: &mut Free, class: Class) -> Result<NodeRef> {
        let lines = class.words() / LINE_WORDS;
        loop {
            let (block, line) = split(free.next);
            let no_memory =
                |source| Error::Io { op: "map memory for", path: "the index".into(), source };
            if block == BLOCKS {
                return Err(no_memory(std::io::ErrorKind::OutOfMemory.into()));
            }
            let block_lines = FIRST_LINES << block;
            if line + lines > block_lines {
                // What is left of a block is too short for this class, and lost.
                free.next += block_lines - line;
                continue;
            }
            if self.blocks[block].get().is_none() {
                let words = Words::zeroed(block_lines * LINE_WORDS).map_err(no_memory)?;
                self.blocks[block].get_or_init(|| words);
            }
            let first = u32::try_from(free.next).expect("blocks are limited");
            free.next += lines;
            self.used_lines.fetch_add(lines as u64, Ordering::Relaxed);
            return Ok(NodeRef::new(first, class));
        }
    }
}

/// The block of line `no`, and which of its lines it is. Block `n` has `FIRST_LINES << n` lines.
#[inline]
fn split(no: usize) -> (usize, usize) {
    let shifted = no + FIRST_LINES;
    let block = (shifted / FIRST_LINES).ilog2() as usize;
    (block, shifted - (FIRST_LINES << block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_double() {
        assert_eq!(split(0), (0, 0));
        assert_eq!(split(63), (0, 63));
        assert_eq!(split(64), (1, 0));
        assert_eq!(split(191), (1, 127));
        assert_eq!(split(192), (2, 0));
        assert_eq!(split(u32::MAX as usize).0, BLOCKS);
    }

    #[test]
    fn a_place_given_back_is_used_for_its_class_again() {
        let arena = Arena::new();
        let places: Vec<_> = (0..100).map(|_| arena.allocate(Class::Direct).unwrap()).collect();
        let bytes = arena.bytes();
        for place in &places {
            arena.node(*place).retire_unshared();
            arena.release(*place);
        }
        let other = arena.allocate(Class::Few).unwrap();
        assert!(!places.contains(&other));
        for _ in 0..100 {
            assert!(places.contains(&arena.allocate(Class::Direct).unwrap()));
        }
        assert_eq!(arena.bytes(), bytes + LINE);
    }
}
