//! The only instructions of this crate that may meet a bad page, in assembly (x86-64).
//!
//! 1. They stand between [`code`]'s two ends, keep nothing on the stack and touch no callee-saved
//!    register. So whoever handles a fault of one of them may go on at the exit, from where the routine
//!    returns to its caller as if it had come to its end (`sigbus/`).
//! 2. `rax` is 0 at the end, or at the exit the address that could not be reached. What was stored
//!    before the fault stays stored.
//! 3. To the compiler each is an unknown function: no access to memory moves across a call.
//!
//! Knows nothing of signals, and not which of its addresses belong to a medium.

use std::ops::Range;

use super::instructions::FlushInstruction;

std::arch::global_asm!(
    ".pushsection .text.daxite_guarded,\"ax\",@progbits",
    ".balign 64",
    ".hidden daxite_guarded_start",
    ".global daxite_guarded_start",
    "daxite_guarded_start:",
    // (from, lines)
    ".hidden daxite_guarded_touch",
    ".global daxite_guarded_touch",
    "daxite_guarded_touch:",
    "test rsi, rsi",
    "jz 3f",
    "2: movzx eax, byte ptr [rdi]",
    "add rdi, 64",
    "dec rsi",
    "jnz 2b",
    "3: xor eax, eax",
    "ret",
    // (to, from, bytes)
    ".hidden daxite_guarded_copy_bytes",
    ".global daxite_guarded_copy_bytes",
    "daxite_guarded_copy_bytes:",
    "mov rcx, rdx",
    "rep movsb",
    "xor eax, eax",
    "ret",
    // (to, from, lines)
    ".balign 16",
    ".hidden daxite_guarded_copy_lines",
    ".global daxite_guarded_copy_lines",
    "daxite_guarded_copy_lines:",
    "test rdx, rdx",
    "jz 3f",
    "2: movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm2, [rsi + 32]",
    "movups xmm3, [rsi + 48]",
    "movntps [rdi], xmm0",
    "movntps [rdi + 16], xmm1",
    "movntps [rdi + 32], xmm2",
    "movntps [rdi + 48], xmm3",
    "add rsi, 64",
    "add rdi, 64",
    "dec rdx",
    "jnz 2b",
    "3: xor eax, eax",
    "ret",
    // (to, lines)
    ".balign 16",
    ".hidden daxite_guarded_zero_lines",
    ".global daxite_guarded_zero_lines",
    "daxite_guarded_zero_lines:",
    "test rsi, rsi",
    "jz 3f",
    "xorps xmm0, xmm0",
    "2: movntps [rdi], xmm0",
    "movntps [rdi + 16], xmm0",
    "movntps [rdi + 32], xmm0",
    "movntps [rdi + 48], xmm0",
    "add rdi, 64",
    "dec rsi",
    "jnz 2b",
    "3: xor eax, eax",
    "ret",
    // (to, bytes)
    ".hidden daxite_guarded_zero_bytes",
    ".global daxite_guarded_zero_bytes",
    "daxite_guarded_zero_bytes:",
    "xor eax, eax",
    "mov rcx, rsi",
    "rep stosb",
    "ret",
    // (at) -> (0, word)
    ".hidden daxite_guarded_load_word",
    ".global daxite_guarded_load_word",
    "daxite_guarded_load_word:",
    "mov rdx, [rdi]",
    "xor eax, eax",
    "ret",
    // (at, word)
    ".hidden daxite_guarded_store_word",
    ".global daxite_guarded_store_word",
    "daxite_guarded_store_word:",
    "mov [rdi], rsi",
    "xor eax, eax",
    "ret",
    // (from, lines), three times
    ".hidden daxite_guarded_clwb",
    ".global daxite_guarded_clwb",
    "daxite_guarded_clwb:",
    "test rsi, rsi",
    "jz 3f",
    "2: clwb [rdi]",
    "add rdi, 64",
    "dec rsi",
    "jnz 2b",
    "3: xor eax, eax",
    "ret",
    ".hidden daxite_guarded_clflushopt",
    ".global daxite_guarded_clflushopt",
    "daxite_guarded_clflushopt:",
    "test rsi, rsi",
    "jz 3f",
    "2: clflushopt [rdi]",
    "add rdi, 64",
    "dec rsi",
    "jnz 2b",
    "3: xor eax, eax",
    "ret",
    ".hidden daxite_guarded_clflush",
    ".global daxite_guarded_clflush",
    "daxite_guarded_clflush:",
    "test rsi, rsi",
    "jz 3f",
    "2: clflush [rdi]",
    "add rdi, 64",
    "dec rsi",
    "jnz 2b",
    "3: xor eax, eax",
    "ret",
    // A handler puts the address into rax and goes on here.
    ".hidden daxite_guarded_exit",
    ".global daxite_guarded_exit",
    "daxite_guarded_exit:",
    "ret",
    ".popsection",
);

