//! What a store of these tests holds: three keys in one keyspace, and whether that was dropped; beside
//! them keys that nobody touches, which are there to be moved.

use daxite::{Database, Error, Keyspace};
use daxite_tests::contents;
use daxite_tests::history::{Content, Register};

/// Keys that threads write to.
pub(crate) const KEYS: usize = 3;
/// Holds something when the keyspace was dropped.
pub(crate) const DROPPED: Register = Register(KEYS);

const KEYSPACE: &str = "shared";
const FILLER: &str = "filler";
const FILLER_BYTES: usize = 5000;
/// What is free of a pool that is nearly full, above the reserve: about a segment.
const FREE_BYTES: u64 = 24 << 10;

/// How long values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    /// Many in a segment, in a pool with much room.
    Short,
    /// Few in a segment, in a pool that is nearly full.
    Long,
}

impl Size {
    /// Length of the pool: huge pages are short here. Segments are huge pages in the larger one.
    pub(crate) fn pool_bytes(self) -> u64 {
        match self {
            Self::Short => 1 << 20,
            Self::Long => 1 << 19,
        }
    }

    /// The value that stands for `number`.
    pub(crate) fn value(self, number: u64) -> Vec<u8> {
        let len_bytes = match self {
            Self::Short => 8 + number * 37 % 150,
            Self::Long => 2000 + number * 7919 % 4000,
        };
        let mut value = vec![(number * 31) as u8; len_bytes as usize];
        value[..8].copy_from_slice(&number.to_le_bytes());
        value
    }

    /// The number that `value` stands for.
    ///
    /// # Panics
    /// If it is none of ours.
    pub(crate) fn number(self, value: &[u8]) -> u64 {
        let number = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
        assert!(value == self.value(number), "the value of {number} is torn");
        number
    }
}

pub(crate) fn key(register: Register) -> String {
    format!("key {}", register.0)
}

pub(crate) fn keyspace(database: &Database) -> Keyspace {
    database.keyspace(KEYSPACE).expect("room for a name")
}

pub(crate) fn drop_keyspace(database: &Database) -> Result<bool, Error> {
    database.drop_keyspace(KEYSPACE)
}

/// Puts something into an empty store, so that its segments have something to gain and something to
/// move: old records that are alive, dead ones, and tombstones that hide them.
pub(crate) fn fill(database: &Database, size: Size) {
    let (shared, filler) = (keyspace(database), database.keyspace(FILLER).expect("room"));
    let put = |register: usize, number| {
        shared.insert(key(Register(register)), size.value(number)).expect("room");
    };
    let fill = |name: &str| filler.insert(name, vec![0xf1; FILLER_BYTES]).expect("room");
    // About a segment.
    let die = || (0..5).for_each(|_| fill("dead"));
    put(0, 1);
    put(2, 2);
    die();
    put(1, 3);
    fill("alive");
    put(2, 4);
    die();
    shared.remove(key(Register(2))).expect("room");
    die();
    put(1, 5);
    if size == Size::Long {
        let is_roomy = || {
            let stats = database.stats();
            stats.free_bytes > stats.reserve_bytes + FREE_BYTES
        };
        for nth in (0..).take_while(|_| is_roomy()) {
            fill(&format!("alive {nth}"));
            fill("dead");
        }
    }
}

/// What the registers hold.
///
/// # Errors
/// What reading answers, or what is wrong with what nobody touched.
pub(crate) fn registers(database: &Database, size: Size) -> Result<Vec<Content>, String> {
    let found = contents(database).map_err(|error| error.to_string())?;
    let of = |keyspace: &str, key: &str| found.get(&(keyspace.to_string(), key.to_string().into()));
    if of(FILLER, "alive").is_none_or(|value| *value != [0xf1; FILLER_BYTES]) {
        return Err("a key that nobody touched is not as it was".to_string());
    }
    let mut registers: Vec<Content> = (0..KEYS)
        .map(|nth| of(KEYSPACE, &key(Register(nth))).map(|value| size.number(value)))
        .collect();
    let is_dropped = database.get_keyspace(KEYSPACE).map_err(|error| error.to_string())?.is_none();
    registers.push(is_dropped.then_some(0));
    Ok(registers)
}
