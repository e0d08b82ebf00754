//! Goal: a store, a write-back or a fence that is left out is noticed by the crash tests. So each of
//! them is needed, and the crash tests look where it matters.
//!
//! Method: the simulator numbers the places in `core` and `store` that store, write back or fence. One
//! after the other is left out, and workloads run until a state is found that must not be. Who is not
//! missed must be in the list below, with the reason; a place that no workload reaches is a failure,
//! too. What noticed a place before is tried first, which is what makes this a matter of a minute or
//! two. `DAXITE_MUTANT=N` tries just the one with that number.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use daxite_core::sim::{Act, Budget, Defect, Explorer, Journal, Site, Tally, Violation};
use daxite_core::{LogicalRange, PAGE};
use daxite_tests::crash::{
    Expected, Shape, StoreWorkload, UpgradeWhen, Volumes, VolumesExpected, VolumesWorkload,
    earlier_volumes, store_test,
};

/// Mutants that nothing can notice, by file, what is left out, and the text of the line.
const EQUIVALENT: &[(&str, Act, &str, &str)] = &[];

/// Calls that no workload reaches, by file and the text of the line.
const UNREACHED: &[(&str, &str, &str)] = &[
    (
        "core/src/extent.rs",
        "store_lines(medium, start, lines)",
        "its place is that of whoever appends",
    ),
    (
        "core/src/extent_map.rs",
        "let _lost = store_word(&self.medium",
        "puts back what is visible after a failed msync, which the simulator does not have",
    ),
];

type Outcome = (Result<Tally, Violation>, BTreeMap<Site, u64>);

/// A workload under a defect.
struct Workload {
    name: &'static str,
    run: fn(Defect, Budget) -> Outcome,
}

/// How much of a workload is explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    /// Just enough for recoveries to run as well.
    Reach,
    /// Few states of few moments: most mutants are noticed anywhere.
    Sparse,
    /// Many states of every moment.
    Dense,
}

impl Pass {
    fn budget(self) -> Budget {
        let (one_in, states, kill_every, inner_states, depth) = match self {
            Self::Reach => (40, 1, 1, 1, 1),
            Self::Sparse => (5, 6, 5, 8, 2),
            Self::Dense => (1, 24, 4, 8, 2),
        };
        let recovery_every = if self == Self::Reach { 1 } else { kill_every + 2 };
        Budget { one_in, states, kill_every, recovery_every, inner_states, depth, until: None }
    }
}

/// What noticed a place before, by file, what is left out, and the text of the line. Others are tried
/// if it does not any more, so nothing depends on this list but the time that it takes.
const NOTICED_BY: &[(&str, Act, &str, &str, Pass)] = &[
    ("core/src/extent.rs", Act::Fence, "flush_range(medium, range)", "huge segments", Pass::Sparse),
    ("core/src/extent_map.rs", Act::Fence, "stored.flush(", "short records", Pass::Dense),
    (
        "core/src/fault.rs",
        Act::Fence,
        "fence(medium, [first?, last?])",
        "huge segments",
        Pass::Sparse,
    ),
    ("core/src/pool.rs", Act::WriteBack, "flush_range(medium, range)", "each once", Pass::Dense),
    ("core/src/superblock.rs", Act::Fence, "&without_magic", "each once", Pass::Dense),
    ("core/src/superblock.rs", Act::Store, "store_word(", "each once", Pass::Dense),
    ("core/src/superblock.rs", Act::WriteBack, "magic.flush(", "each once", Pass::Dense),
    ("core/src/sync.rs", Act::Fence, "fence_all(", "each once", Pass::Dense),
    ("core/src/upgrade.rs", Act::Store, "copy_within(", "upgrades", Pass::Sparse),
    ("core/src/upgrade.rs", Act::WriteBack, "copy_within(", "upgrades", Pass::Sparse),
    ("core/src/upgrade.rs", Act::Store, "store_zero_lines(", "upgrades", Pass::Sparse),
    ("core/src/upgrade.rs", Act::WriteBack, "store_zero_lines(", "upgrades", Pass::Sparse),
    ("core/src/upgrade.rs", Act::Fence, "fence_all(", "dirty", Pass::Sparse),
    ("store/src/writer.rs", Act::Store, "append(bytes_of(&seal))", "short records", Pass::Dense),
    (
        "store/src/writer.rs",
        Act::WriteBack,
        "append(bytes_of(&seal))",
        "short records",
        Pass::Dense,
    ),
    ("store/src/writer.rs", Act::Fence, "pool.fence([flushed])", "short records", Pass::Dense),
    ("store/src/writer.rs", Act::Fence, "pool.fence([flushed])", "full pool", Pass::Dense),
];

