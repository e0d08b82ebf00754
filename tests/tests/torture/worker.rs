//! The process that is killed.

use std::path::Path;
use std::thread;
use std::time::Duration;

use daxite::{Database, Error, Keyspace, Value};
use daxite_tests::{Change, Event, KeyNo, Ledger, Outcome, Random, STAMPED_LEN_MIN, Stamp};

use crate::plan::{KEYS, KEYSPACES, Plan, key_bytes, keyspace_of};

/// Longer than the parent waits before it kills.
const FOR_EVER: Duration = Duration::from_secs(600);
/// So much is told of a mistake: it fits an event.
const MISTAKE_LEN_MAX: usize = 500;
/// A batch has up to so many changes.
const BATCH_MAX: u64 = 8;

pub(crate) fn work(plan: &Plan, path: &Path, ledger: &Ledger) {
    // A thread that finds a mistake takes the process with it. The parent is told first: its kill may
    // come while the report is printed.
    let (report, teller) = (std::panic::take_hook(), ledger.clone());
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        teller.note(&Event::Said(text.chars().take(MISTAKE_LEN_MAX).collect()));
        report(panic);
        std::process::exit(101);
    }));
    ledger.note(&Event::Opening);
    let database = plan.options().open(path).expect("a pool that opens");
    ledger.note(&Event::Opened { was_clean: database.recovery_report().was_clean });
    let keyspaces = KEYSPACES.map(|name| database.keyspace(name).expect("a keyspace"));
    thread::scope(|scope| {
        for thread in 0..plan.threads {
            let (keyspaces, database) = (&keyspaces, &database);
            scope.spawn(move || Worker::new(plan, thread, database, keyspaces, ledger).run());
        }
        thread::sleep(plan.closes_after.unwrap_or(FOR_EVER));
        ledger.note(&Event::Closing);
        database.clone().close().expect("closing");
        ledger.note(&Event::Closed);
    });
}

/// One thread.
struct Worker<'a> {
    plan: &'a Plan,
    thread: u16,
    operation: u32,
    random: Random,
    database: &'a Database,
    keyspaces: &'a [Keyspace; 2],
    ledger: &'a Ledger,
}

/// Whether the database is still open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

impl<'a> Worker<'a> {
    fn new(
        plan: &'a Plan,
        thread: u16,
        database: &'a Database,
        keyspaces: &'a [Keyspace; 2],
        ledger: &'a Ledger,
    ) -> Self {
        let seed = plan.seed << 40 ^ u64::from(plan.cycle) << 8 ^ u64::from(thread);
        let random = Random::new(seed);
        Self { plan, thread, operation: 0, random, database, keyspaces, ledger }
    }

    fn run(mut self) {
        while self.step() == State::Open {
            self.operation += 1;
        }
    }

    fn step(&mut self) -> State {
        if self.random.below(self.plan.reclaim_every) == 0 {
            return self.reclaim();
        }
        match self.random.below(2000) {
            0 => self.clear(),
            1..800 => self.put(),
            800..1100 => self.remove(),
            1100..1400 => self.batch(),
            1400..1700 => self.swap(),
            _ => self.get(),
        }
    }

    fn put(&mut self) -> State {
        let key = self.key();
        let stamp = self.stamp(0);
        self.begin(vec![(key, Some(stamp))], None);
        let keyspace = self.keyspace(key);
        if self.random.below(4) > 0 {
            let answer = keyspace.insert(key_bytes(key), stamp.value());
            return self.end(answer.map(|()| Outcome::Done), None);
        }
        match keyspace.replace(key_bytes(key), stamp.value()) {
            Ok(old) => self.end(Ok(Outcome::Done), old.map(|old| (key, stamp_of(&old)))),
            Err(error) => self.end(Err(error), None),
        }
    }

    fn remove(&mut self) -> State {
        let key = self.key();
        self.begin(vec![(key, None)], None);
        let keyspace = self.keyspace(key);
        let found = |found: bool| if found { Outcome::Done } else { Outcome::Refused };
        if self.random.below(4) > 0 {
            let answer = keyspace.remove(key_bytes(key));
            return self.end(answer.map(found), None);
        }
        match keyspace.take(key_bytes(key)) {
            Ok(old) => self.end(Ok(found(old.is_some())), old.map(|old| (key, stamp_of(&old)))),
            Err(error) => self.end(Err(error), None),
        }
    }

