//! A thread's way to the store: each call and return is noted, and each return is a moment at which
//! the process may be stopped.

use std::sync::{Arc, Mutex};

use daxite::{Database, Error, Keyspace, Value};
use daxite_core::sim::Recorder;
use daxite_tests::history::{Call, Content, Effect, History, Met, Register};
use shuttle::rand::{Rng, thread_rng};

use crate::contents::{self, DROPPED, KEYS, Size, key};

/// What all threads note.
pub(crate) struct Log {
    pub history: History,
    /// The next number that was never written.
    pub next: u64,
}

#[derive(Clone)]
pub(crate) struct Client {
    database: Database,
    keyspace: Keyspace,
    size: Size,
    log: Arc<Mutex<Log>>,
    recorder: Arc<Recorder>,
}

/// A value that was read and is kept.
pub(crate) struct Held {
    value: Value,
    number: u64,
    size: Size,
}

impl Held {
    pub(crate) fn look_again(self) {
        assert_eq!(self.size.number(&self.value), self.number, "a value changed while it was held");
    }
}

impl Client {
    pub(crate) fn new(
        database: Database,
        size: Size,
        log: &Arc<Mutex<Log>>,
        recorder: &Arc<Recorder>,
    ) -> Self {
        let keyspace = contents::keyspace(&database);
        let (log, recorder) = (Arc::clone(log), Arc::clone(recorder));
        Self { database, keyspace, size, log, recorder }
    }

    /// One of the keys, two of them more often.
    pub(crate) fn some_key(&self) -> Register {
        Register([0, 0, 1, 1, 2][thread_rng().gen_range(0..5)])
    }

    pub(crate) fn put(&self, register: Register) {
        let number = self.number();
        let effect = write().leaves(register, Some(number));
        let call = self.call(format!("put {number} in {}", register.0), effect.clone());
        let result = self.keyspace.insert(key(register), self.size.value(number));
        self.returned(call, result.map(|()| effect));
    }

    pub(crate) fn remove(&self, register: Register) {
        let call = self.call(format!("remove {}", register.0), write().leaves(register, None));
        let result = self.keyspace.remove(key(register));
        self.returned(
            call,
            result.map(|was_there| match was_there {
                true => write().meets(register, Met::Something).leaves(register, None),
                false => write().meets(register, Met::Exactly(None)),
            }),
        );
    }

    pub(crate) fn take(&self, register: Register) {
        let call = self.call(format!("take {}", register.0), write().leaves(register, None));
        let result = self.keyspace.take(key(register));
        self.returned(
            call,
            result.map(|value| {
                let content = value.map(|value| self.size.number(&value));
                let effect = write().meets(register, Met::Exactly(content));
                if content.is_some() { effect.leaves(register, None) } else { effect }
            }),
        );
    }

    pub(crate) fn read(&self, register: Register) {
        let call = self.call(format!("read {}", register.0), Effect::glance());
        let read = |value: &[u8]| self.size.number(value);
        let content = self.keyspace.get_with(key(register), read);
        self.returned(call, content.map(|content| seen(register, content)));
    }

    /// Reads, and keeps the value.
    pub(crate) fn hold(&self, register: Register) -> Option<Held> {
        let call = self.call(format!("hold {}", register.0), Effect::glance());
        let size = self.size;
        let held = self
            .keyspace
            .get(key(register))
            .map(|value| value.map(|value| Held { number: size.number(&value), value, size }));
        let content = held.as_ref().ok().and_then(|held| Some(held.as_ref()?.number));
        let held = held.map(|held| {
            self.returned(call, Ok(seen(register, content)));
            held
        });
        held.expect("reading works")
    }

    /// Reads all keys, each at a moment of its own: an iterator is no snapshot.
    pub(crate) fn iterate(&self) {
        let calls: Vec<_> = (0..KEYS)
            .map(Register)
            .map(|register| {
                let what = format!("read {} with the others", register.0);
                (register, self.call(what, Effect::glance()))
            })
            .collect();
        let pairs: Result<Vec<_>, Error> = self.keyspace.iter().collect();
        let pairs = pairs.expect("reading works");
        assert!(pairs.is_sorted_by(|(a, _), (b, _)| a < b), "out of order, or twice");
        for (register, call) in calls {
            let pair = pairs.iter().find(|(found, _)| *found == *key(register).as_bytes());
            let content = pair.map(|(_, value)| self.size.number(value));
            self.returned(call, Ok(seen(register, content)));
        }
    }