/// So many of the workloads are explored densely before the others are tried.
const QUICK_WORKLOADS: usize = 3;

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "each once",
        run: |defect, budget| volumes(4 << 20, defect, budget, each_once),
    },
    Workload { name: "over an earlier pool", run: over_an_earlier_pool },
    Workload { name: "short records", run: short_records },
    Workload { name: "pages", run: |defect, budget| volumes(4 << 20, defect, budget, anything) },
    Workload {
        name: "in place",
        run: |defect, budget| volumes(16 << 20, defect, budget, in_place),
    },
    Workload {
        name: "upgrades",
        run: |defect, budget| volumes(16 << 20, defect, budget, upgrades),
    },
    Workload { name: "dirty", run: |defect, budget| volumes(16 << 20, defect, budget, dirty) },
    Workload { name: "huge", run: |defect, budget| volumes(16 << 20, defect, budget, anything) },
    Workload { name: "full pool", run: full_pool },
    Workload { name: "huge segments", run: huge_segments },
    Workload { name: "long records", run: long_records },
];

fn short_records(defect: Defect, budget: Budget) -> Outcome {
    store(4 << 20, Shape::SHORT, defect, budget, |workload| {
        (0..25).for_each(|_| workload.anything());
    })
}

fn long_records(defect: Defect, budget: Budget) -> Outcome {
    store(4 << 20, Shape::LONG, defect, budget, |workload| {
        (0..50).for_each(|_| workload.anything());
        workload.reclaim();
        (0..5).for_each(|_| workload.anything());
    })
}

/// Pages and segment numbers are used again and again.
fn full_pool(defect: Defect, budget: Budget) -> Outcome {
    store(4 << 20, Shape::LONG, defect, budget, |workload| {
        for _ in 0..12 {
            workload.aside(|workload| (0..40).for_each(|_| workload.anything()));
            (0..8).for_each(|_| workload.anything());
        }
    })
}

/// Segments are huge pages, and come back.
fn huge_segments(defect: Defect, budget: Budget) -> Outcome {
    store(64 << 20, Shape::HUGE, defect, budget, |workload| {
        for _ in 0..6 {
            workload.aside(|workload| (0..30).for_each(|_| workload.anything()));
            workload.reclaim();
            (0..12).for_each(|_| workload.anything());
        }
    })
}

