//! Promise: what an opening refuses is named, all of it, and not a byte is changed.
//!
//! Method: damage several segments of a closed pool, each in its own way, and examine it. A failure
//! means damage that is found one opening at a time, or not at all.

mod common;

use std::ops::Range;
use std::path::Path;

use common::{pool_path, value_of};
use daxite::daxite_core::{CreateOptions, HUGE, LogicalRange, OpenOptions, Pool, Severity};
use daxite::{Checkup, Database, LogCheckup, LogFinding, Options};

/// A closed pool whose log has at least four segments that are full of frames.
fn pool(path: &Path) -> Vec<u8> {
    let db = Options::new().capacity(24 << 20).lanes(1).create(path).unwrap();
    let keyspace = db.keyspace("data").unwrap();
    for n in 0..8 * 32 {
        keyspace.insert(n.to_string(), value_of(n, 32 << 10)).unwrap();
    }
    db.close().unwrap();
    std::fs::read(path).unwrap()
}

/// The segments of the log, by name, with the bytes of the pool that each has. In a small pool a
/// segment is one run of pages.
fn segments(path: &Path) -> Vec<(String, Range<usize>)> {
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    let pool = Pool::open(path, &options).unwrap();
    let log = pool.volume("log").unwrap().unwrap();
    let extents = log.extents(LogicalRange::new(0, log.len_bytes())).unwrap();
    let segments = extents.iter().map(|extent| {
        let start = extent.physical.0 as usize;
        let name = format!("segment {}", extent.logical.start / HUGE);
        (name, start..start + extent.logical.len_bytes as usize)
    });
    segments.collect()
}

/// Examines `image`, which stays as it is; opening it agrees.
fn examine(path: &Path, image: &[u8]) -> Checkup {
    std::fs::write(path, image).unwrap();
    let checkup = Database::examine(path).unwrap();
    assert!(std::fs::read(path).unwrap() == image, "the file was changed");
    let opened = Options::new().open_read_only(path);
    assert_eq!(opened.is_err(), checkup.is_damaged(), "{checkup:?}");
    checkup
}

fn findings(checkup: &Checkup) -> &[LogFinding] {
    let LogCheckup::Read { findings, .. } = &checkup.log else { panic!("{:?}", checkup.log) };
    findings
}

#[test]
fn a_sound_log_is_counted() {
    let (_folder, path) = pool_path();
    let image = pool(&path);
    let checkup = examine(&path, &image);
    assert_eq!(findings(&checkup), []);
    let LogCheckup::Read { found: Some(report), .. } = checkup.log else { panic!("{checkup:?}") };
    // The values, and the name of their keyspace.
    assert_eq!((report.records, report.was_clean), (8 * 32 + 1, true));
    assert_eq!(checkup.pool.volumes, 1);
}

#[test]
fn the_damage_of_every_segment_is_named_with_its_place() {
    let (_folder, path) = pool_path();
    let mut image = pool(&path);
    let segments = segments(&path);
    assert!(segments.len() >= 4, "{segments:?}");
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|nth| segments[nth].1.clone());
    // A frame in the middle, a seal, a header with its copy, and a header that has a copy.
    let byte = first.start + first.len() / 2;
    image[byte] ^= 1;
    image[second.end - 40] ^= 1;
    image[third.start + 20] ^= 1;
    image[third.end - 100] ^= 1;
    image[fourth.start + 20] ^= 1;
    let checkup = examine(&path, &image);
    assert!(checkup.is_damaged() && !checkup.pool.is_damaged());
    let found = findings(&checkup);
    let names: Vec<&str> = found.iter().map(|finding| &*finding.what).collect();
    let expected: Vec<&str> = segments[..4].iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, expected);
    use Severity::{Damage, Warning};
    let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Damage, Damage, Damage, Warning]);
    let offsets: Vec<usize> = found.iter().map(|finding| finding.offset.0 as usize).collect();
    assert!((byte - (33 << 10)..=byte).contains(&offsets[0]), "{:#x}", offsets[0]);
    assert_eq!(offsets[1..], [second.end - 64, third.start, fourth.start]);
}

