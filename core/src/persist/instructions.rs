//! The instructions: non-temporal stores, line write-back, fence, and atomic words.
//!
//! 1. Addresses come from `persist`, which has checked alignment and bounds against the medium.
//! 2. Every instruction is also a compiler barrier for memory (no `nomem`), so the compiler cannot
//!    move a store past the flush that is meant to carry it.
//! 3. What meets a bad page answers with a [`Fault`], if the process handles that (`sigbus/`);
//!    otherwise the process ends there.
//!
//! x86-64 is the product: its instructions that touch the medium are in `guarded.rs`. On AArch64
//! lines are cleaned by `dc cvap`, and a bad page always ends the process. Elsewhere only media that
//! need no flush are honest, and nothing else compiles.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("no instruction is known here that writes a line back to persistent memory");

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "aarch64")]
use super::cleaned as routines;
#[cfg(target_arch = "x86_64")]
use super::guarded as routines;
use crate::units::LINE;

/// An address of the medium that could not be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub address: usize,
}

/// What a routine answers: 0, or the address that it could not reach.
fn reached(fault: usize) -> Result<(), Fault> {
    if fault == 0 { Ok(()) } else { Err(Fault { address: fault }) }
}

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

/// Writes `lines` lines from `address` on back.
pub(super) fn flush(
    instruction: FlushInstruction,
    address: *mut u8,
    lines: u64,
) -> Result<(), Fault> {
    reached(routines::flush_lines(instruction, address, lines as usize))
}

/// Orders all stores and flushes before it ahead of all stores after it.
pub(super) fn fence() {
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

/// Stores an aligned word. Who loads it by [`load_word`] sees what was stored before it.
pub(super) fn store_word(address: *mut u64, word: u64) -> Result<(), Fault> {
    reached(routines::store_word(address, word))
}

/// Loads an aligned word.
pub(super) fn load_word(address: *const u64) -> Result<u64, Fault> {
    let (fault, word) = routines::load_word(address);
    reached(fault).map(|()| word)
}

/// Loads a byte of each of `lines` lines from `address` on.
#[inline]
pub(super) fn touch(address: *const u8, lines: u64) -> Result<(), Fault> {
    reached(routines::touch(address, lines as usize))
}

/// Copies bytes from `from` on into `to`.
pub(super) fn copy_out(to: &mut [u8], from: *const u8) -> Result<(), Fault> {
    reached(routines::copy_out(to, from))
}

/// Copies whole lines to `to`, past the cache. The caller's bytes need no alignment.
pub(super) fn copy_lines(to: *mut u8, bytes: &[u8]) -> Result<(), Fault> {
    reached(routines::copy_lines(to, bytes.as_ptr(), bytes.len() / LINE as usize))
}

/// Copies whole lines from `from` to `to`, past the cache.
pub(super) fn copy_lines_within(to: *mut u8, from: *const u8, len_bytes: u64) -> Result<(), Fault> {
    reached(routines::copy_lines(to, from, (len_bytes / LINE) as usize))
}

/// Stores zeros over whole lines at `to`, past the cache.
pub(super) fn zero_lines(to: *mut u8, len_bytes: u64) -> Result<(), Fault> {
    reached(routines::zero_lines(to, (len_bytes / LINE) as usize))
}

/// Stores zeros over any bytes, through the cache.
pub(super) fn zero_bytes(to: *mut u8, len_bytes: u64) -> Result<(), Fault> {
    reached(routines::zero_bytes(to, len_bytes as usize))
}
/// Asks for the line at `address` to be brought near. A hint: it meets no fault and no bad page.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint may be given for any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, readonly));
    }
}
