//! The instructions that touch the medium, for AArch64.
//!
//! Each answers as in `guarded.rs`, and always with success: here a bad page ends the process.

use std::sync::atomic::{AtomicU64, Ordering};

use super::instructions::FlushInstruction;
use crate::units::LINE;

pub(super) fn touch(_from: *const u8, _lines: usize) -> usize {
    // There is nobody who could be told.
    0
}

pub(super) fn copy_out(to: &mut [u8], from: *const u8) -> usize {
    // SAFETY: `persist` passes bytes inside a live mapping to which nobody stores meanwhile, by its
    // caller's guard; `to` is the caller's own.
    unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    0
}

pub(super) fn copy_lines(to: *mut u8, from: *const u8, lines: usize) -> usize {
    // SAFETY: `persist` passes whole lines inside a live, writable mapping, and its caller owns them;
    // `from` are as many readable bytes that do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(from, to, lines * LINE as usize) };
    flush_lines(FlushInstruction::DcCvap, to, lines)
}

pub(super) fn zero_lines(to: *mut u8, lines: usize) -> usize {
    zero_bytes(to, lines * LINE as usize);
    flush_lines(FlushInstruction::DcCvap, to, lines)
}

pub(super) fn zero_bytes(to: *mut u8, bytes: usize) -> usize {
    // SAFETY: `persist` passes a range inside a live, writable mapping that its caller owns.
    unsafe { to.write_bytes(0, bytes) };
    0
}

pub(super) fn load_word(at: *const u64) -> (usize, u64) {
    // SAFETY: `persist` passes an aligned address inside a live mapping, and every access to a word of
    // the medium goes through this pair, so all of them are atomic.
    let cell = unsafe { AtomicU64::from_ptr(at.cast_mut()) };
    // ORDERING: Acquire; pairs with the Release in `store_word`.
    (0, cell.load(Ordering::Acquire))
}

pub(super) fn store_word(at: *mut u64, word: u64) -> usize {
    // SAFETY: as in `load_word`.
    let cell = unsafe { AtomicU64::from_ptr(at) };
    // ORDERING: Release; pairs with the Acquire in `load_word`: who sees the word sees what was
    // stored before it.
    cell.store(word, Ordering::Release);
    0
}

pub(super) fn flush_lines(_instruction: FlushInstruction, from: *mut u8, lines: usize) -> usize {
    for line in 0..lines {
        let address = from.wrapping_add(line * LINE as usize);
        // SAFETY: `persist` passes lines inside a live mapping; cleaning one changes no memory.
        unsafe { std::arch::asm!("dc cvap, {0}", in(reg) address, options(nostack)) }
    }
    0
}
