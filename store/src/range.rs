//! Ranges of keys, as an argument.
//!
//! A trait of its own instead of `RangeBounds`, so that `range(..)` needs no type annotation and
//! `"a".."z"`, `[1u8]..=[7u8]` and `(Bound, Bound)` all work.

use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// The bounds of a range, as owned bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub(crate) low: Bound<Vec<u8>>,
    pub(crate) high: Bound<Vec<u8>>,
}

impl Bounds {
    /// All keys that start with `prefix`.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let low = Bound::Included(prefix.to_vec());
        // The first key behind: the last byte that can be counted up is, what follows goes. A
        // prefix of nothing but 0xff (or nothing at all) has no key behind.
        let high = match prefix.iter().rposition(|&byte| byte != 0xff) {
            Some(last) => {
                let mut behind = prefix[..=last].to_vec();
                behind[last] += 1;
                Bound::Excluded(behind)
            }
            None => Bound::Unbounded,
        };
        Self { low, high }
    }

    /// Whether no key can lie between the bounds, be they inverted or merely tight.
    pub(crate) fn is_empty(&self) -> bool {
        use Bound::{Excluded, Included, Unbounded};
        match (&self.low, &self.high) {
            (Unbounded, Excluded(high)) => high.is_empty(),
            (Unbounded, _) | (_, Unbounded) => false,
            (Included(low), Included(high)) => low > high,
            (Included(low), Excluded(high))
            | (Excluded(low), Included(high))
            | (Excluded(low), Excluded(high)) => low >= high,
        }
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A range of keys: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b`, or a pair of [`Bound`]s.
///
/// Keys are anything that is `AsRef<[u8]>` and are ordered bytewise. A range whose end lies before
/// its start is empty.
///
/// ```
/// # fn main() -> Result<(), daxite::Error> {
/// # let db = daxite::Options::new().capacity(4 << 20).in_memory()?;
/// # let fruit = db.keyspace("fruit")?;
/// for name in ["apple", "banana", "cherry"] {
///     fruit.insert(name, "")?;
/// }
/// assert_eq!(fruit.range(..).count(), 3);
/// assert_eq!(fruit.range("b"..).count(), 2);
/// assert_eq!(fruit.range("apple"..="banana").count(), 2);
/// assert_eq!(fruit.range("z".."a").count(), 0);
/// # Ok(())
/// # }
/// ```
pub trait KeyRange: sealed::Sealed {
    /// The bounds of the range.
    #[doc(hidden)]
    fn into_bounds(self) -> Bounds;
}

fn owned<K: AsRef<[u8]>>(bound: Bound<K>) -> Bound<Vec<u8>> {
    bound.map(|key| key.as_ref().to_vec())
}

/// Implements [`KeyRange`] for a range type, given its bounds.
macro_rules! key_range {
    ($range:ty, $self:ident => $low:expr, $high:expr) => {
        impl<K: AsRef<[u8]>> sealed::Sealed for $range {}
        impl<K: AsRef<[u8]>> KeyRange for $range {
            fn into_bounds($self) -> Bounds {
                Bounds { low: owned($low), high: owned($high) }
            }
        }
    };
}

key_range!(Range<K>, self => Bound::Included(self.start), Bound::Excluded(self.end));
key_range!(RangeFrom<K>, self => Bound::Included(self.start), Bound::<K>::Unbounded);
key_range!(RangeTo<K>, self => Bound::<K>::Unbounded, Bound::Excluded(self.end));
key_range!(RangeToInclusive<K>, self => Bound::<K>::Unbounded, Bound::Included(self.end));
key_range!((Bound<K>, Bound<K>), self => self.0, self.1);

impl sealed::Sealed for RangeFull {}
impl KeyRange for RangeFull {
    fn into_bounds(self) -> Bounds {
        Bounds { low: Bound::Unbounded, high: Bound::Unbounded }
    }
}

impl<K: AsRef<[u8]>> sealed::Sealed for RangeInclusive<K> {}
impl<K: AsRef<[u8]>> KeyRange for RangeInclusive<K> {
    fn into_bounds(self) -> Bounds {
        let (low, high) = self.into_inner();
        Bounds { low: owned(Bound::Included(low)), high: owned(Bound::Included(high)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(range: impl KeyRange) -> Bounds {
        range.into_bounds()
    }

    #[test]
    fn every_kind_of_range_converts() {
        let a = || b"a".to_vec();
        let b = || b"b".to_vec();
        use Bound::{Excluded, Included, Unbounded};
        assert_eq!(bounds(..), Bounds { low: Unbounded, high: Unbounded });
        assert_eq!(bounds("a".."b"), Bounds { low: Included(a()), high: Excluded(b()) });
        assert_eq!(bounds(a()..=b()), Bounds { low: Included(a()), high: Included(b()) });
        assert_eq!(bounds(b"a"..), Bounds { low: Included(a()), high: Unbounded });
        assert_eq!(bounds(..&b"b"[..]), Bounds { low: Unbounded, high: Excluded(b()) });
        assert_eq!(bounds(..=[b'b']), Bounds { low: Unbounded, high: Included(b()) });
        let pair = (Excluded("a"), Unbounded);
        assert_eq!(bounds(pair), Bounds { low: Excluded(a()), high: Unbounded });
    }

    #[test]
    fn inverted_and_tight_ranges_are_empty() {
        assert!(bounds("b".."a").is_empty());
        assert!(bounds("b"..="a").is_empty());
        assert!(bounds("a".."a").is_empty());
        assert!(bounds(..b"").is_empty());
        assert!(bounds((Bound::Excluded("a"), Bound::Included("a"))).is_empty());
        assert!(bounds((Bound::Excluded("a"), Bound::Excluded("a"))).is_empty());
        assert!(!bounds("a"..="a").is_empty());
        assert!(!bounds(..).is_empty());
        assert!(!bounds(..=b"").is_empty());
    }

    #[test]
    fn a_prefix_ends_before_the_first_key_that_lacks_it() {
        let high = |prefix: &[u8]| Bounds::prefix(prefix).high;
        assert_eq!(high(b"ab"), Bound::Excluded(b"ac".to_vec()));
        assert_eq!(high(b"a\xff\xff"), Bound::Excluded(b"b".to_vec()));
        assert_eq!(high(b"\xff\xff"), Bound::Unbounded);
        assert_eq!(high(b""), Bound::Unbounded);
        assert_eq!(Bounds::prefix(b"").low, Bound::Included(Vec::new()));
    }
}
