//! Crash points: the states that a failure at one moment can leave.

use std::cell::Cell;
use std::sync::Arc;

use super::bench::{Ended, Wreck};
use super::recorder::Recorder;
use super::shadow::{OpenLines, Shadow};
use super::strategy::{Chance, Decision, Strategy, next_digits};
use crate::error::Result;
use crate::pool::Pool;

/// A moment at which the process may die, or the power fail.
pub struct CrashPoint<'a> {
    recorder: &'a Recorder,
    shadow: &'a Shadow,
}

/// What was explored of a crash point.
pub(super) struct Explored {
    pub states: u64,
    /// Whether these are all states that whoever opened them can tell apart.
    pub complete: bool,
}

/// A state that was judged to be wrong.
pub(super) struct Wrong {
    pub decisions: Vec<u64>,
    pub what: String,
}

/// A moment that has passed, at which the crash can still be played: whatever was stored since, it is
/// as it was.
pub struct Kept {
    recorder: Recorder,
    shadow: Shadow,
}

impl Kept {
    /// Goes back to it.
    pub fn point(&self) -> CrashPoint<'_> {
        CrashPoint::new(&self.recorder, &self.shadow)
    }
}

impl<'a> CrashPoint<'a> {
    pub(super) fn new(recorder: &'a Recorder, shadow: &'a Shadow) -> Self {
        Self { recorder, shadow }
    }

    /// Keeps the moment.
    pub fn keep(&self) -> Kept {
        let Shadow { floor, open, .. } = self.shadow;
        let (recorder, floor) = match &floor.over {
            Some(_) => (self.recorder.beside(), floor.clone()),
            // This ground goes on to change, and the benches with it.
            None => (self.recorder.apart(), floor.copy()),
        };
        Kept { recorder, shadow: Shadow::new(floor, Arc::clone(open)) }
    }

    /// Fences before this moment.
    pub fn fences(&self) -> u64 {
        self.shadow.fences
    }

    /// Lines that may or may not be on the medium.
    pub(super) fn open_lines(&self) -> usize {
        self.shadow.open.len()
    }

    /// Changes whenever other states are possible.
    pub(super) fn changes(&self) -> u64 {
        self.shadow.changes
    }

    /// Opens the pool in up to about `budget` of the states that a power failure can leave: all, if
    /// they are no more. Else everything that was stored, nothing, each word that was published alone
    /// and all but it, and random ones from `seed`.
    ///
    /// # Panics
    /// If `act` panics in one of them: with its message, and the decisions that lead to the state.
    pub fn each_state(&self, budget: u64, seed: u64, mut act: impl FnMut(Result<Pool>)) -> u64 {
        let explored = self.explore(budget, seed, |pool| {
            act(pool);
            Ok(())
        });
        match explored {
            Ok(explored) => explored.states,
            Err(Wrong { decisions, what }) => {
                panic!("fence {}, state {decisions:?}: {what}", self.fences())
            }
        }
    }

    /// Opens the pool as after the process alone died: everything that was stored is visible, and what
    /// was not yet on the medium still is not. What `act` stores is followed on, by the recorder that
    /// it is given, so that the power can fail later.
    ///
    /// # Panics
    /// As `act`.
    pub fn killed(&self, act: impl FnOnce(Result<Pool>, &Arc<Recorder>)) {
        let ended = self.successor(|_| {}, act);
        ended.answer.unwrap_or_else(|what| panic!("killed at fence {}: {what}", self.fences()));
    }

    /// [`CrashPoint::killed`], with a word to the recorder before the pool is opened.
    pub(super) fn successor<R>(
        &self,
        prepare: impl FnOnce(&Arc<Recorder>),
        act: impl FnOnce(Result<Pool>, &Arc<Recorder>) -> R,
    ) -> Ended<R> {
        let recorder = self.recorder_after(Arc::clone(&self.shadow.open));
        prepare(&recorder);
        // To the bench everything that is visible is as if it were certain.
        let mut visible = self.shadow.floor.clone();
        let over = visible.over.get_or_insert_default();
        for (&line, _) in self.shadow.open.iter() {
            over.insert(line, self.shadow.visible(line));
        }
        let wreck = Wreck { floor: &visible, open: &Arc::default() };
        self.run(wreck, Strategy::Nothing, Some(recorder.clone()), |pool| act(pool, &recorder))
    }

