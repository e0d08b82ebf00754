//! Promise: a page of the medium that goes bad costs what stood on it, and nothing else; and it costs that
//! once.
//!
//! A pool in a file on tmpfs; pages are poisoned in the mapping of the open pool, by `UFFDIO_POISON`, and
//! what a store does is done. With the handler of SIGBUS the process goes on: a key is answered by its value
//! or by a media error that names it, never by another value, and never by nothing. Without the handler the
//! process dies by SIGBUS, and the pool opens.
//!
//! The poison is the mapping's, not the file's: it is gone when the pool is opened again. So what an opening
//! keeps away from everyone is what the list of bad pages says. Opening itself is tested with a hook that
//! poisons the new mapping before anyone reads it.
//!
//! Skipped, loudly, where the kernel has no such thing (Linux 6.6) or does not permit it.

mod bad;
mod every_page;
mod once;
