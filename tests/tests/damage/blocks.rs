//! Blocks of 64, 512 and 4096 bytes that are lost, foreign, older, or in each other's place.

use daxite_tests::{Bed, Subject};

use crate::patient::{Patient, Shows};

const LENS: [usize; 3] = [64, 512, 4096];

/// Starts of the blocks of `len` bytes in which `patient` has something.
fn blocks(patient: &Patient, len: usize) -> Vec<usize> {
    let mut blocks: Vec<usize> = patient.lines.iter().map(|line| line / len * len).collect();
    blocks.dedup();
    blocks
}

#[test]
fn a_block_that_is_lost_foreign_or_misplaced_never_gives_a_wrong_value() {
    let (subject, other) = (Subject::new(0), Subject::new(1));
    let states = [
        ("killed", &subject.killed, &other.killed, None),
        ("closed", &subject.closed, &other.closed, Some(&subject.killed)),
    ];
    for (state, image, foreign, before_the_close) in states {
        let mut patient = Patient::new(image);
        // Two places at once may be the only frame of a segment, and the end that says that there was one.
        let swapped = if state == "closed" { Shows::Written } else { Shows::Log };
        for len in LENS {
            let (mut tried, mut refused) = (0, 0);
            let blocks = blocks(&patient, len);
            for (nth, &at) in blocks.iter().enumerate() {
                // Its neighbour, and one that is far away.
                let neighbour = blocks[(nth + 1) % blocks.len()];
                let far = blocks[(nth + blocks.len() / 2) % blocks.len()];
                let block = |of: &[u8], at: usize| of[at..at + len].to_vec();
                let mut replaced = vec![
                    ("zeroed", block(&[0; 4096], 0)),
                    ("filled with ones", block(&[0xff; 4096], 0)),
                    ("of another pool", block(foreign, at)),
                ];
                if let Some(before) = before_the_close {
                    replaced.push(("as it was before the close", block(before, at)));
                    replaced.push(("as it was at an earlier close", block(&subject.earlier, at)));
                }
                let mut try_with = |patches: &[(usize, &[u8])], shows, what: &str| {
                    let what = format!("{state}: {len} bytes at {at:#x} {what}");
                    tried += 1;
                    refused += usize::from(patient.open(patches, shows, &what).is_err());
                };
                for (what, bytes) in replaced.iter().filter(|(_, with)| *with != block(image, at)) {
                    try_with(&[(at, bytes)], Shows::Written, what);
                }
                for with in [neighbour, far].into_iter().filter(|with| *with != at) {
                    let (here, there) = (block(image, at), block(image, with));
                    let copied = format!("a copy of those at {with:#x}");
                    try_with(&[(at, &there)], Shows::Written, &copied);
                    let both = [(at, &there[..]), (with, &here)];
                    try_with(&both, swapped, &format!("swapped with {with:#x}"));
                }
            }
            println!("{state}: {tried} blocks of {len} bytes were replaced, {refused} refused");
            assert!(refused > blocks.len(), "{state}: {refused} of {tried} refused");
        }
    }
}

#[test]
fn an_older_block_in_a_pool_that_was_killed_shows_nothing_that_no_log_says() {
    let subject = Subject::new(0);
    let mut patient = Patient::new(&subject.killed);
    for len in LENS {
        let mut refused = 0;
        for at in blocks(&patient, len) {
            let earlier = &subject.earlier[at..at + len];
            let what = format!("{len} bytes at {at:#x} as they were at an earlier close");
            refused += u64::from(patient.open(&[(at, earlier)], Shows::Log, &what).is_err());
        }
        assert!(refused > 0, "{len} bytes");
    }
}

#[test]
fn a_damaged_pool_that_is_refused_is_left_as_it_is() {
    let subject = Subject::new(0);
    let mut bed = Bed::default();
    for undamaged in [&subject.closed, &subject.killed] {
        let patient = Patient::new(undamaged);
        let mut refused = 0;
        for at in blocks(&patient, 4096) {
            let flipped: [&[usize]; 2] = [&[8, 4096 - 60], &[2048]];
            let mut images = flipped.map(|places| {
                let mut image = undamaged.clone();
                places.iter().for_each(|place| image[at + place] ^= 0x11);
                image
            });
            images.iter_mut().for_each(|image| {
                bed.put(image);
                // That it is unchanged is asserted there.
                refused += u64::from(bed.open(|_, _| ()).is_err());
            });
            images[0][at..at + 4096].copy_from_slice(&subject.earlier[at..at + 4096]);
            bed.put(&images[0]);
            refused += u64::from(bed.open(|_, _| ()).is_err());
        }
        assert!(refused > 20, "only {refused} were refused");
    }
}
