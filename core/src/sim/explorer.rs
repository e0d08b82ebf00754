//! The explorer: a run, a crash at each of its moments, and a judge.
//!
//! 1. At each moment the states of a power failure are opened; everything that was stored is one of
//!    them, which is what a killed process leaves.
//! 2. At some moments the process dies, and its successor opens the pool from the caches, shows what is
//!    there, goes on, and loses the power at each of *its* moments.
//! 3. At some moments the recovery of a state is interrupted at each of its own, two deep.
//! 4. A moment is passed over if no other state is possible than at the last, and nothing more is sure.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::bench::words_of;
use super::point::{CrashPoint, Wrong};
use super::recorder::{Defect, Recorder};
use super::replay::{Failure, Replay, Step};
use crate::error::{Error, Result};
use crate::pool::Pool;

/// What is tested: how it recovers, and what must then be there.
pub trait Subject: Send + Sync + Sized + 'static {
    /// What a recovery may find: what was acknowledged, and what is under way.
    type Expected: Clone + Send + 'static;
    /// What a recovery gives.
    type Recovered;

    /// Recovers.
    ///
    /// # Errors
    /// That it did not, and why.
    fn recover(&self, pool: Pool) -> std::result::Result<Self::Recovered, String>;

    /// Judges what was recovered.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(
        &self,
        recovered: &Self::Recovered,
        expected: &Self::Expected,
    ) -> std::result::Result<(), String>;

    /// Judges what shows only when more is done to what was recovered. No crash follows.
    ///
    /// # Errors
    /// What is wrong with it.
    fn take_apart(
        &self,
        recovered: Self::Recovered,
        expected: &Self::Expected,
    ) -> std::result::Result<(), String> {
        let _ = (recovered, expected);
        Ok(())
    }

    /// Makes `expected` just what was recovered: it was shown, so it must stay.
    fn narrow(&self, recovered: &Self::Recovered, expected: &mut Self::Expected) {
        let _ = (recovered, expected);
    }

    /// What a successor does after it recovered, before its power fails.
    fn go_on(&self, recovered: &Self::Recovered, journal: &Journal<Self::Expected>) {
        let _ = (recovered, journal);
    }
}

/// How much is explored.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Of so many moments of the first run one is looked at, by chance. 1: all.
    pub one_in: u64,
    /// States of one moment; all if they are no more.
    pub states: u64,
    /// At each so-manyth moment a recovery is interrupted. 0: never.
    pub recovery_every: u64,
    /// At each so-manyth moment the process dies before the power fails. 0: never.
    pub kill_every: u64,
    /// States of a moment after a first crash.
    pub inner_states: u64,
    /// Crashes in recoveries from crashes. 1 at least.
    pub depth: u32,
    /// Nothing is explored any more from then on.
    pub until: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        let (one_in, states, inner_states, depth) = (1, 32, 4, 2);
        Self {
            one_in,
            states,
            recovery_every: 31,
            kill_every: 23,
            inner_states,
            depth,
            until: None,
        }
    }
}

/// What was explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// States that were opened and judged.
    pub states: u64,
    /// Moments at which that was done.
    pub moments: u64,
    /// Those of which every state was opened.
    pub complete_moments: u64,
    /// Kills with a successor that lost the power.
    pub kills: u64,
    /// Recoveries that were interrupted.
    pub recoveries: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.moments += other.moments;
        self.complete_moments += other.complete_moments;
        self.kills += other.kills;
        self.recoveries += other.recoveries;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, moments, complete_moments, kills, recoveries } = self;
        write!(
            f,
            "{states} states of {moments} moments ({complete_moments} completely), \
             {kills} kills, {recoveries} recoveries interrupted"
        )
    }
}

/// A state that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What leads to it: the value of `DAXITE_CRASH_REPLAY`.
    pub replay: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nto see it again: DAXITE_CRASH_REPLAY={}", self.what, self.replay)
    }
}

impl std::error::Error for Violation {}

/// Runs a workload, and crashes it everywhere.
pub struct Explorer<S> {
    subject: Arc<S>,
    budget: Budget,
    recorder: Arc<Recorder>,
    replay: Option<Replay>,
    earlier: Option<Earlier>,
}

/// A pool that was there before.
struct Earlier {
    image: Vec<u8>,
    uuid: [u8; 16],
}

