//! The workloads: which steps each consists of, drawn before the clock runs.

use daxite_benches::Random;

use crate::draw::Zipf;

/// Records of a batch, of a scan and of a read of many.
pub(crate) const MANY: usize = 100;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Workload {
    Load,
    Hit,
    Miss,
    ReadMany,
    Update,
    Remove,
    Batch,
    Scan,
    A,
    B,
    C,
    D,
    E,
    F,
}

use Workload::*;

/// All, in the order in which they run. D and E are last, since they add keys.
pub(crate) const WORKLOADS: [Workload; 14] =
    [Load, Hit, Miss, ReadMany, Update, Remove, Batch, Scan, A, B, C, F, D, E];

/// One operation.
pub(crate) enum Step {
    /// Reads a key that may be there.
    Get(u32),
    /// Reads the key that has been inserted so many inserts ago.
    GetLatest(u32),
    /// Reads these keys together.
    GetMany(Box<[u32]>),
    /// Writes a key.
    Put(u32),
    /// Writes a key that nobody has written yet.
    Insert,
    /// Writes these keys together.
    PutMany(Box<[u32]>),
    /// Reads a key, and writes it.
    ReadModifyWrite(u32),
    /// Removes a key.
    Remove(u32),
    /// Reads so many pairs from this key on.
    Scan(u32, u32),
}

impl Workload {
    /// As the report calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Load => "load, keys in random order",
            Hit => "get, uniform",
            Miss => "get, no such key",
            ReadMany => "get of 100 in one transaction",
            Update => "update, uniform",
            Remove => "remove",
            Batch => "batch of 100 updates",
            Scan => "scan of 100 with values",
            A => "YCSB A: 50 % get, 50 % update",
            B => "YCSB B: 95 % get, 5 % update",
            C => "YCSB C: get",
            D => "YCSB D: 95 % get of the latest, 5 % insert",
            E => "YCSB E: 95 % scan of 1 to 100, 5 % insert",
            F => "YCSB F: 50 % get, 50 % read and update",
        }
    }

    /// With how many threads it runs.
    pub(crate) fn threads(self) -> &'static [u32] {
        match self {
            Load | Remove => &[1],
            _ => &[1, 2],
        }
    }

    /// How many of what is counted a step is: records, or operations of YCSB.
    pub(crate) fn counted(self) -> u64 {
        match self {
            ReadMany | Batch | Scan => MANY as u64,
            _ => 1,
        }
    }

    /// The steps of `thread` of `threads`, each of which writes keys of its own; up to `count` records, except
    /// for a load, which writes all `keys`.
    pub(crate) fn steps(
        self,
        count: u32,
        zipf: &Zipf,
        keys: u32,
        (thread, threads): (u32, u32),
    ) -> Vec<Step> {
        let mut draw =
            Draw { random: Random::new(u64::from(thread) + 1), zipf, keys, thread, threads };
        let count = match self {
            Load => keys,
            Remove => count.min(keys),
            _ => count / self.counted() as u32,
        };
        (0..count).map(|at| draw.step(self, at)).collect()
    }
}

/// A number below `keys`, another one for each `at` below `keys`.
fn shuffled(at: u32, keys: u32) -> u32 {
    /// A prime, and greater than any number of keys that fits into memory.
    const STRIDE: u64 = 0x9e37_79b1;
    (u64::from(at) * STRIDE % u64::from(keys)) as u32
}

/// Where the steps of a thread come from.
struct Draw<'z> {
    random: Random,
    zipf: &'z Zipf,
    keys: u32,
    thread: u32,
    threads: u32,
}

impl Draw<'_> {
    fn step(&mut self, workload: Workload, at: u32) -> Step {
        let percent = self.random.below(100);
        match workload {
            Load => Step::Put(at),
            Hit => Step::Get(self.uniform()),
            Miss => Step::Get(u32::MAX - self.uniform()),
            ReadMany => Step::GetMany(self.many(Self::uniform)),
            Update => Step::Put(self.own_uniform()),
            Remove => Step::Remove(shuffled(at, self.keys)),
            Batch => Step::PutMany(self.many(Self::own_uniform)),
            Scan => Step::Scan(self.uniform(), MANY as u32),
            A if percent < 50 => Step::Put(self.own_zipf()),
            B if percent < 5 => Step::Put(self.own_zipf()),
            F if percent < 50 => Step::ReadModifyWrite(self.own_zipf()),
            A | B | C | F => Step::Get(self.zipf.scrambled(&mut self.random)),
            D | E if percent < 5 => Step::Insert,
            D => Step::GetLatest(self.zipf.rank(&mut self.random)),
            E => {
                let len = 1 + self.random.below(MANY as u64) as u32;
                Step::Scan(self.zipf.scrambled(&mut self.random), len)
            }
        }
    }

    fn uniform(&mut self) -> u32 {
        self.random.below(u64::from(self.keys)) as u32
    }

    fn own_uniform(&mut self) -> u32 {
        let number = self.uniform();
        self.own(number)
    }

    fn own_zipf(&mut self) -> u32 {
        let number = self.zipf.scrambled(&mut self.random);
        self.own(number)
    }

    /// A key that only this thread writes, near to `number`.
    fn own(&self, number: u32) -> u32 {
        let own = number / self.threads * self.threads + self.thread;
        if own < self.keys { own } else { self.thread }
    }

    fn many(&mut self, choose: fn(&mut Self) -> u32) -> Box<[u32]> {
        let mut numbers = Vec::with_capacity(MANY);
        while numbers.len() < MANY {
            let number = choose(self);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers.into_boxed_slice()
    }
}
