//! A view of the mounts that only this process has: what it mounts is gone with it.

use std::io;
use std::ptr;

/// Gives the calling thread a view of its own, and the processes that it starts.
///
/// # Errors
/// What the system answers: it takes root.
pub(crate) fn enter() -> io::Result<()> {
    // SAFETY: it takes no pointer.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the target is a string of C, and the rest is not looked at where propagation changes.
    check(unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), flags, ptr::null()) })
}

fn check(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
