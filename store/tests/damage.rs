//! Promise: damaged bytes are an error that names the place, or make no difference; what an opening
//! shows is never wrong (P5). Any bytes may be opened: never a panic (P7).
//!
//! Method: flip bits, zero lines, and swap pages of a small pool, then open it and read everything.
//! A failure prints what was damaged.

mod common;

use std::collections::BTreeMap;

use common::{Random, pool_path, value_of};
use daxite::{Database, Error, Options};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A closed pool, and what is in it.
fn pool() -> (Vec<u8>, Model) {
    let (_folder, path) = pool_path();
    let db = Options::new().capacity(4 << 20).create(&path).unwrap();
    let keyspace = db.keyspace("data").unwrap();
    let mut model = Model::new();
    let random = &mut Random::new(1);
    for n in 0..1200u64 {
        let key = (n % 400).to_be_bytes().to_vec();
        if n % 7 == 3 {
            keyspace.remove(&key).unwrap();
            model.remove(&key);
        } else {
            let value = value_of(n, random.below(600) as usize);
            keyspace.insert(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
    db.close().unwrap();
    (std::fs::read(&path).unwrap(), model)
}

/// Opens `image` and reads all of it. The error, if there is one.
fn open(image: &[u8], model: &Model, what: &str) -> Result<(), Error> {
    let (_folder, path) = pool_path();
    std::fs::write(&path, image).unwrap();
    let db = Database::open(&path)?;
    let keyspace = db.get_keyspace("data")?.unwrap_or_else(|| panic!("{what}: no keyspace"));
    let found = keyspace.iter().map(|pair| pair.map(|(k, v)| (k.to_vec(), v.to_vec())));
    let found: Model = found.collect::<Result<_, _>>()?;
    assert!(found == *model, "{what}: {} keys instead of {}", found.len(), model.len());
    Ok(())
}

/// Whether the damage may be answered so.
fn is_honest(error: &Error) -> bool {
    matches!(
        error,
        Error::Corruption { .. }
            | Error::NotAPool { .. }
            | Error::UnsupportedVersion { .. }
            | Error::UnsupportedFeature { .. }
            | Error::Truncated { .. }
    )
}

/// Bytes that are not zero, where damage can matter.
fn used(image: &[u8]) -> Vec<usize> {
    (0..image.len()).filter(|&at| image[at] != 0).collect()
}

#[test]
fn flipped_bits_are_noticed_or_make_no_difference() {
    let (image, model) = pool();
    let used = used(&image);
    let random = &mut Random::new(2);
    let mut noticed = 0;
    for _ in 0..1500 {
        let at = used[random.below(used.len() as u64) as usize];
        let mut damaged = image.clone();
        damaged[at] ^= 1 << random.below(8);
        let what = format!("a bit of byte {at:#x}");
        if let Err(error) = open(&damaged, &model, &what) {
            assert!(is_honest(&error), "{what}: {error}");
            noticed += 1;
        }
    }
    assert!(noticed > 1000, "only {noticed} were noticed");
}

#[test]
fn damaged_lines_and_pages_are_noticed_or_make_no_difference() {
    let (image, model) = pool();
    let used = used(&image);
    let random = &mut Random::new(3);
    for _ in 0..600 {
        let len = if random.below(2) == 0 { 64 } else { 4096 };
        let at = used[random.below(used.len() as u64) as usize] / len * len;
        let mut damaged = image.clone();
        let what = match random.below(3) {
            0 => {
                damaged[at..at + len].fill(0);
                format!("{len} zeros at {at:#x}")
            }
            1 => {
                damaged[at..at + len].copy_from_slice(&value_of(random.next(), len));
                format!("{len} random bytes at {at:#x}")
            }
            _ => {
                let from = used[random.below(used.len() as u64) as usize] / len * len;
                damaged[at..at + len].copy_from_slice(&image[from..from + len]);
                format!("{len} bytes of {from:#x} at {at:#x}")
            }
        };
        if let Err(error) = open(&damaged, &model, &what) {
            assert!(is_honest(&error), "{what}: {error}");
        }
    }
}

#[test]
fn damage_of_a_record_names_segment_and_place() {
    let (image, model) = pool();
    let needle = value_of(1199, 0).first().copied();
    assert_eq!(needle, None);
    let (key, value) = model.iter().find(|(_, value)| value.len() > 300).unwrap();
    let at = image.windows(value.len()).rposition(|window| window == value.as_slice()).unwrap();
    let mut damaged = image.clone();
    damaged[at + 200] ^= 1;
    match open(&damaged, &model, "a value").unwrap_err() {
        Error::Corruption { what, offset, .. } => {
            assert!(what.starts_with("segment "), "{what}");
            let start = at as u64 - key.len() as u64;
            assert!((start - 128..=start).contains(&offset), "{offset:#x} for {start:#x}");
        }
        error => panic!("{error}"),
    }
}

#[test]
fn an_opening_that_fails_changes_nothing() {
    let (image, model) = pool();
    let value = model.values().find(|value| value.len() > 300).unwrap();
    let at = image.windows(value.len()).rposition(|window| window == value.as_slice()).unwrap();
    let mut damaged = image;
    damaged[at] ^= 1;
    let (_folder, path) = pool_path();
    std::fs::write(&path, &damaged).unwrap();
    assert!(Database::open(&path).unwrap_err().is_corruption());
    assert!(std::fs::read(&path).unwrap() == damaged, "the file was changed");
}
