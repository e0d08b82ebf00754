//! What the judges must reject: stores that are wrong in one way each.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use crate::Outcome;
use crate::arena::Arena;
use crate::peers::Peer;
use crate::plan::Plan;
use crate::record::{Key, Value};
use crate::workload::WORKLOADS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    None,
    /// Updates of one in a hundred keys are acknowledged and lost.
    LosesUpdates,
    /// One record in a hundred is not written by a batch.
    LosesOfBatches,
    /// One byte of one value in a hundred is another.
    Garbles,
    /// A key that is not there has a value.
    Invents,
    /// Removals are acknowledged and lost.
    KeepsRemoved,
    /// Scans pass over one key in a hundred.
    SkipsInScans,
    /// Scans begin with a key that is not the first.
    BeginsLate,
    /// Scans end before the limit.
    EndsEarly,
    /// Scans visit the pairs in descending order.
    Reverses,
}

struct Liar {
    map: Mutex<BTreeMap<Key, Value>>,
    lie: Lie,
}

impl Liar {
    fn lies(&self, lie: Lie, key: &Key) -> bool {
        self.lie == lie && key[7].is_multiple_of(100)
    }
}

impl Peer for Liar {
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let map = self.map.lock().expect("no panic");
        let invented = (self.lie == Lie::Invents).then(|| map.first_key_value()).flatten();
        let found = map.get(key).or(invented.map(|(_, value)| value)).copied();
        Ok(found
            .map(|mut value| {
                value[99] ^= u8::from(self.lies(Lie::Garbles, key));
                read(&value);
            })
            .is_some())
    }

    fn get_many(&self, keys: &[Key], read: &mut dyn FnMut(usize, &[u8])) -> Outcome<()> {
        for (at, key) in keys.iter().enumerate() {
            self.get(key, &mut |value| read(at, value))?;
        }
        Ok(())
    }

    fn put(&self, key: &Key, value: &Value) -> Outcome<()> {
        let mut map = self.map.lock().expect("no panic");
        if !(map.contains_key(key) && self.lies(Lie::LosesUpdates, key)) {
            map.insert(*key, *value);
        }
        Ok(())
    }

    fn remove(&self, key: &Key) -> Outcome<()> {
        if self.lie != Lie::KeepsRemoved {
            self.map.lock().expect("no panic").remove(key);
        }
        Ok(())
    }

    fn put_batch(&self, pairs: &[(Key, Value)]) -> Outcome<()> {
        let kept = pairs.iter().filter(|(key, _)| !self.lies(Lie::LosesOfBatches, key));
        self.map.lock().expect("no panic").extend(kept.copied());
        Ok(())
    }

    fn scan(&self, from: &Key, limit: usize, visit: &mut dyn FnMut(&[u8], &[u8])) -> Outcome<()> {
        let map = self.map.lock().expect("no panic");
        let (skip, less) = (self.lie == Lie::BeginsLate, self.lie == Lie::EndsEarly);
        let pairs = map.range(*from..).skip(skip.into()).take(limit - usize::from(less));
        let pairs = pairs.filter(|(key, _)| !self.lies(Lie::SkipsInScans, key));
        let mut pairs: Vec<_> = pairs.collect();
        if self.lie == Lie::Reverses {
            pairs.reverse();
        }
        pairs.into_iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(())
    }
}

/// Runs everything over a liar.
fn verdict(lie: Lie) -> Outcome<()> {
    let plan = Plan::new(3000, Duration::from_millis(50));
    let peer = Liar { map: Mutex::default(), lie };
    let arena = Arena::new(&plan, &peer);
    for workload in WORKLOADS {
        for threads in workload.threads() {
            arena.run(workload, *threads)?;
        }
    }
    arena.check()
}

#[test]
fn the_honest_pass() {
    verdict(Lie::None).expect("nothing is wrong");
}

#[test]
fn each_lie_is_found() {
    use Lie::*;
    for lie in [
        LosesUpdates,
        LosesOfBatches,
        Garbles,
        Invents,
        KeepsRemoved,
        SkipsInScans,
        BeginsLate,
        EndsEarly,
        Reverses,
    ] {
        assert!(verdict(lie).is_err(), "{lie:?} was not found");
    }
}
