//! Promises P5 and P7: damage is an error that names the place, or harmless; never a wrong value,
//! a panic or a hang. And any bytes at all may be opened.
//!
//! Method: a small store that was closed, so that every segment is sealed. Then bytes are flipped
//! one at a time, pages are zeroed, exchanged, taken from another pool, or from the same one at
//! an earlier moment, the pool is cut at every page, and files of noise are opened. Whatever opens
//! must hold exactly what was written, and whatever is refused must be left as it is. A failure
//! prints the place and the kind of damage.
//!
//! `DAXITE_DAMAGE_STEP=1` flips every byte instead of a sample.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use daxite::{Database, Error, Options};
use daxite_core::{ExtentInfo, LogicalRange, PAGE, Pool};
use daxite_tests::{Contents, contents};

const POOL_BYTES: u64 = 4 << 20;
/// No opening of such a pool takes longer.
const PATIENCE: Duration = Duration::from_secs(3);

struct Subject {
    image: Vec<u8>,
    /// The pool as it was at an earlier clean close.
    earlier: Vec<u8>,
    /// The pool right before the last close: nothing is sealed that the close sealed.
    unclosed: Vec<u8>,
    contents: Contents,
}

/// A store with some history: overwritten and removed keys, several segments.
fn subject(salt: u8) -> Subject {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let write = |database: &Database, numbers: std::ops::Range<u32>| {
        for number in numbers {
            let keyspace = database.keyspace(["a", "b"][number as usize % 2]).unwrap();
            let len = [10, 300, 5_000][number as usize % 3];
            keyspace
                .insert(format!("key {}", number % 40), vec![number as u8 ^ salt; len])
                .unwrap();
            if number % 7 == 0 {
                keyspace.remove(format!("key {}", (number + 6) % 40)).unwrap();
            }
        }
    };
    let database = Options::new().capacity(POOL_BYTES).create(&path).unwrap();
    write(&database, 0..60);
    database.close().unwrap();
    let earlier = std::fs::read(&path).unwrap();
    let database = Options::new().open(&path).unwrap();
    write(&database, 60..110);
    database.reclaim().unwrap();
    let contents = contents(&database).unwrap();
    let unclosed = std::fs::read(&path).unwrap();
    database.close().unwrap();
    Subject { image: std::fs::read(&path).unwrap(), earlier, unclosed, contents }
}

fn open(image: &[u8]) -> Result<Contents, Error> {
    let pool = Pool::from_image(image, None)?;
    contents(&Options::new().on_pool(pool)?)
}

/// Opens damaged bytes. True if they opened, with exactly the contents that were written.
fn try_open(subject: &Subject, image: &[u8], what: &str) -> bool {
    let started = Instant::now();
    let opened = catch_unwind(AssertUnwindSafe(|| open(image)));
    let took = started.elapsed();
    assert!(took < PATIENCE, "{what}: took {took:?}");
    match opened {
        Err(_) => panic!("{what}: panicked"),
        Ok(Err(error)) => {
            let says = error.to_string();
            assert!(!says.is_empty() && !says.contains("Error"), "{what}: says {says:?}");
            false
        }
        Ok(Ok(found)) => {
            assert!(found == subject.contents, "{what}: opened with other contents");
            true
        }
    }
}

fn page_of(image: &[u8], page: usize) -> &[u8] {
    &image[page * PAGE as usize..(page + 1) * PAGE as usize]
}

/// `image` with another content of `page`.
fn with_page(image: &[u8], page: usize, content: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    image[page * PAGE as usize..][..PAGE as usize].copy_from_slice(content);
    image
}

/// The pages of the pool that are not all zero.
fn used_pages(image: &[u8]) -> Vec<usize> {
    let pages = image.chunks_exact(PAGE as usize).enumerate();
    pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0)).map(|(page, _)| page).collect()
}

