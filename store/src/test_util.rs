//! Crash tests of your own code, by the simulator that tests Daxite itself. Feature `test-util`.
//!
//! A [`CrashTest`] runs a workload on a database in memory. At each moment at which the outcome could
//! differ it makes what a power failure or a killed process could leave, opens it, and asks your check
//! whether that may be: not just a few random moments, but every one, down to single words of a torn
//! record.
//!
//! ```
//! use daxite::test_util::{CrashTest, Journal};
//!
//! /// How often we counted: so often for certain, and maybe once more.
//! #[derive(Clone, Default)]
//! struct Counted { sure: u64, maybe: u64 }
//!
//! let test = CrashTest::new(|db, counted: &Counted| {
//!     let count = db.keyspace("app").and_then(|app| app.get("count"));
//!     let count = count.map_err(|error| error.to_string())?.map_or(0, |count| count[0]);
//!     let may_be = counted.sure..=counted.maybe;
//!     if may_be.contains(&count.into()) { Ok(()) } else { Err(format!("{count}, not {may_be:?}")) }
//! });
//! let tally = test.run(1, Counted::default(), |db, journal: &Journal<Counted>| {
//!     let app = db.keyspace("app").unwrap();
//!     for count in 1..=3 {
//!         journal.begin(|counted| counted.maybe = count);
//!         app.insert("count", [count as u8]).unwrap();
//!         journal.end(|counted| counted.sure = count);
//!     }
//! });
//! println!("{}", tally.unwrap());
//! ```
//!
//! `docs/DURABILITY.md` has the model of the machine, and `examples/crash_test_your_app.rs` an
//! application with a mistake that this finds.

use std::sync::Arc;

use daxite_core::Pool;
use daxite_core::sim::{Explorer, Recorder, Subject};

pub use daxite_core::sim::{Act, Budget, Defect, Journal, Site, Tally, Violation};

use crate::{Database, Options};

type Check<E> = dyn Fn(&Database, &E) -> Result<(), String> + Send + Sync;
type Narrow<E> = dyn Fn(&Database, &mut E) + Send + Sync;
type GoOn<E> = dyn Fn(&Database, &Journal<E>) + Send + Sync;

/// A crash test of code that uses a database. `E` is what a recovery may find, in whatever form suits
/// the check.
pub struct CrashTest<E> {
    judge: Judge<E>,
    pool_bytes: u64,
    earlier: Option<Vec<u8>>,
    budget: Budget,
    defect: Defect,
}

/// What is known of the application.
#[derive(Clone)]
struct Judge<E> {
    options: Options,
    check: Arc<Check<E>>,
    narrow: Arc<Narrow<E>>,
    go_on: Arc<GoOn<E>>,
}

impl<E: Clone + Send + 'static> CrashTest<E> {
    /// Judges each recovered database by `check`, which says what is wrong with it.
    pub fn new(
        check: impl Fn(&Database, &E) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let judge = Judge {
            options: Options::new().lanes(2),
            check: Arc::new(check),
            narrow: Arc::new(|_, _| {}),
            go_on: Arc::new(|_, _| {}),
        };
        let (budget, defect) = (Budget::default(), Defect::None);
        Self { judge, pool_bytes: 4 << 20, earlier: None, budget, defect }
    }

    /// Makes what may be found just what a recovery showed: it must not be lost by the next crash.
    #[must_use]
    pub fn narrow(mut self, narrow: impl Fn(&Database, &mut E) + Send + Sync + 'static) -> Self {
        self.judge.narrow = Arc::new(narrow);
        self
    }

    /// What a process does that comes after one that was killed, before its power fails.
    #[must_use]
    pub fn successor(
        mut self,
        go_on: impl Fn(&Database, &Journal<E>) + Send + Sync + 'static,
    ) -> Self {
        self.judge.go_on = Arc::new(go_on);
        self
    }

    /// Size of the pool; 4 MiB is the default, and the least.
    #[must_use]
    pub fn pool_bytes(mut self, pool_bytes: u64) -> Self {
        self.pool_bytes = pool_bytes;
        self
    }

    /// Makes the database over the pool in `image` ([`Pool::image`]), which is as long as the new one.
    #[must_use]
    pub fn over(mut self, image: Vec<u8>) -> Self {
        self.pool_bytes = image.len() as u64;
        self.earlier = Some(image);
        self
    }

    /// How the database is opened; only [`Options::lanes`] matters.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.judge.options = options;
        self
    }

    /// How much is explored.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Plants a mistake in the storage engine, to see that the check would notice.
    #[must_use]
    pub fn defect(mut self, defect: Defect) -> Self {
        self.defect = defect;
        self
    }

    /// Runs `workload`, whose randomness comes from `seed` ([`Journal::seed`]), and crashes it
    /// everywhere. `expected` is what may be found of an empty database.
    ///
    /// # Errors
    /// The first state that must not be, with what it takes to see it again: with
    /// `DAXITE_CRASH_REPLAY` set to that, just this state is opened.
    pub fn run(
        &self,
        seed: u64,
        expected: E,
        workload: impl FnOnce(&Database, &Journal<E>),
    ) -> Result<Tally, Violation> {
        self.run_recorded(seed, expected, workload).0
    }

    /// As [`CrashTest::run`], and with the recorder, which knows the places in the code that stored,
    /// wrote back and fenced.
    #[doc(hidden)]
    pub fn run_recorded(
        &self,
        seed: u64,
        expected: E,
        workload: impl FnOnce(&Database, &Journal<E>),
    ) -> (Result<Tally, Violation>, Arc<Recorder>) {
        let explorer = Explorer::new(self.judge.clone(), self.budget).defect(self.defect.clone());
        let explorer = match &self.earlier {
            None => explorer,
            Some(image) => explorer.over(image.clone()),
        };
        let result = explorer.run(seed, self.pool_bytes, expected, |pool, journal| {
            let db = self.judge.options.on_pool(pool.clone()).expect("a database on a new pool");
            workload(&db, journal);
        });
        (result, Arc::clone(explorer.recorder()))
    }
}

impl<E: Clone + Send + 'static> Subject for Judge<E> {
    type Expected = E;
    type Recovered = Database;

    fn recover(&self, pool: Pool) -> Result<Database, String> {
        self.options.on_pool(pool).map_err(|error| format!("the database does not open: {error}"))
    }

    fn check(&self, recovered: &Database, expected: &E) -> Result<(), String> {
        (self.check)(recovered, expected)
    }

    fn narrow(&self, recovered: &Database, expected: &mut E) {
        (self.narrow)(recovered, expected);
    }

    fn go_on(&self, recovered: &Database, journal: &Journal<E>) {
        (self.go_on)(recovered, journal);
    }
}