    /// Writes to all keys but one, as one; sometimes a removal is among them.
    pub(crate) fn batch(&self) {
        let number = self.number();
        let (left_out, removed) = (thread_rng().gen_range(0..KEYS), thread_rng().gen_range(0..6));
        let mut batch = self.database.batch();
        let mut effect = write();
        for register in (0..KEYS).filter(|nth| *nth != left_out).map(Register) {
            if register.0 == removed {
                batch.remove(&self.keyspace, key(register));
                effect = effect.leaves(register, None);
            } else {
                batch.insert(&self.keyspace, key(register), self.size.value(number));
                effect = effect.leaves(register, Some(number));
            }
        }
        let call = self.call(format!("batch {number}"), effect.clone());
        let result = batch.commit();
        self.returned(call, result.map(|_| effect));
    }

    /// Puts a new number over what it read, if that is still there.
    pub(crate) fn count_up(&self) {
        let register = Register(0);
        let call = self.call(format!("read {}", register.0), Effect::glance());
        let old = self.keyspace.get_with(key(register), |value| self.size.number(value));
        let content = *old.as_ref().expect("reading works");
        self.returned(call, old.map(|old| seen(register, old)));

        let number = self.number();
        let swap = write().meets(register, Met::Exactly(content)).leaves(register, Some(number));
        let call = self.call(format!("swap {content:?} for {number}"), swap.clone());
        let (old, new) = (content.map(|old| self.size.value(old)), self.size.value(number));
        let result = self.keyspace.compare_and_swap(key(register), old.as_deref(), Some(&new));
        self.returned(
            call,
            result.map(|result| match result {
                Ok(()) => swap,
                Err(lost) => {
                    let found = lost.current.map(|value| self.size.number(&value));
                    assert_ne!(found, content, "a swap was refused without a reason");
                    write().meets(register, Met::Exactly(found))
                }
            }),
        );
    }

    pub(crate) fn drop_keyspace(&self) {
        let dropped = cleared().leaves(DROPPED, Some(0));
        let call = self.call("drop".to_string(), dropped.clone());
        let result = contents::drop_keyspace(&self.database);
        self.returned(
            call,
            result.map(|was_there| match was_there {
                true => dropped,
                false => Effect::nothing().meets(DROPPED, Met::Something),
            }),
        );
    }

    pub(crate) fn clear(&self) {
        let call = self.call("clear".to_string(), cleared());
        let result = self.keyspace.clear();
        self.returned(call, result.map(|()| cleared()));
    }

    pub(crate) fn reclaim(&self) {
        let call = self.call("reclaim".to_string(), Effect::nothing());
        let result = self.database.reclaim();
        self.returned(call, result.map(|_| Effect::nothing()));
    }

    fn number(&self) -> u64 {
        let mut log = self.log.lock().expect("no thread panicked");
        log.next += 1;
        log.next
    }

    fn call(&self, what: String, effect: Effect) -> Call {
        self.log.lock().expect("no thread panicked").history.call(what, effect)
    }

    fn returned(&self, call: Call, result: Result<Effect, Error>) {
        let effect = match result {
            Ok(effect) => effect,
            Err(Error::Full { .. }) => Effect::nothing(),
            Err(Error::KeyspaceDropped { .. }) => Effect::nothing().meets(DROPPED, Met::Something),
            Err(error) => panic!("{error}"),
        };
        self.log.lock().expect("no thread panicked").history.returned(call, effect);
        self.recorder.crash_point();
    }
}

/// A write to the keyspace, which is there.
fn write() -> Effect {
    Effect::nothing().meets(DROPPED, Met::Exactly(None))
}

fn cleared() -> Effect {
    (0..KEYS).map(Register).fold(write(), |effect, register| effect.leaves(register, None))
}

fn seen(register: Register, content: Content) -> Effect {
    Effect::glance().meets(register, Met::Exactly(content))
}
