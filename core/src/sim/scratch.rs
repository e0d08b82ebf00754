//! A pool image that is opened again and again, each time with other bytes in a few places.

use std::collections::HashMap;
use std::sync::Arc;

use super::bench::{Bench, Wreck};
use super::shadow::{Floor, Ground};
use super::strategy::Strategy;
use crate::error::Result;
use crate::pool::Pool;
use crate::units::{ByteRange, LINE, Offset, lines};

/// Bytes in the place of others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patch {
    /// In bytes from the start of the pool.
    pub offset: u64,
    /// What is there instead.
    pub bytes: Vec<u8>,
}

/// Memory with the image of a pool. Opening it costs what opening costs, not a copy of the image.
pub struct Scratch {
    ground: Arc<Ground>,
    bench: Bench,
}

impl Scratch {
    /// Holds `image`, whole pages.
    pub fn new(image: &[u8]) -> Self {
        let ground = Arc::new(Ground::of_image(image));
        let bench = Bench::of(&ground);
        Self { ground, bench }
    }

    /// Opens the image with `patches` in it, and puts it back in order. A panic of `act` is an error
    /// that says what it said.
    ///
    /// # Errors
    /// What the panic said.
    pub fn run<R>(
        &mut self,
        patches: &[Patch],
        act: impl FnOnce(Result<Pool>) -> R,
    ) -> std::result::Result<R, String> {
        let mut over = HashMap::new();
        for Patch { offset, bytes } in patches {
            for line in lines(ByteRange::new(Offset(*offset), bytes.len() as u64)) {
                let words = over.entry(line).or_insert_with(|| self.ground.line(line));
                let start = line * LINE;
                for (at, byte) in bytemuck::bytes_of_mut(words).iter_mut().enumerate() {
                    let patched = (start + at as u64).checked_sub(*offset);
                    *byte = patched.and_then(|at| bytes.get(at as usize)).copied().unwrap_or(*byte);
                }
            }
        }
        let floor = Floor { ground: Arc::clone(&self.ground), over: Some(over) };
        let wreck = Wreck { floor: &floor, open: &Arc::default() };
        self.bench.run(wreck, Strategy::Nothing, None, act).answer
    }
}
