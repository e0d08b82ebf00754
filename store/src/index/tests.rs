//! The index against a map of the standard library: keys chosen to share long beginnings, to be beginnings
//! of each other, and to fill nodes of every class; alone, and with threads on different keys.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::segment::SegmentNo;

/// Records that are keys and nothing else, each at the place that its number says.
struct Keys(Vec<Vec<u8>>);

impl Keyed for &[u8] {
    fn key(&self) -> &[u8] {
        self
    }
}

impl<'k> Records for &'k Keys {
    type Record = &'k [u8];

    fn record(&self, at: Location) -> Result<Option<&'k [u8]>> {
        Ok(Some(&self.0[number(at)]))
    }

    fn prefetch(&self, _at: Location) {}
}

fn number(at: Location) -> usize {
    (at.offset() / 8) as usize % 0x2000 + at.segment().0 as usize / 2 * 0x2000
}

/// Key `number` in one of its two places.
fn place(number: usize, moved: bool) -> Location {
    let no = SegmentNo((number / 0x2000 * 2 + usize::from(moved)) as u32);
    Location::new(no, (number % 0x2000 * 8) as u64, 64)
}

fn random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

fn deduplicated(mut keys: Vec<Vec<u8>>) -> Keys {
    keys.sort();
    keys.dedup();
    Keys(keys)
}

/// Keys of every shape that a radix tree treats in its own way.
fn shapes() -> Vec<(&'static str, Keys)> {
    let mut state = 88_172_645_463_325_252;
    let mut random = |limit: usize| random(&mut state) % limit;
    let tails = |prefix: &[u8], count: usize, random: &mut dyn FnMut(usize) -> usize| -> Vec<_> {
        (0..count)
            .map(|_| {
                let len = random(4);
                let tail = (0..len).map(|_| random(7) as u8 * 42);
                prefix.iter().copied().chain(tail).collect()
            })
            .collect()
    };
    let mut mixed = tails(b"", 200, &mut random);
    for prefix in [&b"user:"[..], b"a path that is longer than eight bytes/", &[0; 20], &[255; 9]] {
        mixed.extend(tails(prefix, 200, &mut random));
    }
    let nested = (0..300).map(|len| vec![7; len]).collect();
    let numbers = (0..3000u64).map(|n| n.to_be_bytes().to_vec()).collect();
    let sparse = (0..3000).map(|_| (random(1 << 40) as u64).to_le_bytes().to_vec()).collect();
    let dense = (0..=255u8).flat_map(|a| (0..8).map(move |b| vec![a, b])).collect();
    let shapes: Vec<(_, Vec<Vec<u8>>)> = vec![
        ("mixed", mixed),
        ("nested", nested),
        ("numbers", numbers),
        ("sparse", sparse),
        ("dense", dense),
    ];
    shapes.into_iter().map(|(name, keys)| (name, deduplicated(keys))).collect()
}

fn all(index: &Index, keys: &Keys, end: End, chunk: usize) -> Vec<usize> {
    let mut all: Vec<usize> = Vec::new();
    loop {
        let from = all.last().map_or(Bound::Unbounded, |last| Bound::Excluded(&keys.0[*last][..]));
        let mut found = Vec::new();
        index.gather(from, end, chunk, &keys, &mut found).unwrap();
        all.extend(found.iter().copied().map(number));
        if found.len() < chunk {
            return all;
        }
    }
}

