//! One crash: the states that it could leave, and what is found in them.

use std::sync::{Arc, Mutex};
use std::thread;

use daxite::{Database, Error, Options};
use daxite_core::Pool;
use daxite_core::sim::{CrashPoint, Kept};
use daxite_tests::history::{Content, History};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, FailurePersistence, Runner};

use crate::contents::{Size, registers};

/// So many states are opened: everything that was stored, nothing of what is not certain, and others.
const STATES: u64 = 6;
/// And so many when the power fails once more.
const LATER_STATES: u64 = 2;

/// A moment at which everything stopped.
pub(crate) struct Crash {
    history: History,
    kept: Kept,
    seed: u64,
}

impl Crash {
    pub(crate) fn new(point: &CrashPoint<'_>, history: History, seed: u64) -> Self {
        Self { history, kept: point.keep(), seed }
    }

    /// Opens what the power left, and what whoever comes after a killed process sees.
    ///
    /// # Panics
    /// If the history does not explain what is found.
    pub(crate) fn play(self, size: Size) {
        alone(move || {
            let point = self.kept.point();
            point.each_state(STATES, self.seed, |pool| {
                let found = look(pool, size);
                let explained = found.and_then(|found| self.history.explain_found(&found));
                explained.unwrap_or_else(|error| panic!("the power failed: {error}"));
            });
            point.killed(|pool, recorder| {
                let found = live_on(pool, size, || recorder.keep(), self.seed);
                let explained = found.and_then(|found| self.history.explain_found(&found));
                explained.unwrap_or_else(|error| panic!("the process was killed: {error}"));
            });
        });
    }
}

/// Runs `act` in a world of its own, with one thread.
pub(crate) fn alone<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let act = Mutex::new(Some(act));
    let answer = Arc::new(Mutex::new(None));
    let put = Arc::clone(&answer);
    let run = move || {
        let act = move || {
            let act = act.lock().expect("one thread").take().expect("it runs once");
            *put.lock().expect("one thread") = Some(act());
        };
        let mut config = config();
        // The schedule that counts is the one that led here.
        config.failure_persistence = FailurePersistence::None;
        Runner::new(RandomScheduler::new_from_seed(1, 1), config).run(act);
    };
    let joined = thread::spawn(run).join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    answer.lock().expect("it ended").take().expect("it ran")
}

pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    config
}

pub(crate) fn open(pool: Pool) -> Result<Database, Error> {
    Options::new().lanes(2).on_pool(pool)
}

fn look(pool: daxite_core::Result<Pool>, size: Size) -> Result<Vec<Content>, String> {
    let pool = pool.map_err(|error| error.to_string())?;
    registers(&open(pool).map_err(|error| error.to_string())?, size)
}

/// Looks, reclaims, and loses the power: what was found must stay.
fn live_on(
    pool: daxite_core::Result<Pool>,
    size: Size,
    keep: impl FnOnce() -> Kept,
    seed: u64,
) -> Result<Vec<Content>, String> {
    let pool = pool.map_err(|error| error.to_string())?;
    let database = open(pool).map_err(|error| error.to_string())?;
    let found = registers(&database, size)?;
    database.reclaim().map_err(|error| error.to_string())?;
    if registers(&database, size)? != found {
        return Err(format!("{found:?} was found, and changed by reclaim"));
    }
    keep().point().each_state(LATER_STATES, seed, |pool| {
        let later = look(pool, size).unwrap_or_else(|error| panic!("after that, {error}"));
        assert_eq!(later, found, "what was found is lost by the next crash");
    });
    Ok(found)
}
