//! Storing, flushing, fencing: the only module that writes to a medium.
//!
//! 1. The order is the same everywhere, and types carry it: a store gives [`Dirty`] (lost with the
//!    power), writing its lines back gives [`Flushed`], a fence gives [`Durable`].
//! 2. Whole lines are stored non-temporally: they bypass the cache, so their token is `Flushed`
//!    at once, and no line is flushed twice.
//! 3. An aligned 8-byte word is stored whole and is never torn.
//! 4. Whoever stores has the exclusive right to the bytes, by a lock or by an owner type; each
//!    caller names it.
//!
//! 5. An access that meets a bad page is [`crate::Error::MediaError`], if the process handles that
//!    (`sigbus/`); of what was to be stored any part may be there then.
//!
//! On a page-cache medium flushing does nothing and the fence is an `msync` of the token's
//! ranges, so a token always knows its range. To a model checker each call is a step, and a fence
//! is two, so that others may see what is durable before anybody is told. Knows nothing of what the
//! bytes mean.

#[cfg(target_arch = "aarch64")]
mod cleaned;
#[cfg(target_arch = "x86_64")]
pub(crate) mod guarded;
mod instructions;
#[cfg(feature = "sim")]
mod observe;
#[cfg(not(feature = "sim"))]
#[path = "unobserved.rs"]
mod observe;

use std::marker::PhantomData;

use crate::error::Result;
use crate::medium::{Medium, Persistence};
use crate::primitives::step;
use crate::sigbus;
use crate::units::{ByteRange, LINE, Offset, lines};

pub(crate) use instructions::Fault;
pub use instructions::FlushInstruction;
pub(crate) use instructions::prefetch;

/// Stored, and lost if the power fails now.
#[must_use = "bytes that are not flushed are lost with the power"]
#[derive(Debug)]
pub(crate) struct Dirty {
    range: ByteRange,
    medium_id: u64,
}

/// On its way to the medium; durable once a fence returns.
///
/// A fence orders what its own thread stored and nothing else, so the token stays in its thread:
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<daxite_core::Flushed>();
/// ```
#[must_use = "flushed bytes are durable only after a fence"]
#[derive(Debug)]
pub struct Flushed {
    range: ByteRange,
    medium_id: u64,
    writer: Writer,
    of_this_thread: PhantomData<*const ()>,
}

/// Who stored the bytes of a token: an appender of this mapping, or the DAX layer itself. Numbers
/// of mappings are never used twice, so a token of an earlier one is good for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Writer {
    Layer,
    Appender { mapping_id: u64 },
}

/// On the medium, as safe as the medium is ([`Persistence`]).
#[derive(Debug)]
pub struct Durable {
    range: ByteRange,
    writer: Writer,
}

impl Dirty {
    /// Writes the touched lines back.
    ///
    /// # Errors
    /// [`crate::Error::MediaError`].
    #[cfg_attr(feature = "sim", track_caller)]
    pub(crate) fn flush(self, medium: &Medium) -> Result<Flushed> {
        assert_eq!(self.medium_id, medium.id(), "token of another medium");
        flush_range(medium, self.range)
    }
}

impl Flushed {
    fn new(medium: &Medium, range: ByteRange) -> Self {
        let of_this_thread = PhantomData;
        Self { range, medium_id: medium.id(), writer: Writer::Layer, of_this_thread }
    }

    /// The same token, in the name of `writer`.
    pub(crate) fn by(self, writer: Writer) -> Self {
        Self { writer, ..self }
    }

    /// The bytes that are on their way.
    pub fn range(&self) -> ByteRange {
        self.range
    }
}

impl Durable {
    /// The bytes that are durable.
    pub fn range(&self) -> ByteRange {
        self.range
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }
}

/// Stores `word` at `offset`, whole. Readers that load it by [`load_word`] see all stores that
/// came before it.
///
/// The caller holds the lock of the structure that the word belongs to.
///
/// # Errors
/// [`crate::Error::MediaError`], as for all that follows.
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn store_word(medium: &Medium, offset: Offset, word: u64) -> Result<Dirty> {
    step();
    debug_assert_ne!(medium.mode(), crate::medium::Mode::ReadOnly);
    let range = ByteRange::new(offset, 8);
    if observe::may_store(medium, range) {
        done(medium, instructions::store_word(word_address(medium, offset), word))?;
        observe::stored_word(medium, offset, word);
    }
    Ok(Dirty { range, medium_id: medium.id() })
}

