//! Running a scenario in many schedules.

use std::sync::{Arc, Mutex};

use daxite_core::Pool;
use daxite_core::sim::{Kept, Recorder};
use daxite_tests::history::{Content, History, Register};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Runner, thread};

use crate::client::{Client, Log};
use crate::contents::{KEYS, Size, fill, registers};
use crate::crash::{Crash, alone, config, open};

/// Numbers of the store that a scenario starts with are lower.
const FIRST_NUMBER: u64 = 100;
/// Priorities change so often in a schedule of the second kind.
const PCT_DEPTH: usize = 4;

/// What each thread does.
pub(crate) type Threads = Vec<fn(&Client)>;

/// Threads that meet.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub size: Size,
    /// The crash is at one of so many moments from the start on, or at the end.
    pub moments: u64,
    pub threads: Threads,
}

/// The store that a scenario starts with.
struct Start {
    kept: Kept,
    contents: Vec<Content>,
}

/// Explores random schedules, and those in which one thread runs until it cannot or loses its turn.
pub(crate) fn explore(scenario: Scenario) {
    let size = scenario.size;
    let start = Arc::new(alone(move || start(size)));
    let explore = |scheduler| run(scheduler, &scenario, &start);
    if let Ok(schedule) = std::env::var("DAXITE_SCHEDULE") {
        return explore(Box::new(ReplayScheduler::new_from_encoded(schedule.trim())));
    }
    explore(Box::new(RandomScheduler::new_from_seed(seed(), iterations())));
    explore(Box::new(PctScheduler::new_from_seed(seed(), PCT_DEPTH, iterations())));
}

fn run(scheduler: Box<dyn Scheduler + Send>, scenario: &Scenario, start: &Arc<Start>) {
    let (scenario, start) = (scenario.clone(), Arc::clone(start));
    Runner::new(scheduler, config()).run(move || play(&scenario, &start));
}

/// How many schedules of each kind.
fn iterations() -> usize {
    std::env::var("DAXITE_MIXES").map_or(100, |text| text.parse().expect("a number"))
}

fn seed() -> u64 {
    std::env::var("DAXITE_MIX_SEED").map_or(1, |text| text.parse().expect("a number"))
}

fn start(size: Size) -> Start {
    let recorder = Arc::new(Recorder::default());
    let pool = Pool::recorded(size.pool_bytes(), &recorder).expect("memory");
    let database = open(pool).expect("room for a log");
    fill(&database, size);
    let contents = registers(&database, size).expect("nothing happened yet");
    Start { kept: recorder.keep(), contents }
}

/// One schedule, and one crash in it.
fn play(scenario: &Scenario, start: &Start) {
    let crash = Arc::new(Mutex::new(None));
    start.kept.point().killed(|pool, recorder| {
        let database = open(pool.expect("a pool")).expect("a store");
        let history = History::new(start.contents.clone());
        let log = Arc::new(Mutex::new(Log { history, next: FIRST_NUMBER }));
        stop_at(thread_rng().gen_range(0..scenario.moments), recorder, &log, &crash);
        let client = Client::new(database, scenario.size, &log, recorder);
        let begin = |act: fn(&Client)| {
            let client = client.clone();
            thread::spawn(move || act(&client))
        };
        let threads: Vec<_> = scenario.threads.iter().copied().map(begin).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panicked"));
        (0..KEYS).map(Register).for_each(|register| client.read(register));
        if crash.lock().expect("they ended").is_none() {
            stop_at(0, recorder, &log, &crash);
            recorder.crash_point();
        }
        recorder.on_fence(|_| {});
        log.lock().expect("they ended").history.explain().unwrap_or_else(|error| panic!("{error}"));
    });
    let crash: Option<Crash> = crash.lock().expect("they ended").take();
    crash.expect("there is an end").play(scenario.size);
}

/// Keeps what a crash at the moment `at` would leave.
fn stop_at(at: u64, recorder: &Recorder, log: &Arc<Mutex<Log>>, crash: &Arc<Mutex<Option<Crash>>>) {
    let (log, crash) = (Arc::clone(log), Arc::clone(crash));
    let (seed, moments) = (thread_rng().r#gen(), Mutex::new(0));
    recorder.on_fence(move |point| {
        let mut moment = moments.lock().expect("no thread panicked");
        if *moment == at {
            let history = log.lock().expect("no thread panicked").history.clone();
            *crash.lock().expect("no thread panicked") = Some(Crash::new(point, history, seed));
        }
        *moment += 1;
    });
}