#[test]
fn it_agrees_with_a_map_whatever_the_keys_share() {
    for (name, keys) in shapes() {
        let index = Index::new().unwrap();
        let mut map: BTreeMap<usize, Location> = BTreeMap::new();
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let steps = 40 * keys.0.len().min(1000);
        for step in 0..steps {
            // First it grows, then it goes up and down, then it gets empty.
            let n = random(&mut state) % keys.0.len();
            let key = &keys.0[n];
            let grow = if step < steps / 2 { 8 } else { 3 };
            match random(&mut state) % 10 {
                op if op < grow => {
                    let to = place(n, random(&mut state).is_multiple_of(2));
                    assert_eq!(
                        index.publish(key, to, &&keys).unwrap(),
                        map.insert(n, to),
                        "{name}"
                    );
                }
                8 => {
                    let (from, to) = (place(n, false), place(n, true));
                    let moved = map.get_mut(&n).filter(|at| **at == from).map(|at| *at = to);
                    assert_eq!(index.relocate(key, from, to).unwrap(), moved.is_some(), "{name}");
                }
                _ => {
                    assert_eq!(index.remove(key, &&keys).unwrap(), map.remove(&n), "{name}");
                }
            }
            let other = random(&mut state) % keys.0.len();
            let found = index.find(&keys.0[other], &&keys).unwrap();
            assert_eq!(found.map(|(at, _)| at), map.get(&other).copied(), "{name}");
            assert_eq!(index.len(), map.len() as u64, "{name}");
            if step % 500 == 0 {
                let forwards = all(&index, &keys, End::Front, 1 + step % 37);
                assert!(forwards.iter().eq(map.keys()), "{name}");
                let backwards = all(&index, &keys, End::Back, 1 + step % 23);
                assert!(backwards.iter().eq(map.keys().rev()), "{name}");
                check_ranges(&index, &keys, &map, &mut state, name);
            }
        }
        for n in map.keys() {
            assert!(index.remove(&keys.0[*n], &&keys).unwrap().is_some(), "{name}");
        }
        assert_eq!(index.len(), 0);
        let before = index.bytes();
        for (n, key) in keys.0.iter().enumerate() {
            index.publish(key, place(n, false), &&keys).unwrap();
        }
        assert!(all(&index, &keys, End::Front, 100).into_iter().eq(0..keys.0.len()), "{name}");
        let detached = index.detach();
        assert_eq!(index.len(), 0);
        let mut buried = Vec::new();
        index.dismantle(detached, |at| buried.push(number(at)));
        buried.sort_unstable();
        assert!(buried.into_iter().eq(0..keys.0.len()), "{name}");
        let full = index.bytes();
        for (n, key) in keys.0.iter().enumerate() {
            index.publish(key, place(n, false), &&keys).unwrap();
        }
        assert_eq!(index.bytes(), full, "{name}: memory is used again, {before} before");
    }
}

/// Starts at keys that are there, that are not, and at beginnings and continuations of them.
fn check_ranges(
    index: &Index,
    keys: &Keys,
    map: &BTreeMap<usize, Location>,
    state: &mut u64,
    name: &str,
) {
    for _ in 0..40 {
        let mut from = keys.0[random(state) % keys.0.len()].clone();
        match random(state) % 4 {
            0 => from.truncate(random(state) % (from.len() + 1)),
            1 => from.push(random(state) as u8),
            2 if !from.is_empty() => {
                let at = random(state) % from.len();
                from[at] = from[at].wrapping_add(random(state) as u8);
            }
            _ => {}
        }
        for bound in [Bound::Included(&from[..]), Bound::Excluded(&from[..])] {
            for end in [End::Front, End::Back] {
                let mut found = Vec::new();
                index.gather(bound, end, 5, &keys, &mut found).unwrap();
                let belongs = |n: &&usize| is_behind(&keys.0[**n], bound, end);
                let expected: Vec<_> = match end {
                    End::Front => map.keys().filter(belongs).take(5).collect(),
                    End::Back => map.keys().rev().filter(belongs).take(5).collect(),
                };
                let found: Vec<_> = found.into_iter().map(number).collect();
                assert!(found.iter().eq(expected), "{name}: from {bound:?} {end:?}: {found:?}");
            }
        }
    }
}