/// Stores `words` from `offset` on, each whole, in no order; otherwise as [`store_word`].
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn store_words(
    medium: &Medium,
    offset: Offset,
    words: impl Iterator<Item = u64>,
) -> Result<Dirty> {
    step();
    let mut range = ByteRange::new(offset, 0);
    for word in words {
        let offset = range.end();
        if observe::may_store(medium, ByteRange::new(offset, 8)) {
            done(medium, instructions::store_word(word_address(medium, offset), word))?;
            observe::stored_word(medium, offset, word);
        }
        range.len_bytes += 8;
    }
    Ok(Dirty { range, medium_id: medium.id() })
}

/// Loads the word at `offset`.
pub(crate) fn load_word(medium: &Medium, offset: Offset) -> Result<u64> {
    observe::before_read(medium, ByteRange::new(offset, 8));
    done(medium, instructions::load_word(word_address(medium, offset)))
}

/// Makes sure that `range` can be read, by loading a byte of each line: what is handed out in place is
/// looked at first. Does nothing unless the process handles media errors, since it would end there as
/// well as later.
#[inline]
pub(crate) fn touch(medium: &Medium, range: ByteRange) -> Result<()> {
    done(medium, try_touch(medium, range))
}

/// As [`touch`], and tells nobody of a bad page.
#[inline]
pub(crate) fn try_touch(medium: &Medium, range: ByteRange) -> Result<(), Fault> {
    if !sigbus::is_installed() {
        return Ok(());
    }
    assert!(range.end().0 <= medium.len_bytes(), "touch past the medium");
    observe::before_read(medium, range);
    let lines = lines(range);
    let address = medium.address(Offset(lines.start * LINE));
    instructions::touch(address, lines.end - lines.start)
}

/// Copies the bytes from `start` on into `to`. The caller holds a guard under which nobody stores to
/// them.
pub(crate) fn copy_out(medium: &Medium, start: Offset, to: &mut [u8]) -> Result<()> {
    let range = ByteRange::new(start, to.len() as u64);
    assert!(range.end().0 <= medium.len_bytes(), "copy past the medium");
    observe::before_read(medium, range);
    done(medium, instructions::copy_out(to, medium.address(start)))
}

/// Somebody is about to look at `range` through a slice.
#[inline]
pub(crate) fn before_read(medium: &Medium, range: ByteRange) {
    observe::before_read(medium, range);
}

/// Somebody is about to store to `range` through a slice.
pub(crate) fn before_store(medium: &Medium, range: ByteRange) {
    observe::before_store(medium, range);
}

/// Stores whole lines past the cache. `offset` and the length are multiples of 64 bytes.
///
/// The caller owns the bytes: a lock over a structure that no one reads meanwhile, or an
/// [`crate::Appender`].
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn store_lines(medium: &Medium, offset: Offset, bytes: &[u8]) -> Result<Flushed> {
    step();
    let range = ByteRange::new(offset, bytes.len() as u64);
    check_lines(medium, range);
    if observe::may_store(medium, range) {
        done(medium, instructions::copy_lines(medium.address(offset), bytes))?;
        observe::stored_past_cache(medium, range);
    }
    Ok(Flushed::new(medium, range))
}

/// Stores zeros over whole lines past the cache; otherwise as [`store_lines`].
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn store_zero_lines(medium: &Medium, range: ByteRange) -> Result<Flushed> {
    step();
    check_lines(medium, range);
    if observe::may_store(medium, range) {
        done(medium, instructions::zero_lines(medium.address(range.start), range.len_bytes))?;
        observe::stored_past_cache(medium, range);
    }
    Ok(Flushed::new(medium, range))
}

/// Copies whole lines within the medium, past the cache. The caller owns the target, as for
/// [`store_lines`], and holds a lock under which nobody stores to the source.
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn copy_within(medium: &Medium, from: ByteRange, to: Offset) -> Result<Flushed> {
    let range = ByteRange::new(to, from.len_bytes);
    check_lines(medium, from);
    check_lines(medium, range);
    assert!(from.end() <= to || range.end() <= from.start, "source and target overlap");
    step();
    observe::before_read(medium, from);
    if observe::may_store(medium, range) {
        let (to, from_address) = (medium.address(to), medium.address(from.start));
        done(medium, instructions::copy_lines_within(to, from_address, from.len_bytes))?;
        observe::stored_past_cache(medium, range);
    }
    Ok(Flushed::new(medium, range))
}

/// Stores zeros over any bytes. The caller owns them, as for [`store_lines`].
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn store_zeros(medium: &Medium, range: ByteRange) -> Result<Dirty> {
    assert!(range.end().0 <= medium.len_bytes(), "store past the medium");
    debug_assert_ne!(medium.mode(), crate::medium::Mode::ReadOnly);
    step();
    if observe::may_store(medium, range) {
        done(medium, instructions::zero_bytes(medium.address(range.start), range.len_bytes))?;
        observe::stored_bytes(medium, range);
    }
    Ok(Dirty { range, medium_id: medium.id() })
}

