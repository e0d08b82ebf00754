//! Where the nodes of an index are: lines of words, in blocks that grow by doubling.
//!
//! 1. A place that once was a node of a class is a node of that class for ever, in use or free. So
//!    whoever still holds a reference to a node that was given back finds the version word of a node
//!    there, sees that it moved on, and starts over. Nothing has to wait for readers.
//! 2. The version of a place only grows, over all its lives (`node.rs`).
//! 3. Memory is given back with the arena.
//!
//! What a node holds is none of its business.

use std::io;
use std::sync::OnceLock;

use daxite_core::primitives::Mutex;
use daxite_core::primitives::atomic::{AtomicU64, Ordering};
use daxite_core::{LINE, Words};

use super::node::{Class, Node, NodeRef};
use crate::error::{Error, Result};

/// Words of a line.
pub(super) const LINE_WORDS: usize = LINE as usize / 8;
/// Lines of the first block. A model checker makes every word of a block, and its keys are few.
const FIRST_LINES: usize = if cfg!(shuttle) { 8 } else { 64 };
/// Blocks, each of twice the lines of the one before: 256 GiB in all.
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
    /// Those that were given back, by class.
    nodes: [Vec<NodeRef>; Class::ALL.len()],
    /// The block that lines are taken from, and the first that was never handed out.
    block: usize,
    line: usize,
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
        let words = self.blocks[place.block()].get().expect("a node is in a block that is there");
        let (first, class) = (place.line() * LINE_WORDS, place.class());
        Node::new(&words[first..first + class.words()], class)
    }

    /// The node at `place`, of which more than its first line will be read.
    #[inline]
    pub(super) fn expect(&self, place: NodeRef) -> Node<'_> {
        if place.class() == Class::Some {
            self.prefetch(place);
        }
        self.node(place)
    }

    /// Asks for the node at `place` to be brought near; of a direct one only the head, since of its slots
    /// one will be read.
    #[inline]
    pub(super) fn prefetch(&self, place: NodeRef) {
        if let Some(words) = self.blocks[place.block()].get() {
            let first = place.line() * LINE_WORDS;
            let lines = match place.class() {
                Class::Direct => 1,
                class => class.words() / LINE_WORDS,
            };
            (0..lines).for_each(|line| words.prefetch(first + line * LINE_WORDS));
        }
    }

    /// A node of `class` that nobody else has, locked, with nothing in it.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no memory.
    pub(super) fn allocate(&self, class: Class) -> Result<NodeRef> {
        let mut free = self.free.lock();
        let place = match free.nodes[class as usize].pop() {
            Some(place) => place,
            None => self.take_lines(&mut free, class)?,
        };
        drop(free);
        self.node(place).begin();
        Ok(place)
    }

    /// Takes back a node that no other node refers to any more, and that says so itself.
    pub(super) fn release(&self, place: NodeRef) {
        self.free.lock().nodes[place.class() as usize].push(place);
    }

    /// Bytes of memory in use.
    pub(super) fn bytes(&self) -> u64 {
        self.used_lines.load(Ordering::Relaxed) * LINE
    }

    fn take_lines(&self, free: &mut Free, class: Class) -> Result<NodeRef> {
        let lines = class.words() / LINE_WORDS;
        while free.line + lines > FIRST_LINES << free.block {
            // What is left of the block is too short for this class, and lost.
            free.block += 1;
            free.line = 0;
        }
        let Some(block) = self.blocks.get(free.block) else {
            return Err(no_memory(io::ErrorKind::OutOfMemory.into()));
        };
        if block.get().is_none() {
            let words = Words::zeroed((FIRST_LINES << free.block) * LINE_WORDS);
            let words = words.map_err(no_memory)?;
            block.get_or_init(|| words);
        }
        let place = NodeRef::new(free.block, free.line, class);
        free.line += lines;
        self.used_lines.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(place)
    }
}

pub(super) fn no_memory(source: io::Error) -> Error {
    Error::Io { op: "map memory for", path: "the index".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

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
