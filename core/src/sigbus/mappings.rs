//! The mappings of pools, to be looked through in a signal handler.
//!
//! 1. Nodes are only ever added, and used again when a mapping goes: whoever walks the list meets
//!    live memory, whatever happens meanwhile.
//! 2. A node that is not in use has length 0, so that it holds no address.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

struct Node {
    start: AtomicUsize,
    len_bytes: AtomicUsize,
    in_use: AtomicBool,
    next: AtomicPtr<Node>,
}

static FIRST: AtomicPtr<Node> = AtomicPtr::new(ptr::null_mut());

/// A mapping that is on the list while this lives. The mapping lives longer.
pub(crate) struct Registered(&'static Node);

impl Registered {
    /// Puts the `len_bytes` bytes from `start` on on the list.
    pub(crate) fn new(start: usize, len_bytes: usize) -> Self {
        let idle = nodes().find(|node| {
            // ORDERING: Acquire; pairs with the Release in `drop`.
            let taken =
                node.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            taken.is_ok()
        });
        let node = idle.unwrap_or_else(|| add_node());
        node.start.store(start, Ordering::Relaxed);
        // ORDERING: Release; pairs with the Acquire in `contains`: who sees the length sees the start.
        node.len_bytes.store(len_bytes, Ordering::Release);
        Self(node)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.len_bytes.store(0, Ordering::Release);
        self.0.in_use.store(false, Ordering::Release);
    }
}

/// Whether `address` is in a mapping on the list.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "asked by the handler only"))]
pub(super) fn contains(address: usize) -> bool {
    nodes().any(|node| {
        let len_bytes = node.len_bytes.load(Ordering::Acquire);
        address.wrapping_sub(node.start.load(Ordering::Relaxed)) < len_bytes
    })
}

fn add_node() -> &'static Node {
    // Never freed: as many as there were pools open at once.
    let node = Box::leak(Box::new(Node {
        start: AtomicUsize::new(0),
        len_bytes: AtomicUsize::new(0),
        in_use: AtomicBool::new(true),
        next: AtomicPtr::new(ptr::null_mut()),
    }));
    let mut first = FIRST.load(Ordering::Relaxed);
    loop {
        node.next.store(first, Ordering::Relaxed);
        // ORDERING: Release; pairs with the Acquire in `nodes`.
        match FIRST.compare_exchange(first, node, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return node,
            Err(other) => first = other,
        }
    }
}

fn nodes() -> impl Iterator<Item = &'static Node> {
    let load = |pointer: &AtomicPtr<Node>| {
        // ORDERING: Acquire; pairs with the Release in `add_node`.
        let node = pointer.load(Ordering::Acquire);
        // SAFETY: what is on the list was leaked, and is never freed.
        unsafe { node.as_ref() }
    };
    std::iter::successors(load(&FIRST), move |node| load(&node.next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_while_its_mapping_is_registered() {
        // Nothing is ever mapped there.
        let start = usize::MAX - 9000;
        let first = Registered::new(start, 100);
        let second = Registered::new(start + 4096, 50);
        assert!(!contains(start - 1) && contains(start) && contains(start + 99));
        assert!(!contains(start + 100) && contains(start + 4096 + 49));
        drop(first);
        assert!(!contains(start) && contains(start + 4096));
        let third = Registered::new(start + 200, 1);
        assert!(contains(start + 200));
        drop((second, third));
        assert!(!contains(start + 200) && !contains(start + 4096));
    }
}