/// A word, and where it could not be loaded if `fault` is not 0.
#[repr(C)]
struct Loaded {
    fault: usize,
    word: u64,
}

unsafe extern "C" {
    fn daxite_guarded_start();
    fn daxite_guarded_exit();
    fn daxite_guarded_touch(from: *const u8, lines: usize) -> usize;
    fn daxite_guarded_copy_bytes(to: *mut u8, from: *const u8, bytes: usize) -> usize;
    fn daxite_guarded_copy_lines(to: *mut u8, from: *const u8, lines: usize) -> usize;
    fn daxite_guarded_zero_lines(to: *mut u8, lines: usize) -> usize;
    fn daxite_guarded_zero_bytes(to: *mut u8, bytes: usize) -> usize;
    fn daxite_guarded_load_word(at: *const u64) -> Loaded;
    fn daxite_guarded_store_word(at: *mut u64, word: u64) -> usize;
    fn daxite_guarded_clwb(from: *mut u8, lines: usize) -> usize;
    fn daxite_guarded_clflushopt(from: *mut u8, lines: usize) -> usize;
    fn daxite_guarded_clflush(from: *mut u8, lines: usize) -> usize;
}

/// Where the routines are, the exit excluded.
pub(crate) fn code() -> Range<usize> {
    daxite_guarded_start as *const () as usize..exit()
}

/// Where a routine goes on that met a bad page.
pub(crate) fn exit() -> usize {
    daxite_guarded_exit as *const () as usize
}

/// See [`super::instructions`], as for all that follows.
#[inline]
pub(super) fn touch(from: *const u8, lines: usize) -> usize {
    // SAFETY: `persist` passes lines inside a live mapping; what is loaded is not looked at.
    unsafe { daxite_guarded_touch(from, lines) }
}

pub(super) fn copy_out(to: &mut [u8], from: *const u8) -> usize {
    // SAFETY: `persist` passes bytes inside a live mapping to which nobody stores meanwhile, by its
    // caller's guard; `to` is the caller's own.
    unsafe { daxite_guarded_copy_bytes(to.as_mut_ptr(), from, to.len()) }
}

pub(super) fn copy_lines(to: *mut u8, from: *const u8, lines: usize) -> usize {
    // SAFETY: `persist` passes whole lines inside a live, writable mapping, and its caller owns them;
    // `from` are as many readable bytes that do not overlap. A fence follows before anyone may read.
    unsafe { daxite_guarded_copy_lines(to, from, lines) }
}

pub(super) fn zero_lines(to: *mut u8, lines: usize) -> usize {
    // SAFETY: as for `copy_lines`.
    unsafe { daxite_guarded_zero_lines(to, lines) }
}

pub(super) fn zero_bytes(to: *mut u8, bytes: usize) -> usize {
    // SAFETY: `persist` passes a range inside a live, writable mapping that its caller owns.
    unsafe { daxite_guarded_zero_bytes(to, bytes) }
}

pub(super) fn load_word(at: *const u64) -> (usize, u64) {
    // SAFETY: `persist` passes an aligned address inside a live mapping. Every access to a word of the
    // medium is one instruction, here or in `store_word`, so all of them are atomic, and on x86-64 a
    // load acquires what a store released.
    let loaded = unsafe { daxite_guarded_load_word(at) };
    (loaded.fault, loaded.word)
}

pub(super) fn store_word(at: *mut u64, word: u64) -> usize {
    // SAFETY: as for `load_word`.
    unsafe { daxite_guarded_store_word(at, word) }
}

pub(super) fn flush_lines(instruction: FlushInstruction, from: *mut u8, lines: usize) -> usize {
    match instruction {
        // SAFETY: `persist` passes lines inside a live mapping, and `detect` found the instruction;
        // it changes no memory.
        FlushInstruction::Clwb => unsafe { daxite_guarded_clwb(from, lines) },
        // SAFETY: as for clwb.
        FlushInstruction::Clflushopt => unsafe { daxite_guarded_clflushopt(from, lines) },
        // SAFETY: as for clwb; every x86-64 CPU has clflush.
        FlushInstruction::Clflush | FlushInstruction::DcCvap => unsafe {
            daxite_guarded_clflush(from, lines)
        },
    }
}