fn step() -> usize {
    let given = std::env::var("DAXITE_DAMAGE_STEP").ok().and_then(|step| step.parse().ok());
    given.unwrap_or(67)
}

#[test]
fn flipped_bytes_never_give_a_wrong_value() {
    let subject = subject(0);
    assert!(try_open(&subject, &subject.image, "undamaged"));
    let mut image = subject.image.clone();
    let (mut opened, mut refused) = (0, 0);
    for page in used_pages(&subject.image) {
        // Every byte of the lines at both ends of a page, where headers are; a sample between.
        let ends = (0..128).chain(PAGE as usize - 128..PAGE as usize);
        let between = (128 + page % step()..PAGE as usize - 128).step_by(step());
        for at in ends.step_by(step().min(5)).chain(between).map(|at| page * PAGE as usize + at) {
            let mask = [0x01, 0x80, 0xff][at % 3];
            image[at] ^= mask;
            match try_open(&subject, &image, &format!("byte {at:#x} flipped by {mask:#x}")) {
                true => opened += 1,
                false => refused += 1,
            }
            image[at] ^= mask;
        }
    }
    println!("{opened} flips were harmless, {refused} were refused");
    assert!(opened > 100 && refused > 100, "{opened} harmless, {refused} refused");
}

#[test]
fn pages_that_are_lost_foreign_or_in_each_others_place_never_give_a_wrong_value() {
    let (subject, other) = (subject(0), subject(1));
    let pages = used_pages(&subject.image);
    let mut refused = 0;
    for (nth, &page) in pages.iter().enumerate() {
        let neighbour = pages[(nth + 1) % pages.len()];
        let replacements = [
            ("zeroed", &[0; PAGE as usize][..]),
            ("filled with ones", &[0xff; PAGE as usize]),
            ("from another pool", page_of(&other.image, page)),
            ("a copy of another page", page_of(&subject.image, neighbour)),
            ("as it was at an earlier close", page_of(&subject.earlier, page)),
            ("as it was before the close", page_of(&subject.unclosed, page)),
        ];
        for (what, replacement) in replacements {
            let image = with_page(&subject.image, page, replacement);
            if image == subject.image {
                continue;
            }
            refused += u64::from(!try_open(&subject, &image, &format!("page {page} {what}")));
        }
    }
    assert!(refused > pages.len() as u64, "only {refused} were refused");
}

#[test]
fn a_segment_that_lost_its_seal_is_named() {
    let subject = subject(0);
    let mut named = 0;
    for page in used_pages(&subject.image) {
        let image = with_page(&subject.image, page, page_of(&subject.unclosed, page));
        let Err(Error::Corruption { what, offset, detail }) = open(&image) else { continue };
        assert!(what.starts_with("segment "), "page {page}: {what}: {detail}");
        assert_eq!(offset / PAGE, page as u64, "{what}: {detail}");
        named += 1;
    }
    assert!(named > 0, "the close sealed nothing");
}

/// The log's extents in `image`, each with its place in it.
fn segments(image: &[u8]) -> Vec<(ExtentInfo, std::ops::Range<usize>)> {
    let pool = Pool::from_image(image, None).unwrap();
    let log = pool.volume("log").unwrap().unwrap();
    let extents = log.extents(LogicalRange::new(0, log.len_bytes())).unwrap();
    let place = |extent: ExtentInfo| {
        let start = extent.physical.0 as usize;
        (extent, start..start + extent.logical.len_bytes as usize)
    };
    extents.into_iter().map(place).collect()
}