/// Each writer has its own keys; readers look at all, and see every key that stays, in order.
#[test]
fn threads_on_different_keys_do_not_disturb_each_other() {
    for (name, keys) in shapes() {
        let index = Index::new().unwrap();
        let (keys, index, name) = (&keys, &index, &name);
        // Every fifth key stays.
        for n in (0..keys.0.len()).step_by(5) {
            index.publish(&keys.0[n], place(n, false), &keys).unwrap();
        }
        let done = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (1..5usize)
                .map(|writer| {
                    scope.spawn(move || {
                        let mut state = 7 + writer as u64;
                        let mut mine = BTreeMap::new();
                        for _ in 0..20_000 {
                            let n = random(&mut state) % keys.0.len() / 5 * 5 + writer;
                            let Some(key) = keys.0.get(n) else { continue };
                            if random(&mut state).is_multiple_of(2) {
                                let to = place(n, random(&mut state).is_multiple_of(2));
                                let old = index.publish(key, to, &keys).unwrap();
                                assert_eq!(old, mine.insert(n, to), "{name}");
                            } else {
                                assert_eq!(index.remove(key, &keys).unwrap(), mine.remove(&n));
                            }
                            let found = index.find(key, &keys).unwrap().map(|(at, _)| at);
                            assert_eq!(found, mine.get(&n).copied(), "{name}");
                        }
                        mine
                    })
                })
                .collect();
            let readers: Vec<_> = [End::Front, End::Back]
                .into_iter()
                .map(|end| {
                    scope.spawn(move || {
                        while !done.load(Ordering::Relaxed) {
                            let seen = all(index, keys, end, 50);
                            let mut sorted = seen.clone();
                            sorted.sort_unstable();
                            sorted.dedup();
                            if end == End::Back {
                                sorted.reverse();
                            }
                            assert_eq!(seen, sorted, "{name}: out of order");
                            let staying = seen.iter().filter(|n| **n % 5 == 0).count();
                            assert_eq!(staying, keys.0.len().div_ceil(5), "{name}");
                        }
                    })
                })
                .collect();
            let mut expected: Vec<usize> = (0..keys.0.len()).step_by(5).collect();
            for writer in writers {
                expected.extend(writer.join().unwrap().keys());
            }
            done.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            expected.sort_unstable();
            assert_eq!(all(index, keys, End::Front, 64), expected, "{name}");
            assert_eq!(index.len(), expected.len() as u64);
        });
    }
}

/// Keys some of whose records cannot be read.
struct Lossy<'k> {
    keys: &'k Keys,
    lost: Vec<usize>,
}

impl<'k> Records for Lossy<'k> {
    type Record = &'k [u8];

    fn record(&self, at: Location) -> Result<Option<&'k [u8]>> {
        if self.lost.contains(&number(at)) {
            let (what, path) = ("a record".to_string(), "a pool".into());
            return Err(crate::Error::MediaError { what, path, offset: 0, len_bytes: 4096 });
        }
        Ok(Some(&self.keys.0[number(at)]))
    }

    fn prefetch(&self, _: Location) {}
}

#[test]
fn a_lost_record_is_in_the_way_of_its_like_only_and_is_removed_by_name() {
    let is_refused = |answer: Result<Option<Location>>| {
        assert!(answer.is_err_and(|error| error.is_media_error()));
    };
    for (name, keys) in shapes() {
        let index = Index::new().unwrap();
        let mut others = Vec::new();
        for (n, key) in keys.0.iter().enumerate() {
            match n % 7 {
                // Put in when some are lost.
                3 => others.push(n),
                _ => drop(index.publish(key, place(n, false), &&keys).unwrap()),
            }
        }
        let lost: Vec<usize> = (0..keys.0.len()).filter(|n| n % 7 == 0 && n % 3 > 0).collect();
        let lossy = Lossy { keys: &keys, lost };
        let mut added = 0;
        for &n in &others {
            // Whose place is that of a lost one, or shares what only that one knew, is refused.
            match index.publish(&keys.0[n], place(n, false), &lossy) {
                Ok(replaced) => added += usize::from(replaced.is_none()),
                refused => is_refused(refused),
            }
        }
        assert!(added * 10 > others.len() * 7, "{name}: {added} of {}", others.len());
        for n in (0..keys.0.len()).filter(|n| n % 7 != 3) {
            let key = &keys.0[n];
            assert!(index.is_at(key, place(n, false)).unwrap());
            assert!(!index.is_at(key, place(n, true)).unwrap());
            if !lossy.lost.contains(&n) {
                assert_eq!(index.find(key, &lossy).unwrap().unwrap().0, place(n, false));
                assert_eq!(index.remove_lost(key, &lossy).unwrap(), None, "{name}: it is read");
                continue;
            }
            is_refused(index.find(key, &lossy).map(|found| found.map(|(at, _)| at)));
            is_refused(index.remove(key, &lossy));
            is_refused(index.publish(key, place(n, true), &lossy));
        }
        let before = index.len();
        for &n in &lossy.lost {
            assert_eq!(index.remove_lost(&keys.0[n], &lossy).unwrap(), Some(place(n, false)));
            assert!(index.find(&keys.0[n], &lossy).unwrap().is_none());
            assert_eq!(index.publish(&keys.0[n], place(n, true), &&keys).unwrap(), None);
        }
        assert_eq!(index.len(), before, "{name}");
        assert_eq!(all(&index, &keys, End::Front, 50).len() as u64, before);
    }
}
