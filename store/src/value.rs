//! Bytes read from a database, without a copy.
//!
//! A value is a range of a segment, and holds the segment. Reclaim gives a segment back only when
//! nobody holds it any more (`space.rs`), so the bytes stay as they are.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::segment::Segment;

/// Bytes read from a database: they stand on the medium, and are borrowed, not copied.
///
/// A value stays what it is, whatever is written later, and outlives the [`Database`] handle. It
/// pins the segment it stands in (2 MiB, less in a small pool) and the file with it; keep
/// [`Value::to_vec`] instead of a value for long.
///
/// [`Database`]: crate::Database
///
/// ```
/// # fn main() -> Result<(), daxite::Error> {
/// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
/// let words = db.keyspace("words")?;
/// words.insert("dax", "direct access")?;
/// let value = words.get("dax")?.expect("it was just inserted");
/// words.insert("dax", "something else")?;
/// assert_eq!(&*value, b"direct access");
/// assert!(value.starts_with(b"direct"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Value {
    segment: Arc<Segment>,
    /// In bytes from the start of the segment.
    start: u32,
    len_bytes: u32,
}

/// A key as read from a database: the same kind of bytes as a value.
pub type Key = Value;

impl Value {
    /// `bytes`, which are a part of `segment`'s readable bytes that starts at `start`.
    pub(crate) fn new(segment: Arc<Segment>, start: u64, len_bytes: usize) -> Self {
        let fits = "a segment is at most 2 MiB long";
        let start = u32::try_from(start).expect(fits);
        let len_bytes = u32::try_from(len_bytes).expect(fits);
        Self { segment, start, len_bytes }
    }

    /// A copy that pins nothing.
    pub fn to_vec(&self) -> Vec<u8> {
        <[u8]>::to_vec(self)
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let range = self.segment.range(self.start.into(), self.len_bytes.into());
        range.expect("what could be read once can be read for ever")
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl PartialEq<&[u8]> for Value {
    fn eq(&self, other: &&[u8]) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Value {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Value {
    fn eq(&self, other: &&[u8; N]) -> bool {
        **self == **other
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}
