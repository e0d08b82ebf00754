//! One contestant under one workload at a time, every answer judged.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Outcome;
use crate::clock::{Clock, Passed};
use crate::ledger::{Found, Ledger};
use crate::peers::Peer;
use crate::plan::{Plan, RECORDS};
use crate::record::{Key, key};
use crate::scan_check::ScanCheck;
use crate::workload::{Step, Workload};

/// How many operations pass between two looks at the clock.
const STRIDE: usize = 16;
/// Records of a batch that is not measured.
const BULK: usize = 1000;
/// How much longer than another workload a load may take.
const LOAD_SLICES: u32 = 10;

/// A contestant, and what it should hold.
pub(crate) struct Arena<'p> {
    plan: &'p Plan,
    peer: &'p dyn Peer,
    ledger: Ledger,
    /// The number of the next key that is inserted.
    next: AtomicU32,
}

impl<'p> Arena<'p> {
    /// `peer` is empty.
    pub(crate) fn new(plan: &'p Plan, peer: &'p dyn Peer) -> Self {
        Self { plan, peer, ledger: Ledger::new(plan.room()), next: AtomicU32::new(plan.keys) }
    }

    /// Runs a workload.
    pub(crate) fn run(&self, workload: Workload, threads: u32) -> Outcome<Rate> {
        let Plan { keys, zipf, .. } = self.plan;
        let slice = match workload {
            Workload::Load => self.plan.slice * LOAD_SLICES,
            _ => self.plan.slice,
        };
        let steps: Vec<_> = (0..threads)
            .map(|thread| workload.steps(RECORDS, zipf, *keys, (thread, threads)))
            .collect();
        let barrier = Barrier::new(threads as usize);
        let paces = std::thread::scope(|scope| {
            let run = |steps| {
                barrier.wait();
                self.pace(steps, slice)
            };
            let threads: Vec<_> =
                steps.iter().map(|steps| scope.spawn(move || run(steps))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
        });
        let mut rate = Rate::default();
        for (pace, steps) in paces.into_iter().zip(&steps) {
            let Pace { done, passed } = pace?;
            rate.per_second +=
                (done as u64 * workload.counted()) as f64 / passed.own().as_secs_f64();
            rate.passed.wall += passed.wall;
            rate.passed.waited += passed.waited;
            self.settle(workload, &steps[..done])?;
        }
        Ok(rate)
    }

    /// What is left to do after a workload, so that the next finds all keys.
    fn settle(&self, workload: Workload, done: &[Step]) -> Outcome<()> {
        match workload {
            Workload::Load => {
                self.put_bulk(&(done.len() as u32..self.plan.keys).collect::<Vec<_>>())
            }
            Workload::Remove => {
                let mut removed = Vec::with_capacity(done.len());
                for step in done {
                    let Step::Remove(number) = step else { continue };
                    if self.peer.get(&key(*number), &mut |_| ())? {
                        return Err(format!("key {number} is there after its removal").into());
                    }
                    removed.push(*number);
                }
                self.put_bulk(&removed)
            }
            _ => Ok(()),
        }
    }

    /// Works until there are no more steps, or the time is over.
    fn pace(&self, steps: &[Step], slice: Duration) -> Outcome<Pace> {
        let clock = Clock::start();
        let mut done = 0;
        for some in steps.chunks(STRIDE) {
            for step in some {
                self.perform(step)?;
            }
            done += some.len();
            if clock.wall() > slice {
                break;
            }
        }
        Ok(Pace { done, passed: clock.stop() })
    }

    fn perform(&self, step: &Step) -> Outcome<()> {
        match step {
            Step::Get(number) => self.get(*number),
            Step::GetLatest(ago) => {
                let next = self.next.load(Ordering::Relaxed);
                self.get(next - 1 - ago)
            }
            Step::GetMany(numbers) => self.get_many(numbers),
            Step::Put(number) => self.put(*number),
            Step::Insert => self.put(self.next.fetch_add(1, Ordering::Relaxed)),
            Step::PutMany(numbers) => self.put_many(numbers),
            Step::ReadModifyWrite(number) => {
                self.get(*number)?;
                self.put(*number)
            }
            Step::Remove(number) => self.peer.remove(&key(*number)),
            Step::Scan(number, limit) => self.scan(*number, *limit),
        }
    }

    fn get(&self, number: u32) -> Outcome<()> {
        let acknowledged = self.ledger.acknowledged(number);
        let mut found = Found::Version(0);
        self.peer.get(&key(number), &mut |value| found = Found::of(value, number))?;
        self.ledger.judge(number, acknowledged, found)
    }

    fn get_many(&self, numbers: &[u32]) -> Outcome<()> {
        let keys: Vec<Key> = numbers.iter().map(|number| key(*number)).collect();
        let acknowledged: Vec<u32> = numbers.iter().map(|n| self.ledger.acknowledged(*n)).collect();
        let mut found = vec![Found::Version(0); numbers.len()];
        self.peer.get_many(&keys, &mut |at, value| found[at] = Found::of(value, numbers[at]))?;
        for ((number, acknowledged), found) in numbers.iter().zip(acknowledged).zip(found) {
            self.ledger.judge(*number, acknowledged, found)?;
        }
        Ok(())
    }

    fn put(&self, number: u32) -> Outcome<()> {
        let (key, value) = self.ledger.issue(number);
        self.peer.put(&key, &value)?;
        self.ledger.acknowledge(number);
        Ok(())
    }

    fn put_many(&self, numbers: &[u32]) -> Outcome<()> {
        let pairs: Vec<_> = numbers.iter().map(|number| self.ledger.issue(*number)).collect();
        self.peer.put_batch(&pairs)?;
        numbers.iter().for_each(|number| self.ledger.acknowledge(*number));
        Ok(())
    }

    fn put_bulk(&self, numbers: &[u32]) -> Outcome<()> {
        numbers.chunks(BULK).try_for_each(|numbers| self.put_many(numbers))
    }

    fn scan(&self, from: u32, limit: u32) -> Outcome<()> {
        let mut check = ScanCheck::from_key(self.plan, &self.ledger, from);
        let limit = limit as usize;
        self.peer.scan(&key(from), limit, &mut |key, value| check.visit(key, value))?;
        check.end(limit)
    }

    /// Writes every key, and some of them again one by one; `reopen` expects just that.
    pub(crate) fn fill(&self, again: u32) -> Outcome<()> {
        self.put_bulk(&(0..self.plan.keys).collect::<Vec<_>>())?;
        (0..again).try_for_each(|number| self.put(number))
    }

    /// Reads everything.
    pub(crate) fn check(&self) -> Outcome<()> {
        let inserted = self.next.load(Ordering::Relaxed) - self.plan.keys;
        ScanCheck::everything(self.plan, &self.ledger, self.peer, inserted)
    }
}

/// How fast a workload went.
#[derive(Default)]
pub(crate) struct Rate {
    /// All threads together.
    pub(crate) per_second: f64,
    /// The sum over all threads.
    pub(crate) passed: Passed,
}

/// What a thread has done.
struct Pace {
    done: usize,
    passed: Passed,
}