fn store(
    pool_bytes: u64,
    shape: Shape,
    defect: Defect,
    budget: Budget,
    act: impl FnOnce(&mut StoreWorkload<'_>),
) -> Outcome {
    let test = store_test().pool_bytes(pool_bytes).budget(budget).defect(defect);
    let (result, recorder) = test.run_recorded(1, Expected::default(), |database, journal| {
        let mut workload = StoreWorkload::new(database, journal, shape, 0);
        act(&mut workload);
        workload.close();
    });
    (result, recorder.sites())
}

fn volumes(
    pool_bytes: u64,
    defect: Defect,
    budget: Budget,
    act: fn(&mut VolumesWorkload<'_>),
) -> Outcome {
    explored(Explorer::new(Volumes, budget).defect(defect), pool_bytes, act)
}

fn over_an_earlier_pool(defect: Defect, budget: Budget) -> Outcome {
    let explorer = Explorer::new(Volumes, budget).defect(defect).over(earlier_volumes(4 << 20));
    explored(explorer, 4 << 20, each_once)
}

fn explored(
    explorer: Explorer<Volumes>,
    pool_bytes: u64,
    act: fn(&mut VolumesWorkload<'_>),
) -> Outcome {
    let expected = VolumesExpected::default();
    let result = explorer.run(1, pool_bytes, expected, |pool, journal: &Journal<_>| {
        act(&mut VolumesWorkload::new(pool, journal));
        journal.aside(|| pool.close()).expect("memory does not fail");
    });
    (result, explorer.recorder().sites())
}

/// Everything that stores, alone, so that no later fence makes up for its own.
fn each_once(workload: &mut VolumesWorkload<'_>) {
    let volume = workload.create("v", 6 * PAGE);
    workload.write(&volume, PAGE - 9, &[1; 3 * PAGE as usize]);
    workload.zero(&volume, LogicalRange::new(PAGE + 100, 300));
    workload.write(&volume, 4 * PAGE, &[2; 100]);
    workload.punch(&volume, LogicalRange::new(PAGE + 10, PAGE));
    workload.punch(&volume, LogicalRange::new(0, PAGE));
    workload.set_len(&volume, 2 * PAGE + 50);
    workload.set_len(&volume, 6 * PAGE);
    workload.store_and_upgrade(&volume, 2 * PAGE, &[3; 100], UpgradeWhen::Dirty);
    drop(volume);
    workload.remove("v");
}

fn anything(workload: &mut VolumesWorkload<'_>) {
    (0..60).for_each(|_| workload.one_operation());
}

fn upgrades(workload: &mut VolumesWorkload<'_>) {
    let grown = workload.volume_of_pages(&[7, 300]);
    workload.upgrade(&grown);
    workload.write(&grown, 7 * PAGE, &[7; 100]);
}

fn in_place(workload: &mut VolumesWorkload<'_>) {
    let grown = workload.volume_of_pages(&[]);
    workload.upgrade(&grown);
}

fn dirty(workload: &mut VolumesWorkload<'_>) {
    let grown = workload.volume_of_pages(&[7, 300, 511]);
    workload.store_and_upgrade(&grown, PAGE - 50, &[7; 100], UpgradeWhen::Dirty);
}

/// The sites that the workloads reach, each with those that do.
fn reached() -> BTreeMap<Site, BTreeSet<&'static str>> {
    let reached: Mutex<BTreeMap<Site, BTreeSet<&str>>> = Mutex::default();
    on_all_cores(WORKLOADS, |workload| {
        let (result, sites) = (workload.run)(Defect::None, Pass::Reach.budget());
        result.unwrap_or_else(|violation| panic!("{}: {violation}", workload.name));
        let mut reached = reached.lock().expect("no panic");
        sites.into_keys().for_each(|site| {
            reached.entry(site).or_default().insert(workload.name);
        });
    });
    reached.into_inner().expect("no panic")
}

fn on_all_cores<T: Sync>(items: &[T], act: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    act(item);
                }
            });
        }
    });
}

/// What is tried to notice that `site` is left out, by workloads that reach it.
fn plan(site: Site, line: &str, reached_by: &BTreeSet<&str>) -> Vec<(&'static Workload, Pass)> {
    let of_this = |&&(file, act, text, ..): &&(&str, Act, &str, &str, Pass)| {
        site.file == file && site.act == act && line.contains(text)
    };
    let named = |name: &str| WORKLOADS.iter().find(|workload| workload.name == name);
    let noticed = NOTICED_BY.iter().filter(of_this);
    let noticed = noticed.map(|&(.., name, pass)| (named(name).expect("a workload"), pass));
    let (quick, slow) = WORKLOADS.split_at(QUICK_WORKLOADS);
    let passes = [Pass::Sparse, Pass::Dense];
    let rest = [quick, slow].into_iter().flat_map(|workloads| {
        passes.into_iter().flat_map(move |pass| workloads.iter().map(move |one| (one, pass)))
    });
    // The first is over in no time, and notices most.
    let first = [(&WORKLOADS[0], Pass::Sparse)].into_iter();
    let all = first.chain(noticed).chain(rest);
    all.filter(|(workload, _)| reached_by.contains(workload.name)).collect()
}