impl<S: Subject> Explorer<S> {
    /// For `subject`. If `DAXITE_CRASH_REPLAY` is set, only the state that it names is opened.
    pub fn new(subject: S, budget: Budget) -> Self {
        let replay = std::env::var("DAXITE_CRASH_REPLAY").ok();
        let replay = replay.map(|text| Replay::parse(&text).expect("what a violation printed"));
        Self { subject: Arc::new(subject), budget, recorder: Arc::default(), replay, earlier: None }
    }

    /// Plants `defect`, which should be noticed.
    pub fn defect(self, defect: Defect) -> Self {
        Self { recorder: Arc::new(Recorder::with_defect(defect)), ..self }
    }

    /// Makes the pool over that in `image`, of the same length. A crash before the new one is there must
    /// leave one of both, whole.
    pub fn over(self, image: Vec<u8>) -> Self {
        let uuid = Pool::from_image(&image, None).expect("a pool").info().uuid;
        Self { earlier: Some(Earlier { image, uuid }), ..self }
    }

    /// Follows the run, and what comes after its crashes.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Makes a pool of `pool_bytes`, runs `workload` on it, with crashes from the first store of its
    /// creation on, and judges what each leaves by what `expected` has become by then.
    ///
    /// # Errors
    /// The first state that must not be; a workload that panics is one, too.
    pub fn run(
        &self,
        seed: u64,
        pool_bytes: u64,
        expected: S::Expected,
        workload: impl FnOnce(&Pool, &Journal<S::Expected>),
    ) -> std::result::Result<Tally, Violation> {
        let seed = self.replay.as_ref().map_or(seed, |replay| replay.seed);
        let run = Arc::new(Run {
            subject: Arc::clone(&self.subject),
            ledger: Ledger::new(expected, false),
            budget: self.budget,
            depth: self.budget.depth,
            seed,
            path: Vec::new(),
            replay: self.replay.as_ref().map(|replay| replay.steps.clone()),
            earlier: self.earlier.as_ref().map(|earlier| earlier.uuid),
            moments: AtomicU64::new(0),
            last: Mutex::default(),
            totals: Arc::default(),
        });
        let hook = Arc::clone(&run);
        self.recorder.on_fence(move |point| hook.look(point));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let pool = match &self.earlier {
                None => Pool::recorded(pool_bytes, &self.recorder),
                Some(Earlier { image, .. }) => {
                    assert_eq!(image.len() as u64, pool_bytes, "a pool over one of another length");
                    Pool::recorded_over(image, &self.recorder)
                }
            };
            let pool = pool.expect("memory for a pool");
            run.ledger.created.store(true, Ordering::Relaxed);
            let journal = run.journal(&self.recorder);
            journal.end(|_| {});
            workload(&pool, &journal);
            journal.end(|_| {});
        }));
        self.recorder.on_fence(|_| {});
        let failed = run.totals.failed.lock().take();
        match (ended, failed) {
            (_, Some(violation)) => Err(violation),
            (Err(panic), None) => {
                let replay = Replay { seed, steps: Vec::new() }.to_string();
                Err(Violation { replay, what: format!("the run {}", words_of(&*panic)) })
            }
            (Ok(()), None) => Ok(run.totals.tally()),
        }
    }
}

/// Tells the explorer what must be found from now on.
pub struct Journal<E> {
    seed: u64,
    ledger: Arc<Ledger<E>>,
    recorder: Arc<Recorder>,
}

/// What a run has acknowledged.
struct Ledger<E> {
    expected: Mutex<E>,
    /// How often it was narrowed.
    narrowed: AtomicU64,
    /// Whether there must be a pool.
    created: AtomicBool,
    /// Whether nobody looks.
    aside: AtomicBool,
}

impl<E> Ledger<E> {
    fn new(expected: E, created: bool) -> Arc<Self> {
        Arc::new(Self {
            expected: Mutex::new(expected),
            narrowed: AtomicU64::new(0),
            created: AtomicBool::new(created),
            aside: AtomicBool::new(false),
        })
    }
}

impl<E> Journal<E> {
    /// What randomness is to be derived from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Something begins: `widen` lets a recovery find more than before.
    pub fn begin(&self, widen: impl FnOnce(&mut E)) {
        widen(&mut self.ledger.expected.lock());
    }