/// Writes back the lines of bytes that were stored some other way: through a write guard, or by
/// an earlier life of the pool whose lines may still be in a cache.
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn flush_range(medium: &Medium, range: ByteRange) -> Result<Flushed> {
    write_back(medium, range)?;
    Ok(Flushed::new(medium, range))
}

/// Waits until everything flushed is on the medium: one fence, or one `msync`, for all tokens.
///
/// # Errors
/// [`crate::Error::Io`] where the system reports that the bytes did not reach the file.
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn fence<const N: usize>(
    medium: &Medium,
    flushed: [Flushed; N],
) -> Result<[Durable; N]> {
    wait(medium, &flushed)?;
    Ok(flushed.map(|token| Durable { range: token.range, writer: token.writer }))
}

/// As [`fence`], for any number of tokens that nobody asks for again; none are nothing to wait for.
///
/// # Errors
/// As [`fence`].
#[cfg_attr(feature = "sim", track_caller)]
pub(crate) fn fence_all(medium: &Medium, flushed: Vec<Flushed>) -> Result<()> {
    if flushed.is_empty() { Ok(()) } else { wait(medium, &flushed) }
}

#[cfg_attr(feature = "sim", track_caller)]
fn wait(medium: &Medium, flushed: &[Flushed]) -> Result<()> {
    for token in flushed {
        assert_eq!(token.medium_id, medium.id(), "token of another medium");
    }
    step();
    instructions::fence();
    observe::fenced(medium);
    step();
    if medium.persistence() == Persistence::Msync {
        let ranges: Vec<ByteRange> = flushed.iter().map(|token| token.range).collect();
        medium.sync_to_file(&ranges)?;
    }
    Ok(())
}

/// Fills the memory of a new medium with `image`, which nobody observes.
#[cfg(feature = "sim")]
pub(crate) fn load_image(medium: &Medium, image: &[u8]) {
    let image = &image[..medium.len_bytes() as usize];
    instructions::copy_lines(medium.address(Offset(0)), image).expect("memory does not fail");
    instructions::fence();
}

/// The words of a line, unobserved.
#[cfg(feature = "sim")]
pub(crate) fn peek_line(medium: &Medium, line: u64) -> [u64; 8] {
    std::array::from_fn(|index| peek_word(medium, Offset(line * LINE + index as u64 * 8)))
}

/// The word at `offset`, unobserved.
#[cfg(feature = "sim")]
pub(crate) fn peek_word(medium: &Medium, offset: Offset) -> u64 {
    instructions::load_word(word_address(medium, offset)).expect("memory does not fail")
}

/// Puts `words` on a line of a bench, unobserved. Nobody else uses the line meanwhile.
#[cfg(feature = "sim")]
pub(crate) fn load_line(medium: &Medium, line: u64, words: &[u64; 8]) {
    for (index, &word) in words.iter().enumerate() {
        let address = word_address(medium, Offset(line * LINE + index as u64 * 8));
        instructions::store_word(address, word).expect("memory does not fail");
    }
}

/// The answer of an instruction, or the error for the page that it met.
#[inline]
fn done<T>(medium: &Medium, answer: Result<T, Fault>) -> Result<T> {
    answer.map_err(|fault| medium.failed(fault))
}

#[cfg_attr(feature = "sim", track_caller)]
fn write_back(medium: &Medium, range: ByteRange) -> Result<()> {
    match medium.persistence() {
        // Nothing to write back: a fence is enough, or msync does the work.
        Persistence::Eadr | Persistence::Msync => Ok(()),
        // Volatile media take the same path as persistent ones, so that what is measured and
        // tested on tmpfs is what runs on persistent memory.
        Persistence::CacheFlush | Persistence::Volatile => {
            assert!(range.end().0 <= medium.len_bytes(), "flush past the medium");
            step();
            let lines = lines(range);
            let address = medium.address(Offset(lines.start * LINE));
            let count = lines.end - lines.start;
            done(medium, instructions::flush(medium.instruction(), address, count))?;
            observe::written_back(medium, range);
            Ok(())
        }
    }
}

fn check_lines(medium: &Medium, range: ByteRange) {
    assert_eq!(range.start.0 % LINE, 0, "not at a line");
    assert_eq!(range.len_bytes % LINE, 0, "not whole lines");
    assert!(range.end().0 <= medium.len_bytes(), "store past the medium");
    debug_assert_ne!(medium.mode(), crate::medium::Mode::ReadOnly);
}

fn word_address(medium: &Medium, offset: Offset) -> *mut u64 {
    assert_eq!(offset.0 % 8, 0, "word not aligned");
    assert!(offset.0 + 8 <= medium.len_bytes(), "word past the medium");
    medium.address(offset).cast()
}
