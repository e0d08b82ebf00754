//! Promises P5 and P7 under bytes that someone thought about, and P1 under operations that nobody did.
//!
//! Method: the targets of `tests/src/fuzz`, each for `DAXITE_FUZZ_SECONDS`, on inputs that a mutator
//! varies from what came to something new. Structures are changed and signed again, images are changed
//! anywhere, and a database meets operations in any order. A failure means a panic, a wrong value, a
//! hang, or too much memory; it prints a line that repeats it.

use daxite_tests::fuzz::{Counting, IMAGE, OPERATIONS, STRUCTURE, run};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn structure() {
    run(&STRUCTURE);
}

#[test]
fn image() {
    run(&IMAGE);
}

#[test]
fn operations() {
    run(&OPERATIONS);
}
