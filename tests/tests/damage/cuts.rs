//! Files that are cut, or longer than their pool, or noise.

use std::fs::File;
use std::os::unix::fs::FileExt;

use daxite::{Database, Error, Options};
use daxite_core::PAGE;
use daxite_tests::{Bed, POOL_BYTES, Random, Subject, shown, test_folder};

#[test]
fn a_pool_that_was_cut_at_any_page_or_a_byte_beside_it_is_refused() {
    let subject = Subject::new(0);
    let folder = test_folder("daxite-cut");
    let path = folder.path().join("pool");
    std::fs::write(&path, &subject.killed).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut cuts = 0;
    for page in (0..=POOL_BYTES / PAGE).rev() {
        for len in [page * PAGE + 1, page * PAGE, (page * PAGE).saturating_sub(1)] {
            if len >= file.metadata().unwrap().len() {
                continue;
            }
            file.set_len(len).unwrap();
            let refusals = [
                Options::new().open(&path).map(|_| ()).unwrap_err(),
                Options::new().open_read_only(&path).map(|_| ()).unwrap_err(),
                Database::examine(&path).map(|_| ()).unwrap_err(),
            ];
            for error in refusals {
                let is_cut = matches!(error, Error::NotAPool { .. } | Error::Truncated { .. });
                assert!(is_cut, "{len} bytes: {error}");
            }
            let mut after = vec![0; len as usize + 1];
            let read = file.read_at(&mut after, 0).unwrap();
            assert_eq!(read as u64, len, "the length was changed");
            assert!(after[..read] == subject.killed[..read], "{len} bytes: it was changed");
            cuts += 1;
        }
    }
    // Each page, and a byte to both sides.
    assert_eq!(cuts, 3 * (POOL_BYTES / PAGE) - 1 + 1);
}

#[test]
fn what_is_behind_the_end_of_a_pool_makes_no_difference() {
    let subject = Subject::new(0);
    let mut bed = Bed::default();
    for image in [&subject.killed, &subject.closed] {
        for more in [1, PAGE as usize, PAGE as usize + 1, 2 << 20] {
            let mut image = image.clone();
            image.resize(POOL_BYTES as usize + more, 0x5a);
            bed.put(&image);
            let found = bed.open(|database, _| shown(&database).unwrap());
            assert!(found.unwrap() == subject.shown, "{more} bytes more");
        }
    }
}

#[test]
fn noise_is_no_pool() {
    let subject = Subject::new(0);
    let (mut random, mut bed) = (Random::new(1), Bed::default());
    for round in 0..60 {
        let mut image: Vec<u8> = (0..POOL_BYTES).map(|_| random.below(256) as u8).collect();
        if round % 2 == 0 {
            // Noise behind superblocks that verify.
            for at in [0, 2 << 20] {
                let superblock = at..at + PAGE as usize;
                image[superblock.clone()].copy_from_slice(&subject.closed[superblock]);
            }
        }
        bed.put(&image);
        assert!(bed.open(|_, _| ()).is_err(), "round {round}");
    }
}