    /// Something is over: `narrow` lets a recovery find less than before. Crashes here, too.
    pub fn end(&self, narrow: impl FnOnce(&mut E)) {
        narrow(&mut self.ledger.expected.lock());
        self.ledger.narrowed.fetch_add(1, Ordering::Relaxed);
        self.recorder.crash_point();
    }

    /// Runs `act` without a crash in it: what it takes to get to what is tested.
    pub fn aside<R>(&self, act: impl FnOnce() -> R) -> R {
        let before = self.ledger.aside.swap(true, Ordering::Relaxed);
        let result = act();
        self.ledger.aside.store(before, Ordering::Relaxed);
        result
    }
}

/// What all runs of an exploration share.
#[derive(Default)]
struct Totals {
    failed: Mutex<Option<Violation>>,
    tally: Mutex<Tally>,
}

impl Totals {
    fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    fn add(&self, more: Tally) {
        *self.tally.lock() += more;
    }
}

/// A run: the first, or one that goes on after a crash.
struct Run<S: Subject> {
    subject: Arc<S>,
    ledger: Arc<Ledger<S::Expected>>,
    budget: Budget,
    /// Crashes that may follow a crash.
    depth: u32,
    seed: u64,
    /// The crashes that lead here.
    path: Vec<Step>,
    /// What is to be seen again, from here on.
    replay: Option<Vec<Step>>,
    /// The uuid of the pool over which it is made.
    earlier: Option<[u8; 16]>,
    moments: AtomicU64,
    /// What had changed and was narrowed at the last moment.
    last: Mutex<Option<(u64, u64)>>,
    totals: Arc<Totals>,
}

impl<S: Subject> Run<S> {
    fn journal(&self, recorder: &Arc<Recorder>) -> Journal<S::Expected> {
        let (ledger, recorder) = (Arc::clone(&self.ledger), Arc::clone(recorder));
        Journal { seed: self.seed, ledger, recorder }
    }

    fn look(&self, point: &CrashPoint<'_>) {
        let moment = self.moments.fetch_add(1, Ordering::Relaxed);
        // Whoever found something wrong is on its way out.
        if self.totals.failed.lock().is_some() {
            return;
        }
        if let Some(steps) = &self.replay {
            return self.look_again(point, moment, steps);
        }
        let now = Some((point.changes(), self.ledger.narrowed.load(Ordering::Relaxed)));
        let is_late = self.budget.until.is_some_and(|until| Instant::now() > until);
        let is_aside = self.ledger.aside.load(Ordering::Relaxed);
        if is_late || is_aside || std::mem::replace(&mut *self.last.lock(), now) == now {
            return;
        }
        let seed = (self.seed ^ moment).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if !(seed >> 32).is_multiple_of(self.budget.one_in) {
            return;
        }
        let explored = {
            let expected = self.ledger.expected.lock();
            point.explore(self.budget.states, seed, |pool| self.judge_all(pool, &expected))
        };
        match explored {
            Ok(explored) => self.totals.add(Tally {
                states: explored.states,
                moments: 1,
                complete_moments: u64::from(explored.complete),
                ..Tally::default()
            }),
            Err(Wrong { decisions, what }) => self.fail(moment, Failure::Power(decisions), what),
        }
        if self.depth == 0 {
            return;
        }
        let is_due = |every: u64| every > 0 && moment.is_multiple_of(every);
        if is_due(self.budget.recovery_every) {
            // In turn everything, nothing, and something between survives the first crash.
            let decisions = match moment / self.budget.recovery_every % 3 {
                0 => Vec::new(),
                1 => vec![1; point.open_lines()],
                _ => (0..point.open_lines() as u64).map(|nth| (nth * 7 + moment) % 5).collect(),
            };
            self.totals.add(Tally { recoveries: 1, states: 1, ..Tally::default() });
            self.follow(point, moment, Failure::Power(decisions), None);
        }
        if is_due(self.budget.kill_every) {
            self.totals.add(Tally { kills: 1, states: 1, ..Tally::default() });
            self.follow(point, moment, Failure::Kill, None);
        }
    }