#[test]
fn a_whole_segment_that_fell_back_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    drop(Options::new().capacity(POOL_BYTES).create(&path).unwrap());
    // Closed again and again, so that slots and their pages are used for one segment after another.
    let close = |round: u8| {
        let database = Options::new().open(&path).unwrap();
        let keyspace = database.keyspace("a").unwrap();
        for number in 0..40 {
            keyspace.insert(format!("key {number}"), [round; 3_000]).unwrap();
        }
        database.reclaim().unwrap();
        database.close().unwrap();
        std::fs::read(&path).unwrap()
    };
    let images: Vec<Vec<u8>> = (0..12).map(close).collect();
    let (mut lost, mut replaced) = (0, 0);
    for (nth, undamaged) in images.iter().enumerate() {
        for (extent, place) in segments(undamaged) {
            let mut image = undamaged.clone();
            image[place.clone()].fill(0);
            let error = open(&image).map(|_| ()).unwrap_err();
            assert!(error.to_string().starts_with("segment "), "{extent:?} lost: {error}");
            lost += 1;
            for earlier in &images[..nth] {
                let content = &earlier[place.clone()];
                let was_there = segments(earlier).contains(&(extent, place.clone()));
                if was_there && *content != undamaged[place.clone()] {
                    image[place.clone()].copy_from_slice(content);
                    let error = open(&image).map(|_| ()).unwrap_err();
                    assert!(error.is_corruption(), "{extent:?} as it was before: {error}");
                    replaced += 1;
                }
            }
        }
    }
    assert!(lost > 10 && replaced > 10, "{lost} lost, {replaced} replaced");
}

#[test]
fn a_damaged_pool_that_is_refused_is_left_as_it_is() {
    let subject = subject(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut refused = [0; 2];
    for (pool, undamaged) in [&subject.image, &subject.unclosed].into_iter().enumerate() {
        for page in used_pages(undamaged) {
            let mut near_the_ends = page_of(undamaged, page).to_vec();
            near_the_ends[8] ^= 0x11;
            near_the_ends[PAGE as usize - 60] ^= 0x11;
            let mut in_the_middle = page_of(undamaged, page).to_vec();
            in_the_middle[PAGE as usize / 2] ^= 0x11;
            let replacements = [
                ("flipped near its ends", &near_the_ends[..]),
                ("flipped in its middle", &in_the_middle),
                ("zeroed", &[0; PAGE as usize]),
                ("as it was at an earlier close", page_of(&subject.earlier, page)),
            ];
            for (what, replacement) in replacements {
                let image = with_page(undamaged, page, replacement);
                std::fs::write(&path, &image).unwrap();
                if Options::new().open(&path).is_err() {
                    let after = std::fs::read(&path).unwrap();
                    assert!(after == image, "pool {pool}, page {page} {what}: it was changed");
                    refused[pool] += 1;
                }
            }
        }
    }
    assert!(refused.iter().all(|&refused| refused > 20), "only {refused:?} were refused");
}

#[test]
fn a_pool_that_was_cut_is_refused() {
    let subject = subject(0);
    for pages in [0, 1, 2, 3, 511, 512, 513, 1000, 1023] {
        for bytes in [0, 1, 8, 4095] {
            let len = pages * PAGE as usize + bytes;
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("pool");
            std::fs::write(&path, &subject.image[..len]).unwrap();
            let before = std::fs::read(&path).unwrap();
            let error = Options::new().open(&path).map(|_| ()).unwrap_err();
            assert!(
                matches!(error, Error::NotAPool { .. } | Error::Truncated { .. }),
                "{len} bytes: {error}"
            );
            assert!(std::fs::read(&path).unwrap() == before, "{len} bytes: the file was touched");
        }
    }
}

#[test]
fn noise_is_no_pool() {
    let mut random = 1u64;
    let mut noise = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    let subject = subject(0);
    for round in 0..60 {
        let mut image = vec![0; POOL_BYTES as usize];
        image.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&noise()));
        if round % 2 == 0 {
            // Noise behind superblocks that verify.
            for at in [0, 2 << 20] {
                image[at..at + PAGE as usize]
                    .copy_from_slice(&subject.image[at..][..PAGE as usize]);
            }
        }
        assert!(!try_open(&subject, &image, &format!("noise, round {round}")));
    }
}