#[test]
fn a_header_whose_copy_stands_in_is_a_warning() {
    let (_folder, path) = pool_path();
    let mut image = pool(&path);
    let (name, bytes) = segments(&path).remove(1);
    image[bytes.start + 20] ^= 1;
    let checkup = examine(&path, &image);
    assert!(!checkup.is_damaged());
    let [finding] = findings(&checkup) else { panic!("{checkup:?}") };
    assert_eq!((finding.severity, &finding.what), (Severity::Warning, &name));
}

#[test]
fn seals_that_a_close_wrote_and_that_are_lost_are_named_one_by_one() {
    let (_folder, path) = pool_path();
    let mut image = pool(&path);
    let segments = segments(&path);
    for (_, bytes) in &segments[..3] {
        image[bytes.end - 64..bytes.end].fill(0);
    }
    let checkup = examine(&path, &image);
    let found = findings(&checkup);
    let places: Vec<_> = found.iter().map(|one| (&*one.what, one.offset.0 as usize)).collect();
    let expected: Vec<_> =
        segments[..3].iter().map(|(name, bytes)| (&**name, bytes.end - 64)).collect();
    assert_eq!(places, expected);
}

#[test]
fn segments_that_are_in_order_one_by_one_may_not_be_together() {
    let (_folder, path) = pool_path();
    Options::new().capacity(4 << 20).create(&path).unwrap().close().unwrap();
    // Closed again and again, so that slots and their pages are used for one segment after another.
    let life = |round: u8| {
        let db = Database::open(&path).unwrap();
        let keyspace = db.keyspace("data").unwrap();
        for number in 0..40 {
            keyspace.insert(number.to_string(), [round; 3_000]).unwrap();
        }
        db.reclaim().unwrap();
        db.close().unwrap();
        drop(keyspace);
        (std::fs::read(&path).unwrap(), segments(&path))
    };
    let mut lives: Vec<_> = (0..12).map(life).collect();
    let (last, last_segments) = lives.pop().unwrap();
    let mut older = 0;
    for segment in &last_segments {
        let bytes = segment.1.clone();
        let is_other = |life: &&(Vec<u8>, Vec<_>)| {
            life.1.contains(segment) && life.0[bytes.clone()] != last[bytes.clone()]
        };
        for (earlier, _) in lives.iter().filter(is_other) {
            let mut image = last.clone();
            image[bytes.clone()].copy_from_slice(&earlier[bytes.clone()]);
            let checkup = examine(&path, &image);
            let [finding] = findings(&checkup) else { panic!("{checkup:?}") };
            assert_eq!(finding.severity, Severity::Damage);
            older += usize::from(finding.what == "the log");
        }
    }
    assert!(older > 0, "no segment was used twice");
}

#[test]
fn pools_without_a_log_and_with_damage_below_it_say_so() {
    let (_folder, path) = pool_path();
    let options = CreateOptions { len_bytes: 8 << 20, ..CreateOptions::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("matrix", HUGE).unwrap().write(0, b"1").unwrap();
    pool.close().unwrap();
    drop(pool);
    let checkup = Database::examine(&path).unwrap();
    assert!(!checkup.is_damaged() && matches!(checkup.log, LogCheckup::Absent), "{checkup:?}");
    let mut image = std::fs::read(&path).unwrap();
    for superblock in [0, HUGE as usize] {
        image[superblock + 30] ^= 1;
    }
    std::fs::write(&path, image).unwrap();
    let checkup = Database::examine(&path).unwrap();
    assert!(checkup.is_damaged() && matches!(checkup.log, LogCheckup::Unread), "{checkup:?}");
}

#[test]
fn a_log_whose_volume_is_gone_after_a_close_is_named_and_not_started_again() {
    let (_folder, path) = pool_path();
    let options = CreateOptions { len_bytes: 8 << 20, ..CreateOptions::default() };
    let pool = Pool::create(&path, &options).unwrap();
    pool.create_volume("no log", HUGE).unwrap();
    // As a database does, whose volume then had another name.
    pool.close_with(7).unwrap();
    drop(pool);
    let image = std::fs::read(&path).unwrap();
    let checkup = examine(&path, &image);
    let [finding] = findings(&checkup) else { panic!("{checkup:?}") };
    assert_eq!((finding.severity, &*finding.what), (Severity::Damage, "the log"));
    assert!(Database::open(&path).unwrap_err().is_corruption());
    assert!(std::fs::read(&path).unwrap() == image, "the file was changed");
}