    fn batch(&mut self) -> State {
        let mut changes: Vec<Change> = Vec::new();
        for nth in 0..2 + self.random.below(BATCH_MAX - 1) {
            let key = self.key();
            let change = (self.random.below(4) > 0).then(|| self.stamp(nth as u16));
            if changes.iter().all(|(other, _)| *other != key) {
                changes.push((key, change));
            }
        }
        let mut batch = self.database.batch();
        for (key, change) in &changes {
            match change {
                Some(stamp) => batch.insert(self.keyspace(*key), key_bytes(*key), stamp.value()),
                None => batch.remove(self.keyspace(*key), key_bytes(*key)),
            };
        }
        self.begin(changes, None);
        let answer = batch.commit();
        self.end(answer.map(|_| Outcome::Done), None)
    }

    fn swap(&mut self) -> State {
        let key = self.key();
        let keyspace = self.keyspace(key);
        let current = match keyspace.get(key_bytes(key)) {
            Ok(current) => current,
            Err(error) => return state_after(error),
        };
        let replaces = current.as_ref().map(|current| (key, stamp_of(current)));
        let new = (self.random.below(4) > 0).then(|| self.stamp(0));
        self.begin(vec![(key, new)], replaces);
        let value = new.map(|stamp| stamp.value());
        let old = current.as_deref();
        match keyspace.compare_and_swap(key_bytes(key), old, value.as_deref()) {
            Ok(Ok(())) => self.end(Ok(Outcome::Done), None),
            Ok(Err(conflict)) => {
                if let Some(current) = conflict.current {
                    self.ledger.note(&Event::Saw { key, stamp: stamp_of(&current) });
                }
                self.end(Ok(Outcome::Refused), None)
            }
            Err(error) => self.end(Err(error), None),
        }
    }

    fn get(&mut self) -> State {
        let key = self.key();
        match self.keyspace(key).get(key_bytes(key)) {
            Ok(None) => {}
            Ok(Some(value)) => self.ledger.note(&Event::Saw { key, stamp: stamp_of(&value) }),
            Err(error) => return state_after(error),
        }
        State::Open
    }

    fn clear(&mut self) -> State {
        let keyspace = self.random.below(2) as usize;
        let keys = (0..KEYS).filter(|key| keyspace_of(*key) == keyspace);
        self.begin(keys.map(|key| (key, None)).collect(), None);
        let answer = self.keyspaces[keyspace].clear();
        self.end(answer.map(|()| Outcome::Done), None)
    }

    fn reclaim(&mut self) -> State {
        self.ledger.note(&Event::Reclaiming);
        match self.database.reclaim() {
            Ok(_) => State::Open,
            Err(error) => state_after(error),
        }
    }

    fn begin(&self, changes: Vec<Change>, replaces: Option<(KeyNo, Stamp)>) {
        let (thread, operation) = (self.thread, self.operation);
        self.ledger.note(&Event::Begin { thread, operation, changes, replaces });
    }

    fn end(&self, answer: Result<Outcome, Error>, replaced: Option<(KeyNo, Stamp)>) -> State {
        let (outcome, state) = match answer {
            Ok(outcome) => (outcome, State::Open),
            Err(error) => (Outcome::Refused, state_after(error)),
        };
        let (thread, operation) = (self.thread, self.operation);
        self.ledger.note(&Event::End { thread, operation, outcome, replaced });
        state
    }

    fn key(&mut self) -> KeyNo {
        self.random.below(u64::from(self.plan.keys)) as KeyNo
    }

    fn keyspace(&self, key: KeyNo) -> &'a Keyspace {
        &self.keyspaces[keyspace_of(key)]
    }

    /// The stamp of the write `nth` of this operation: mostly short, sometimes long.
    fn stamp(&mut self, nth: u16) -> Stamp {
        let most = match self.random.below(20) {
            0..=9 => 200,
            10..=16 => self.plan.pool.value_max() / 10,
            _ => self.plan.pool.value_max(),
        };
        let (thread, operation) = (self.thread, self.operation);
        let len_bytes = STAMPED_LEN_MIN + self.random.below(most) as u32;
        Stamp { cycle: self.plan.cycle, thread, operation, nth, len_bytes }
    }
}

/// A full pool refuses, and so does one that another thread closed. Anything else is a failure.
fn state_after(error: Error) -> State {
    match error {
        Error::Full { .. } => State::Open,
        Error::Closed => State::Closed,
        error => panic!("{error}"),
    }
}

fn stamp_of(value: &Value) -> Stamp {
    Stamp::of(value).unwrap_or_else(|| panic!("{} bytes that nobody wrote", value.len()))
}
