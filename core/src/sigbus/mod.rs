//! Media errors without dying: what to do with the signal that a bad page raises.
//!
//! The kernel answers a load or store of a bad page with SIGBUS. A process that asks for it gets an
//! error in its place, where the access was made by this crate:
//! 1. The handler acts only if the address lies in the mapping of a pool (`mappings`) and the
//!    instruction in a guarded routine (`persist/guarded.rs`). It moves the instruction pointer to
//!    the exit of the routine and returns; nothing is unwound and nobody is jumped over.
//! 2. Every other SIGBUS goes to whoever handled it before, or ends the process as before.
//! 3. It touches nothing but registers and atomics.
//!
//! A signal handler is the business of the application, so nothing here happens by itself. Without
//! the handler a bad page ends the process, and the pool survives that as it survives a kill.

#[cfg(target_arch = "x86_64")]
mod handler;
mod mappings;
#[cfg(all(test, target_arch = "x86_64", not(loom)))]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

#[cfg(not(target_arch = "x86_64"))]
use crate::error::Error;
use crate::error::Result;
pub(crate) use mappings::Registered;

/// Whether the handler is there. It is never taken away.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// Held by whoever installs it.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes media errors [`crate::Error::MediaError`] in place of a signal that ends the process, for all pools
/// of the process, from now on. Doing it twice is no error.
///
/// The handler of SIGBUS that was there before is called for everything that is not ours. One that
/// is installed later must do the same.
///
/// Only accesses of this crate are covered. Bytes that the caller reads or stores in place, through a
/// guard, are looked at before they are handed out in a store, and can still go bad afterwards.
///
/// # Errors
/// [`crate::Error::Unsupported`] on other processors than x86-64; [`crate::Error::Io`] if the system refuses.
pub fn install_sigbus_handler() -> Result<()> {
    let _installing = INSTALLING.lock();
    if !is_installed() {
        #[cfg(target_arch = "x86_64")]
        handler::install()?;
        #[cfg(not(target_arch = "x86_64"))]
        return Err(Error::Unsupported("media errors are handled on x86-64 only"));
        // ORDERING: Relaxed; who does not see it yet does without, as before.
        INSTALLED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Whether a guarded routine that meets a bad page comes back.
#[inline]
pub(crate) fn is_installed() -> bool {
    INSTALLED.load(Ordering::Relaxed)
}
