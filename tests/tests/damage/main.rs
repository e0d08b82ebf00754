//! Promises P5, P7 and P8: damage is an error that names the place, or harmless; never a wrong value,
//! a panic or a hang. And any bytes at all may be opened.
//!
//! Method: a small pool with a database of several lives and a volume beside it, as a kill left it and as
//! a close left it. Its bytes are flipped one at a time; blocks of it are zeroed, exchanged, taken from
//! another pool, or from the same one at an earlier moment; it is cut, and files of noise are opened.
//! Whatever opens must show exactly what was written, but for what may be a torn tail. Every fourth image is also
//! examined, as by `daxite check`, which must name damage if and only if opening refuses. A failure prints
//! the place and the kind of damage.
//!
//! `DAXITE_DAMAGE_STEP` (67) is how many bytes further the next one is flipped, of those that are in use;
//! `DAXITE_DAMAGE_BYTES=all` flips those that are not as well.

mod blocks;
mod cuts;
mod flips;
mod older;
mod patient;
