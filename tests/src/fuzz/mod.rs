//! Fuzzing: what any bytes may lead to.
//!
//! A target is a function of bytes, which it decodes into what to do; it panics if a promise is broken,
//! and else says in few words what it came to. The same targets are driven by [`run`], a mutator
//! without any tool, and by cargo-fuzz (`tests/fuzz`).
//!
//! 1. The same bytes lead to the same, on every machine.
//! 2. Any bytes are an input; where they end, zeros follow.
//!
//! `input` decodes, `mutate` varies, `driver` runs and makes failures small, `memory` counts,
//! `trial` judges an image; the targets are `structure`, `image` and `operations`.

mod driver;
mod input;
mod memory;
mod mutate;
mod trial;

mod image;
mod operations;
mod structure;

pub use driver::run;
pub use memory::Counting;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its test too.
    pub name: &'static str,
    /// What it does with bytes. Inputs that come to something new are built upon.
    pub run: fn(&[u8]) -> String,
}

/// Structures that say what cannot be, under checksums that are right.
pub const STRUCTURE: Target = Target { name: "structure", run: structure::run };
/// Images with bytes of anything, anywhere.
pub const IMAGE: Target = Target { name: "image", run: image::run };
/// Operations on a database, compared with a `BTreeMap`.
pub const OPERATIONS: Target = Target { name: "operations", run: operations::run };
