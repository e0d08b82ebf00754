//! Which errors a system call can give.
//!
//! Source: the ERRORS sections of its manual page, less what only a wrong argument of ours gives.

use daxite_tests::traced::Lasts;
use libc::*;

/// How call `number` can fail: with each error, once and from then on.
pub(super) fn of(number: c_long) -> Vec<(c_int, Lasts)> {
    let once = errors(number).iter().map(|errno| (*errno, Lasts::Once));
    // Who is interrupted tries again, and rightly so; and where each page is bad there is no space.
    let passing = [EINTR, EAGAIN, EFAULT, EHWPOISON];
    let lasting = errors(number).iter().filter(|errno| !passing.contains(errno));
    once.chain(lasting.map(|errno| (*errno, Lasts::Always))).collect()
}

fn errors(number: c_long) -> &'static [c_int] {
    match known(number) {
        Some((_, errors)) => errors,
        None => &[EIO, ENOMEM, EPERM, EINVAL, ENOSYS],
    }
}

/// The name of call `number`, as far as it is known here.
pub(super) fn name(number: c_long) -> String {
    known(number).map_or_else(|| format!("call number {number}"), |(name, _)| name.to_string())
}

#[expect(non_upper_case_globals, reason = "the names that libc has")]
fn known(number: c_long) -> Option<(&'static str, &'static [c_int])> {
    Some(match number {
        SYS_openat => (
            "openat",
            &[EINTR, EACCES, EPERM, EMFILE, ENFILE, ENOMEM, ENOSPC, EDQUOT, EIO, EROFS, ENXIO],
        ),
        SYS_statx => ("statx", &[EACCES, ENOMEM, EIO, ENOSYS]),
        SYS_fstat => ("fstat", &[ENOMEM, EIO, EOVERFLOW]),
        SYS_newfstatat => ("newfstatat", &[EACCES, ENOMEM, EIO]),
        SYS_fstatfs => ("fstatfs", &[EINTR, EIO, ENOMEM, ENOSYS]),
        SYS_flock => ("flock", &[EINTR, EAGAIN, ENOLCK, EIO, ENOSYS]),
        SYS_ftruncate => ("ftruncate", &[EINTR, EFBIG, EIO, EINVAL, EPERM, ENOSPC, EDQUOT]),
        SYS_fallocate => {
            ("fallocate", &[EINTR, EIO, ENOSPC, EDQUOT, EFBIG, EOPNOTSUPP, ENOSYS, EPERM, EINVAL])
        }
        SYS_mmap => ("mmap", &[ENOMEM, EAGAIN, EACCES, EPERM, ENODEV, ENFILE, EINVAL, EOPNOTSUPP]),
        SYS_munmap => ("munmap", &[ENOMEM, EINVAL]),
        SYS_mprotect => ("mprotect", &[ENOMEM, EACCES]),
        SYS_madvise => ("madvise", &[EINVAL, EAGAIN, ENOMEM, EIO, EFAULT, EHWPOISON, EBUSY, EPERM]),
        SYS_msync => ("msync", &[EIO, ENOSPC, EDQUOT, ENOMEM, EINTR, EBUSY, EINVAL]),
        SYS_fsync => ("fsync", &[EINTR, EIO, ENOSPC, EDQUOT, EINVAL, EROFS]),
        SYS_read => ("read", &[EINTR, EIO, ENOMEM, EAGAIN, EISDIR]),
        SYS_pread64 => ("pread64", &[EINTR, EIO, ENOMEM, EISDIR]),
        SYS_lseek => ("lseek", &[EINVAL, EIO, ESPIPE]),
        SYS_getrandom => ("getrandom", &[EINTR, EAGAIN, ENOSYS]),
        SYS_readlink => ("readlink", &[EACCES, EIO, ENOMEM]),
        SYS_unlink => ("unlink", &[EIO, EACCES, EPERM, EBUSY, EROFS]),
        SYS_close => ("close", &[EINTR, EIO, ENOSPC]),
        SYS_sched_getaffinity => ("sched_getaffinity", &[EPERM, EINVAL]),
        SYS_clone3 => ("clone3", &[EAGAIN, ENOMEM, EPERM, ENOSYS]),
        _ => return None,
    })
}
