//! Keys and values: made from a number, and checked against it.
//!
//! 1. Keys of numbers in ascending order come in random order.
//! 2. A value tells its key's number and how often that key had been written; every byte follows from these
//!    two, so one that is not as it was written does not pass.

/// 16 bytes: the number, spread over the whole space, and the number.
pub(crate) type Key = [u8; 16];
/// 100 bytes.
pub(crate) type Value = [u8; 100];

/// Bytes of a user in a record.
pub(crate) const RECORD_BYTES: u64 = (size_of::<Key>() + size_of::<Value>()) as u64;

/// The key of a number.
pub(crate) fn key(number: u32) -> Key {
    let mut key = Key::default();
    key[..8].copy_from_slice(&mix(u64::from(number)).to_be_bytes());
    key[8..].copy_from_slice(&u64::from(number).to_be_bytes());
    key
}

/// The number of a key, if it is one of ours.
pub(crate) fn number_of(bytes: &[u8]) -> Option<u32> {
    let number = u64::from_be_bytes(*bytes.last_chunk()?).try_into().ok()?;
    (bytes == key(number)).then_some(number)
}

/// What is written to a key for the `version`th time.
pub(crate) fn value(number: u32, version: u32) -> Value {
    let mut value = [0; size_of::<Value>()];
    let head = u64::from(number) << 32 | u64::from(version);
    let seed = mix(head);
    let (words, rest) = value.as_chunks_mut::<8>();
    for (at, word) in (0..).zip(words.iter_mut()) {
        *word = seed.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    }
    words[0] = head.to_le_bytes();
    rest.copy_from_slice(&seed.to_le_bytes()[..rest.len()]);
    value
}

/// The version of a value of the key `number`, if no byte of it is wrong.
pub(crate) fn version_of(bytes: &[u8], number: u32) -> Option<u32> {
    let head = u64::from_le_bytes(*bytes.first_chunk()?);
    (bytes == value(number, head as u32)).then_some(head as u32)
}

/// Source: the finalizer of splitmix64, by Sebastiano Vigna; a bijection.
pub(crate) fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
