//! Bytes that are flipped one at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use daxite::Error;
use daxite_tests::{Subject, number};

use crate::patient::{Part, Patient, Shows};

/// What became of flips.
#[derive(Default, Debug)]
struct Tally {
    harmless: usize,
    refused: usize,
    /// Of which the last frame of a segment without a seal is taken for torn.
    torn: usize,
}

#[test]
fn a_flipped_byte_is_named_or_makes_no_difference() {
    let subject = Subject::new(0);
    for (state, image) in [("killed", &subject.killed), ("closed", &subject.closed)] {
        let tally = flip_all(state, image);
        let faults = tally.harmless + tally.refused + tally.torn;
        println!("{state}: {faults} flips: {tally:?}");
        assert!(tally.harmless > 50 && tally.refused > 100, "{state}: {tally:?}");
        assert_eq!(tally.torn > 0, state == "killed", "{tally:?}");
    }
}

/// Flips bytes of `image`, on all cores.
fn flip_all(state: &str, image: &[u8]) -> Tally {
    let step = number("DAXITE_DAMAGE_STEP").unwrap_or(67) as usize;
    let bytes: Vec<usize> = match std::env::var("DAXITE_DAMAGE_BYTES").as_deref() {
        Ok("all") => (0..image.len()).collect(),
        _ => Patient::new(image).lines.iter().flat_map(|line| *line..line + 64).collect(),
    };
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut patient = Patient::new(image);
                let mut mine = Tally::default();
                // ORDERING: Relaxed; each number is given to one thread.
                while let Some(&at) = bytes.get(next.fetch_add(step, Ordering::Relaxed)) {
                    flip(&mut patient, state, at, &mut mine);
                }
                let mut all = tally.lock().unwrap();
                all.harmless += mine.harmless;
                all.refused += mine.refused;
                all.torn += mine.torn;
            });
        }
    });
    tally.into_inner().unwrap()
}

fn flip(patient: &mut Patient, state: &str, at: usize, tally: &mut Tally) {
    let mask = [0x01, 0x80, 0xff][at % 3];
    let what = format!("{state}: byte {at:#x} flipped by {mask:#x}");
    let flipped = [patient.image[at] ^ mask];
    let opened = patient.open(&[(at, &flipped)], Shows::Written, &what);
    let (bytes, part) = patient.part(at);
    match &opened {
        Ok(0) => tally.harmless += 1,
        Ok(gone) => {
            assert_eq!(*gone, 1, "{what}");
            tally.torn += 1;
        }
        Err(_) => tally.refused += 1,
    }
    match (part, opened) {
        // The other copy says the same.
        (Part::Superblock | Part::BadPages | Part::Other, opened) => {
            assert!(opened.is_ok(), "{what}: {opened:?}");
        }
        (Part::Table, Err(Error::Corruption { offset, .. })) => {
            assert_eq!(offset, at as u64 / 8 * 8, "{what}");
        }
        (Part::Table, opened) => panic!("{what}: {opened:?}"),
        (Part::Segment(nth), Ok(gone)) => {
            let contents = patient.log.segments[nth].contents.as_ref().expect("a segment");
            let in_segment = at - bytes.start;
            let in_frame = contents
                .frames
                .iter()
                .any(|frame| (frame.start..frame.start + frame.len_bytes).contains(&in_segment));
            assert_eq!(in_frame, gone == 1, "{what}: not noticed");
        }
        (Part::Segment(_), Err(Error::Corruption { what: named, offset, .. })) => {
            assert!(named.starts_with("segment "), "{what}: {named}");
            let before = bytes.start as u64..=at as u64;
            assert!(before.contains(&offset), "{what}: {named} at {offset:#x}");
        }
        (Part::Segment(_), Err(error)) => panic!("{what}: {error}"),
    }
}
