//! The parent: starts processes, kills them, and compares what is left with what they told.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use daxite::Options;
use daxite_tests::{Event, Heard, History, Holdings, Process, test_folder};
use tempfile::TempDir;

use crate::plan::{Plan, PoolKind, Trigger};

/// Time for what does not depend on how much there is.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of the pool for which a second more is granted: slow even for reading from a disk.
const BYTES_PER_SECOND: u64 = 16 << 20;
const SIGKILL: i32 = 9;

/// Kills `kills` processes on one pool.
pub(crate) fn run(pool: PoolKind, seed: u64, kills: u64) {
    let mut run = Run::new(pool, seed);
    for cycle in 0..kills as u32 {
        run.cycle(cycle);
    }
    run.empty(kills as u32);
    let Run { acknowledged, killed, ended, .. } = &run;
    println!("{pool:?}: {acknowledged} operations were acknowledged");
    println!("killed while {killed:?}; {ended} closed the pool before");
    assert!(kills == 0 || *acknowledged > 0, "nothing was done");
}

struct Run {
    pool: PoolKind,
    seed: u64,
    folder: Option<TempDir>,
    path: PathBuf,
    /// What the pool holds.
    holdings: Holdings,
    /// What the last cycle was, and what its process told.
    plan: Option<Plan>,
    events: Vec<Event>,
    acknowledged: usize,
    killed: HashMap<Trigger, u64>,
    /// Processes that closed the pool before they were killed.
    ended: u64,
}

impl Run {
    fn new(pool: PoolKind, seed: u64) -> Self {
        let folder = test_folder("daxite-torture-");
        let path = folder.path().join("pool");
        let created = Options::new().capacity(pool.len_bytes()).create(&path).expect("a pool");
        created.close().expect("closing");
        Self {
            pool,
            seed,
            folder: Some(folder),
            path,
            holdings: Holdings::new(),
            plan: None,
            events: Vec::new(),
            acknowledged: 0,
            killed: HashMap::new(),
            ended: 0,
        }
    }

    fn cycle(&mut self, cycle: u32) {
        let plan = Plan::new(self.seed, cycle, self.pool);
        self.plan = Some(plan.clone());
        self.work(&plan);
        let (found, was_clean) = self.look(&plan);
        let history = self.history();
        let acknowledged = history.acknowledged();
        if let Err(violation) = history.explain(&found) {
            panic!("after {acknowledged} acknowledged operations: {violation}");
        }
        let closing = self.events.contains(&Event::Closing);
        if self.events.contains(&Event::Closed) {
            assert!(was_clean, "it was closed, and is not clean");
        }
        let changed = found != self.holdings;
        assert!(closing || !changed || !was_clean, "it was changed and killed, and is clean");
        self.acknowledged += acknowledged;
        self.holdings = found;
    }

    /// Lets a process work until it is killed, or has closed the pool.
    fn work(&mut self, plan: &Plan) {
        self.events.clear();
        let mut process = Process::start(&plan.part("work", &self.path));
        let late = Instant::now() + self.patience();
        let mut kill_at = None;
        loop {
            // Asked first: a process that tells much leaves no silence.
            if kill_at.is_some_and(|kill_at| Instant::now() >= kill_at) {
                process.kill();
                break;
            }
            match process.hear(kill_at.unwrap_or(late)) {
                Heard::Event(event) => {
                    if kill_at.is_none() && plan.trigger.is(&event) {
                        kill_at = Some(Instant::now() + plan.delay);
                    }
                    self.events.push(event);
                }
                Heard::Silence => assert!(kill_at.is_some(), "it does not come to {plan:?}"),
                Heard::End => break,
            }
        }
        let status = self.hear_out(&mut process);
        for event in &self.events {
            assert!(!matches!(event, Event::Said(_)), "the process found a mistake: {event:?}");
        }
        match status.signal() {
            Some(SIGKILL) => *self.killed.entry(plan.trigger).or_default() += 1,
            _ => {
                assert!(status.success(), "the process found a mistake: {status}");
                assert!(self.events.contains(&Event::Closed), "it ended without closing");
                self.ended += 1;
            }
        }
    }

    /// What another process finds, and whether the pool was clean before.
    fn look(&mut self, plan: &Plan) -> (Holdings, bool) {
        let events = self.finish("look", plan);
        let (mut found, mut was_clean) = (Holdings::new(), None);
        for event in events {
            match event {
                Event::Saw { key, stamp } => {
                    let another = found.insert(key, stamp);
                    assert_eq!(another, None, "key {key} is there twice");
                }
                Event::Opened { was_clean: answer } => was_clean = Some(answer),
                _ => {}
            }
        }
        (found, was_clean.expect("it opened the pool"))
    }

    fn empty(&mut self, cycle: u32) {
        self.finish("empty", &Plan::new(self.seed, cycle, self.pool));
    }

    /// Runs the process of `role` to its end, which must be a good one and come in time.
    fn finish(&self, role: &str, plan: &Plan) -> Vec<Event> {
        let mut process = Process::start(&plan.part(role, &self.path));
        let late = Instant::now() + self.patience();
        let mut events = Vec::new();
        loop {
            match process.hear(late) {
                Heard::Event(event) => events.push(event),
                Heard::Silence => panic!("the process of {role:?} hangs after {:?}", events.last()),
                Heard::End => break,
            }
        }
        let status = process.wait();
        assert!(status.success(), "the process of {role:?} found a mistake: {status}");
        events
    }

    /// Takes in what is still in the pipe, and waits for the end.
    fn hear_out(&mut self, process: &mut Process) -> ExitStatus {
        let late = Instant::now() + self.patience();
        loop {
            match process.hear(late) {
                Heard::Event(event) => self.events.push(event),
                Heard::Silence => panic!("a process that was killed does not end"),
                Heard::End => return process.wait(),
            }
        }
    }

    fn history(&self) -> History {
        let mut history = History::new(self.holdings.clone());
        let mut under_way = HashMap::new();
        for event in &self.events {
            match event {
                Event::Begin { thread, operation, changes, replaces } => {
                    let no = history.begin(changes.clone());
                    if let Some((key, stamp)) = replaces {
                        history.replaces(no, *key, *stamp);
                    }
                    under_way.insert((thread, operation), no);
                }
                Event::End { thread, operation, outcome, replaced } => {
                    let no = under_way.remove(&(thread, operation)).expect("it began");
                    if let Some((key, stamp)) = replaced {
                        history.replaces(no, *key, *stamp);
                    }
                    history.end(no, *outcome);
                }
                Event::Saw { key, stamp } => history.saw(*key, *stamp),
                _ => {}
            }
        }
        history
    }

    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_secs(self.pool.len_bytes() / BYTES_PER_SECOND)
    }
}

/// After a failure, everything that tells about it stays.
impl Drop for Run {
    fn drop(&mut self) {
        let Some(folder) = self.folder.take().filter(|_| std::thread::panicking()) else { return };
        let folder = folder.keep();
        let ledger: Vec<String> = self.events.iter().map(|event| format!("{event:?}\n")).collect();
        let before = format!("{:?}\n{:#?}\n", self.plan, self.holdings);
        let written = fs::write(folder.join("ledger"), ledger.concat())
            .and_then(|()| fs::write(folder.join("before"), before));
        println!("the pool, the ledger and what was there before: {folder:?} ({written:?})");
        println!("DAXITE_TORTURE_SEED={} {:?}", self.seed, self.plan);
    }
}
