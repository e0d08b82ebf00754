//! The handler itself (x86-64).

use std::ffi::{c_int, c_void};
use std::io;
use std::path::PathBuf;
use std::ptr;
use std::sync::OnceLock;

use super::mappings;
use crate::error::{Error, Result};
use crate::persist::guarded;

/// Who handled SIGBUS before.
static FORMER: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler. Once: the former one would be our own the second time.
pub(super) fn install() -> Result<()> {
    // SAFETY: a sigaction is plain data, for which zeros are valid.
    let mut former: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks for the action without changing it; `former` is this function's own.
    check(unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &mut former) })?;
    let former = FORMER.get_or_init(|| former);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_sigbus;
    let ours = libc::sigaction {
        sa_sigaction: handler as *const () as usize,
        // What the former handler wants to be left alone by.
        sa_mask: former.sa_mask,
        // On the thread's alternate stack if it has one: the fault may be deep in a stack.
        sa_flags: libc::SA_SIGINFO | libc::SA_ONSTACK | former.sa_flags & libc::SA_RESTART,
        sa_restorer: None,
    };
    // SAFETY: `on_sigbus` has the signature that SA_SIGINFO asks for, and does what may be done in a
    // signal handler.
    check(unsafe { libc::sigaction(libc::SIGBUS, &ours, ptr::null_mut()) })
}

fn check(answer: c_int) -> Result<()> {
    if answer == 0 {
        return Ok(());
    }
    let (op, path) = ("install a handler for", PathBuf::from("SIGBUS"));
    Err(Error::Io { op, path, source: io::Error::last_os_error() })
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let registers = {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: with SA_SIGINFO the kernel passes the context of the thread, which is the handler's
        // own until it returns.
        unsafe { &mut (*context).uc_mcontext.gregs }
    };
    // SAFETY: with SA_SIGINFO the kernel passes what is known of the signal.
    let info_ref = unsafe { &*info };
    // Sent by a process, not raised by an access: there is no address then.
    let was_sent = info_ref.si_code <= 0;
    // SAFETY: the field of a SIGBUS that was raised by an access.
    let address = unsafe { info_ref.si_addr() } as usize;
    let instruction = registers[libc::REG_RIP as usize] as usize;
    // Whatever the code: BUS_MCEERR_AR of a machine check, BUS_ADRERR of a page that is gone.
    if !was_sent && guarded::code().contains(&instruction) && mappings::contains(address) {
        registers[libc::REG_RAX as usize] = address as i64;
        registers[libc::REG_RIP as usize] = guarded::exit() as i64;
        return;
    }
    let former = FORMER.get().expect("stored before the handler was installed");
    match former.sa_sigaction {
        libc::SIG_IGN if was_sent => {}
        // An access cannot be ignored: the kernel would end the process, too.
        libc::SIG_DFL | libc::SIG_IGN => give_up(signal, was_sent),
        handler if former.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: a handler that was installed with SA_SIGINFO has this signature.
            let handler = unsafe {
                std::mem::transmute::<usize, extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)>(
                    handler,
                )
            };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: a handler that was installed without SA_SIGINFO has this signature.
            let handler = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}

/// Ends the process by the signal, once the handler has returned.
fn give_up(signal: c_int, was_sent: bool) {
    // SAFETY: a sigaction is plain data, for which zeros are valid: the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: may be called in a signal handler; the access that faulted is made again and now ends
    // the process.
    unsafe { libc::sigaction(signal, &default, ptr::null_mut()) };
    if was_sent {
        // SAFETY: may be called in a signal handler; delivered when this one returns.
        unsafe { libc::raise(signal) };
    }
}