/// How it was noticed that `site` was left out, if it was.
fn notice(site: Site, plan: &[(&Workload, Pass)]) -> Option<String> {
    plan.iter().find_map(|(workload, pass)| {
        let violation = (workload.run)(Defect::Without(vec![site]), pass.budget()).0.err()?;
        let what = violation.what.lines().next().unwrap_or_default();
        Some(format!("{}, {pass:?}: {what}", workload.name))
    })
}

fn sources(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(of)
}

fn line_of(site: Site) -> String {
    let text = fs::read_to_string(sources(site.file)).expect("the source of a site");
    text.lines().nth(site.line as usize - 1).expect("its line").trim().to_string()
}

/// The lines of production code that call what stores, writes back or fences.
fn calls() -> BTreeSet<(String, u32)> {
    const CALLS: [&str; 13] = [
        "store_word(",
        "store_words(",
        "store_lines(",
        "store_zero_lines(",
        "store_zeros(",
        "copy_within(medium",
        "flush_range(",
        " fence(",
        "fence_all(",
        "frames.append(",
        "seal.append(",
        "appender.append(",
        ".fence(",
    ];
    let mut calls = BTreeSet::new();
    let mut folders = vec![sources("core/src"), sources("store/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().to_string();
            if path.is_dir() && !["persist", "sim", "state_table"].contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs")
                && !["tests.rs", "models.rs", "mixes.rs"].contains(&name.as_str())
            {
                let text = fs::read_to_string(&path).expect("a source file");
                let production = text.split("#[cfg(test)]\nmod tests").next().expect("a part");
                let root = sources("").to_string_lossy().to_string();
                let path = path.to_string_lossy().trim_start_matches(&root).to_string();
                for (nth, line) in production.lines().enumerate() {
                    let line = line.trim_start();
                    let is_call = CALLS.iter().any(|call| line.contains(call));
                    let is_listed = UNREACHED
                        .iter()
                        .any(|(file, text, _)| path == *file && line.contains(text));
                    let is_text =
                        line.starts_with("//") || line.contains("fn ") || line.starts_with("use ");
                    if is_call && !is_text && !is_listed {
                        calls.insert((path.clone(), nth as u32 + 1));
                    }
                }
            }
        }
    }
    calls
}

#[test]
#[ignore = "takes minutes; a gate of its own"]
fn every_store_write_back_and_fence_that_is_left_out_is_noticed() {
    let reached = reached();
    let lines: BTreeSet<(String, u32)> =
        reached.keys().map(|site| (site.file.to_string(), site.line)).collect();
    let unreached: Vec<_> = calls().difference(&lines).cloned().collect();
    println!("{} places; lines that no workload reaches: {unreached:?}", reached.len());

    let only: Option<usize> =
        std::env::var("DAXITE_MUTANT").ok().map(|number| number.parse().expect("a number"));
    let mutants: Vec<_> = reached.into_iter().enumerate().collect();
    let survivors = Mutex::new(Vec::new());
    // A violation ends its run by a panic, which is told below, and by whoever expects none.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    on_all_cores(&mutants, |(number, (site, reached_by))| {
        if only.is_some_and(|only| only != *number) {
            return;
        }
        let (line, started) = (line_of(*site), Instant::now());
        let noticed = notice(*site, &plan(*site, &line, reached_by));
        let took = started.elapsed().as_millis();
        match noticed {
            Some(how) => println!("{number} {site} `{line}`: {took} ms, {how}"),
            None => {
                println!("{number} {site} `{line}`: {took} ms, SURVIVED");
                survivors.lock().expect("no panic").push((*site, line));
            }
        }
    });
    std::panic::set_hook(told);
    let survivors = survivors.into_inner().expect("no panic");
    let is_listed = |(site, line): &&(Site, String)| {
        EQUIVALENT.iter().any(|(file, act, text, _)| {
            site.file == *file && site.act == *act && line.contains(text)
        })
    };
    let (listed, unlisted): (Vec<_>, Vec<_>) = survivors.iter().partition(is_listed);
    println!(
        "{} mutants, {} noticed, {} on the list",
        mutants.len(),
        mutants.len() - survivors.len(),
        listed.len()
    );
    assert!(unlisted.is_empty(), "nobody misses {unlisted:#?}");
    assert!(unreached.is_empty(), "no workload reaches {unreached:?}");
}