    /// Opens one state whose stores are followed, so that recovery can crash as well.
    pub(super) fn recovered<R>(
        &self,
        decisions: &[u64],
        prepare: impl FnOnce(&Arc<Recorder>),
        act: impl FnOnce(Result<Pool>, &Arc<Recorder>) -> R,
    ) -> Ended<R> {
        let recorder = self.recorder_after(Arc::default());
        prepare(&recorder);
        let strategy = Strategy::Digits(decisions.to_vec());
        self.run(self.wreck(), strategy, Some(recorder.clone()), |pool| act(pool, &recorder))
    }

    /// A recorder of what follows, where `open` is still uncertain.
    fn recorder_after(&self, open: Arc<OpenLines>) -> Arc<Recorder> {
        let mut floor = self.shadow.floor.clone();
        floor.over.get_or_insert_default();
        Arc::new(self.recorder.after_crash(floor, open))
    }

    /// Opens one state.
    pub(super) fn state<R>(
        &self,
        decisions: &[u64],
        act: impl FnOnce(Result<Pool>) -> R,
    ) -> Ended<R> {
        self.run(self.wreck(), Strategy::Digits(decisions.to_vec()), None, act)
    }

    fn wreck(&self) -> Wreck<'_> {
        Wreck { floor: &self.shadow.floor, open: &self.shadow.open }
    }

    fn run<R>(
        &self,
        wreck: Wreck<'_>,
        strategy: Strategy,
        recorder: Option<Arc<Recorder>>,
        act: impl FnOnce(Result<Pool>) -> R,
    ) -> Ended<R> {
        let benches = self.recorder.benches();
        benches.with(&wreck.floor.ground, |bench| bench.run(wreck, strategy, recorder, act))
    }

    /// [`CrashPoint::each_state`] until one is wrong.
    pub(super) fn explore(
        &self,
        budget: u64,
        seed: u64,
        mut act: impl FnMut(Result<Pool>) -> std::result::Result<(), String>,
    ) -> std::result::Result<Explored, Wrong> {
        let states = Cell::new(0);
        let mut visit = |strategy: Strategy| -> std::result::Result<Vec<Decision>, Wrong> {
            states.set(states.get() + 1);
            let Ended { answer, decisions } = self.run(self.wreck(), strategy, None, &mut act);
            match answer.and_then(|judged| judged) {
                Ok(()) => Ok(decisions),
                Err(what) => {
                    let decisions = decisions.iter().map(|decision| decision.way).collect();
                    Err(Wrong { decisions, what })
                }
            }
        };
        let mut decisions = visit(Strategy::Digits(Vec::new()))?;
        let ways = decisions.iter().fold(1, |ways: u64, next| ways.saturating_mul(next.ways));
        if ways <= budget {
            // What is decided first may change what is looked at next, so there may be some more.
            for _ in 1..budget * 4 {
                let Some(digits) = next_digits(&decisions) else {
                    return Ok(Explored { states: states.get(), complete: true });
                };
                decisions = visit(Strategy::Digits(digits))?;
            }
            return Ok(Explored {
                states: states.get(),
                complete: next_digits(&decisions).is_none(),
            });
        }
        visit(Strategy::Nothing)?;
        for strategy in self.adversaries().take(budget as usize / 2) {
            visit(strategy)?;
        }
        for nth in states.get()..budget {
            visit(Strategy::Random(Chance::new(seed.wrapping_add(nth))))?;
        }
        Ok(Explored { states: states.get(), complete: false })
    }

    /// For each word that was published: nothing but it, and everything but it (the two images of
    /// Durinn, Fu et al., OSDI 2022).
    fn adversaries(&self) -> impl Iterator<Item = Strategy> {
        self.shadow.open.iter().flat_map(|(&line, stores)| {
            let published = (0..stores.len()).filter(|&index| stores[index].publishes);
            published.flat_map(move |index| {
                [
                    Strategy::Only { line, stores: index + 1 },
                    Strategy::AllBut { line, stores: index },
                ]
            })
        })
    }
}