    /// Goes just where `steps` lead.
    fn look_again(&self, point: &CrashPoint<'_>, moment: u64, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first().filter(|(step, _)| step.moment == moment)
        else {
            return;
        };
        match &step.failure {
            Failure::Power(decisions) if rest.is_empty() => {
                let judge = |pool| self.judge_all(pool, &self.ledger.expected.lock());
                let answer = point.state(decisions, judge).answer.and_then(|judged| judged);
                if let Err(what) = answer {
                    self.fail(moment, step.failure.clone(), what);
                }
            }
            failure => self.follow(point, moment, failure.clone(), Some(rest.to_vec())),
        }
    }

    /// Lets the pool be recovered from one crash, go on, and crash again.
    fn follow(
        &self,
        point: &CrashPoint<'_>,
        moment: u64,
        failure: Failure,
        replay: Option<Vec<Step>>,
    ) {
        let mut path = self.path.clone();
        path.push(Step { moment, failure: failure.clone() });
        let budget = Budget { one_in: 1, states: self.budget.inner_states, ..self.budget };
        let run = Arc::new(Self {
            subject: Arc::clone(&self.subject),
            ledger: Ledger::new(
                self.ledger.expected.lock().clone(),
                self.ledger.created.load(Ordering::Relaxed),
            ),
            budget,
            depth: self.depth - 1,
            seed: self.seed,
            path,
            replay,
            earlier: self.earlier,
            moments: AtomicU64::new(0),
            last: Mutex::default(),
            totals: Arc::clone(&self.totals),
        });
        let prepare = |recorder: &Arc<Recorder>| {
            let hook = Arc::clone(&run);
            recorder.on_fence(move |point| hook.look(point));
        };
        let act = |pool: Result<Pool>, recorder: &Arc<Recorder>| {
            let expected = run.ledger.expected.lock().clone();
            let Some(recovered) = run.judge(pool, &expected)? else { return Ok(()) };
            run.ledger.created.store(true, Ordering::Relaxed);
            let journal = run.journal(recorder);
            // What makes it certain that what was shown stays may store, and crash, too.
            let mut narrowed = expected;
            run.subject.narrow(&recovered, &mut narrowed);
            journal.end(|expected| *expected = narrowed);
            run.subject.go_on(&recovered, &journal);
            journal.end(|_| {});
            // The hook knows the run, which may know the pool, which knows the recorder.
            recorder.on_fence(|_| {});
            Ok(())
        };
        let ended = match &failure {
            Failure::Power(decisions) => point.recovered(decisions, prepare, act),
            Failure::Kill => point.successor(prepare, act),
        };
        if let Err(what) = ended.answer.and_then(|judged: std::result::Result<(), String>| judged) {
            self.fail(moment, failure, what);
        }
    }

    /// Judges a state after which nothing comes.
    fn judge_all(
        &self,
        pool: Result<Pool>,
        expected: &S::Expected,
    ) -> std::result::Result<(), String> {
        let recovered = self.judge(pool, expected)?;
        recovered.map_or(Ok(()), |recovered| self.subject.take_apart(recovered, expected))
    }

    /// What was recovered; `None` if it was not made yet.
    fn judge(
        &self,
        pool: Result<Pool>,
        expected: &S::Expected,
    ) -> std::result::Result<Option<S::Recovered>, String> {
        let may_be_missing = !self.ledger.created.load(Ordering::Relaxed);
        let pool = match pool {
            Err(Error::NotAPool { .. }) if may_be_missing && self.earlier.is_none() => {
                return Ok(None);
            }
            Ok(pool) if may_be_missing && self.earlier == Some(pool.info().uuid) => {
                pool.check();
                return Ok(None);
            }
            pool => pool.map_err(|error| format!("the pool does not open: {error}"))?,
        };
        if self.earlier == Some(pool.info().uuid) {
            return Err("the earlier pool is back".to_string());
        }
        let recovered = self.subject.recover(pool)?;
        self.subject.check(&recovered, expected)?;
        Ok(Some(recovered))
    }

    /// Notes what is wrong, unless a crash within this one has done so, and ends the run.
    fn fail(&self, moment: u64, failure: Failure, what: String) -> ! {
        let mut steps = self.path.clone();
        steps.push(Step { moment, failure });
        let replay = Replay { seed: self.seed, steps }.to_string();
        let mut failed = self.totals.failed.lock();
        let violation = failed.get_or_insert(Violation { replay, what }).clone();
        drop(failed);
        panic_any(violation.to_string())
    }
}
