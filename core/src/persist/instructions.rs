//! The instructions: non-temporal stores, line write-back, fence, and atomic words.
//!
//! 1. Addresses come from `persist`, which has checked alignment and bounds against the medium.
//! 2. Every instruction is also a compiler barrier for memory (no `nomem`), so the compiler cannot
//!    move a store past the flush that is meant to carry it.
//!
//! x86-64 is the product; on AArch64 lines are cleaned by `dc cvap`. Elsewhere only media that
//! need no flush are honest, and nothing else compiles.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("no instruction is known here that writes a line back to persistent memory");

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::units::LINE;

/// How a line is written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FlushInstruction {
    /// `clwb`: the line stays in the cache.
    Clwb,
    /// `clflushopt`: the line is evicted, unordered with others.
    Clflushopt,
    /// `clflush`: the line is evicted, in order.
    Clflush,
    /// AArch64 `dc cvap`.
    DcCvap,
}

impl fmt::Display for FlushInstruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clwb => "clwb",
            Self::Clflushopt => "clflushopt",
            Self::Clflush => "clflush",
            Self::DcCvap => "dc cvap",
        })
    }
}

impl FlushInstruction {
    /// The best one that this CPU has. Asked once: under a hypervisor each question is an exit.
    pub(crate) fn detect() -> Self {
        static BEST: OnceLock<FlushInstruction> = OnceLock::new();
        *BEST.get_or_init(Self::ask)
    }

    #[cfg(target_arch = "x86_64")]
    fn ask() -> Self {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const CLFLUSHOPT: u32 = 1 << 23;
        const CLWB: u32 = 1 << 24;
        if __cpuid(0).eax < 7 {
            return Self::Clflush;
        }
        let features = __cpuid_count(7, 0).ebx;
        match (features & CLWB != 0, features & CLFLUSHOPT != 0) {
            (true, _) => Self::Clwb,
            (false, true) => Self::Clflushopt,
            (false, false) => Self::Clflush,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn ask() -> Self {
        Self::DcCvap
    }
}

/// Writes the line at `address` back.
pub(crate) fn flush(instruction: FlushInstruction, address: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    match instruction {
        FlushInstruction::Clwb => {
            // SAFETY: `persist` passes an address inside a live mapping, and `detect` found the
            // instruction; it changes no memory.
            unsafe { std::arch::asm!("clwb [{0}]", in(reg) address, options(nostack)) }
        }
        FlushInstruction::Clflushopt => {
            // SAFETY: as for clwb.
            unsafe { std::arch::asm!("clflushopt [{0}]", in(reg) address, options(nostack)) }
        }
        FlushInstruction::Clflush | FlushInstruction::DcCvap => {
            // SAFETY: as for clwb; every x86-64 CPU has clflush.
            unsafe { std::arch::asm!("clflush [{0}]", in(reg) address, options(nostack)) }
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        let _ = instruction;
        // SAFETY: `persist` passes an address inside a live mapping; cleaning a line changes no
        // memory.
        unsafe { std::arch::asm!("dc cvap, {0}", in(reg) address, options(nostack)) }
    }
}

/// Orders all stores and flushes before it ahead of all stores after it.
pub(crate) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a fence touches no memory.
    unsafe {
        std::arch::asm!("sfence", options(nostack))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier touches no memory.
    unsafe {
        std::arch::asm!("dsb ish", options(nostack))
    }
}

/// Stores an aligned word.
pub(crate) fn store_word(address: *mut u64, word: u64) {
    // SAFETY: `persist` passes an aligned address inside a live mapping, and every access to a
    // word of the medium goes through this pair, so all of them are atomic.
    let cell = unsafe { AtomicU64::from_ptr(address) };
    // ORDERING: Release; pairs with the Acquire in `load_word`: who sees the word sees what was
    // stored before it.
    cell.store(word, Ordering::Release);
}

/// Loads an aligned word.
pub(crate) fn load_word(address: *mut u64) -> u64 {
    // SAFETY: as in `store_word`.
    let cell = unsafe { AtomicU64::from_ptr(address) };
    // ORDERING: Acquire; pairs with the Release in `store_word`.
    cell.load(Ordering::Acquire)
}

/// Copies whole lines to `to`, past the cache.
pub(crate) fn copy_lines(to: *mut u8, bytes: &[u8]) {
    for (index, line) in bytes.chunks_exact(LINE as usize).enumerate() {
        // The caller's bytes need no alignment; the medium's lines have it.
        store_line(to.wrapping_add(index * LINE as usize), line);
    }
}

/// Copies whole lines from `from` to `to`, past the cache.
pub(crate) fn copy_lines_within(to: *mut u8, from: *const u8, len_bytes: u64) {
    for line in 0..len_bytes / LINE {
        let at = (line * LINE) as usize;
        let mut bytes = [0; LINE as usize];
        let source = from.wrapping_add(at);
        // SAFETY: `persist` passes lines inside a live mapping to which, by its caller's lock, nobody
        // stores meanwhile; `bytes` is this function's own.
        unsafe { std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len()) };
        store_line(to.wrapping_add(at), &bytes);
    }
}

/// Stores zeros over whole lines at `to`, past the cache.
pub(crate) fn zero_lines(to: *mut u8, len_bytes: u64) {
    const ZEROS: [u8; LINE as usize] = [0; LINE as usize];
    for line in 0..len_bytes / LINE {
        store_line(to.wrapping_add((line * LINE) as usize), &ZEROS);
    }
}

/// Stores zeros over any bytes, through the cache.
pub(crate) fn zero_bytes(to: *mut u8, len_bytes: u64) {
    // SAFETY: `persist` passes a range inside a live, writable mapping that its caller owns.
    unsafe { to.write_bytes(0, len_bytes as usize) };
}

#[cfg(target_arch = "x86_64")]
fn store_line(to: *mut u8, line: &[u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    for part in 0..4 {
        let from = line[part * 16..][..16].as_ptr().cast::<__m128i>();
        // SAFETY: `from` points to 16 readable bytes of `line`; no alignment is asked of it.
        let value = unsafe { _mm_loadu_si128(from) };
        // SAFETY: `persist` passes a line-aligned address inside a live, writable mapping, and
        // its caller owns the line. `fence` follows before anyone may read it.
        unsafe { _mm_stream_si128(to.wrapping_add(part * 16).cast(), value) };
    }
}

#[cfg(target_arch = "aarch64")]
fn store_line(to: *mut u8, line: &[u8]) {
    // SAFETY: `persist` passes a line inside a live, writable mapping that its caller owns, so it
    // overlaps nothing else.
    unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), to, LINE as usize) };
    flush(FlushInstruction::DcCvap, to);
}
