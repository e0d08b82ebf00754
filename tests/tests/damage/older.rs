//! What is back as it was at an earlier moment: a lost seal, a lost segment, an older one.

use std::ops::Range;

use daxite::{Error, Options};
use daxite_core::{PAGE, Pool};
use daxite_tests::{Log, POOL_BYTES, Shown, Subject, shown};

fn open(image: &[u8]) -> Result<Shown, Error> {
    let pool = Pool::from_image(image, None)?;
    shown(&Options::new().on_pool(pool)?)
}

/// The segments in `image` by number, each with its bytes.
fn segments(image: &[u8]) -> Vec<(u32, Range<usize>)> {
    let segments = Log::of(image).unwrap().segments.into_iter();
    segments.map(|segment| (segment.number, segment.bytes)).collect()
}

#[test]
fn a_segment_that_lost_its_seal_is_named() {
    let Subject { killed, closed, .. } = Subject::new(0);
    let mut named = 0;
    for page in 0..closed.len() / PAGE as usize {
        let bytes = page * PAGE as usize..(page + 1) * PAGE as usize;
        let mut image = closed.clone();
        image[bytes.clone()].copy_from_slice(&killed[bytes]);
        if image == closed {
            continue;
        }
        let Err(Error::Corruption { what, offset, detail }) = open(&image) else { continue };
        assert!(what.starts_with("segment "), "page {page}: {what}: {detail}");
        assert_eq!(offset / PAGE, page as u64, "{what}: {detail}");
        named += 1;
    }
    assert!(named > 0, "the close sealed nothing");
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
        for (number, place) in segments(undamaged) {
            let mut image = undamaged.clone();
            image[place.clone()].fill(0);
            let error = open(&image).map(|_| ()).unwrap_err();
            assert!(error.to_string().starts_with("segment "), "{number} lost: {error}");
            lost += 1;
            for earlier in &images[..nth] {
                let content = &earlier[place.clone()];
                let was_there = segments(earlier).contains(&(number, place.clone()));
                if was_there && *content != undamaged[place.clone()] {
                    image[place.clone()].copy_from_slice(content);
                    let error = open(&image).map(|_| ()).unwrap_err();
                    assert!(error.is_corruption(), "{number} as it was before: {error}");
                    replaced += 1;
                }
            }
        }
    }
    assert!(lost > 10 && replaced > 10, "{lost} lost, {replaced} replaced");
}
