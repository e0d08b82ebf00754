//! The report, in Markdown.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::process::Command;

use daxite::Options;
use daxite_benches::Place;

use crate::Outcome;
use crate::peers::{Contestant, Durability};
use crate::plan::Plan;
use crate::results::{Measure, Results};
use crate::workload::{WORKLOADS, Workload};

/// Between these the report stands in `docs/PERFORMANCE.md`.
const MARKERS: [&str; 2] = ["<!-- compare: begin -->\n", "<!-- compare: end -->"];

/// Daxite's place among the contestants.
const DAXITE: usize = 0;

/// Everything that is reported.
pub(crate) struct Report<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) rounds: u32,
    pub(crate) contestants: &'a [Contestant],
    pub(crate) results: &'a Results,
}

impl Report<'_> {
    /// To standard output.
    pub(crate) fn print(&self) -> Outcome<()> {
        println!("{}{self}", self.setting()?);
        Ok(())
    }

    /// Into the documentation, in place of the one that is there.
    pub(crate) fn write(&self) -> Outcome<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/PERFORMANCE.md");
        let page = fs::read_to_string(&path)?;
        let (before, rest) = page.split_once(MARKERS[0]).ok_or("no marker where to begin")?;
        let (_, after) = rest.split_once(MARKERS[1]).ok_or("no marker where to end")?;
        let [begin, end] = MARKERS;
        fs::write(path, format!("{before}{begin}{}{self}{end}{after}", self.setting()?))?;
        Ok(())
    }

    /// Machine, medium and method.
    fn setting(&self) -> Outcome<String> {
        let place = Place::default();
        let pool = Options::new().capacity(64 << 20).create(place.path("medium"))?;
        let (kind, persistence) = (pool.pool().info().kind, pool.persistence());
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: "));
        let Plan { keys, slice, .. } = self.plan;
        Ok(format!(
            "{keys} keys of 16 bytes, values of 100, which do not compress. {model}, {cores} cores, Linux \
             {kernel}; all stores on {kind}, where Daxite's writes are `{persistence}`. Daxite at {commit}. \
             Medians of {rounds} rounds, {slice:?} for each workload (a load ten times that). The \
             threads waited for a CPU for {waited:.0} % of the time, which is left out; the fastest round of \
             a cell is {spread:.2} times the slowest, in the median over all.\n\n",
            keys = grouped(f64::from(*keys)),
            model = model.unwrap_or("CPU unknown"),
            cores = std::thread::available_parallelism()?,
            kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?
                .split('-')
                .next()
                .unwrap_or_default()
                .trim(),
            commit = commit().unwrap_or("an unknown commit".into()),
            rounds = self.rounds,
            waited = self.results.mean(Measure::Waited) * 100.0,
            spread = self.results.spread(),
        ))
    }

    fn median(&self, measure: Measure, contestant: usize) -> Option<f64> {
        self.results.median(measure, contestant)
    }

    /// The best peer of a durability.
    fn best(&self, measure: Measure, durability: Durability) -> Option<(&Contestant, f64)> {
        let peers = self.contestants.iter().enumerate().skip(DAXITE + 1);
        peers
            .filter(|(_, peer)| peer.durability == durability)
            .filter_map(|(number, peer)| Some((peer, self.median(measure, number)?)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    fn contestants(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(f, "| store | version | durable | how |\n|---|---|---|---|")?;
        for contestant in self.contestants {
            let Contestant { name, package, durability, promise, .. } = contestant;
            let durable = match durability {
                Durability::Durable => "when a write returns",
                Durability::Relaxed => "later",
            };
            let version = version(package).unwrap_or("?");
            writeln!(f, "| {name} | {package} {version} | {durable} | {promise} |")?;
        }
        Ok(())
    }

    fn summary(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(
            f,
            "| per second | threads | Daxite | best durable peer | Daxite / it | best relaxed peer | Daxite / it |\n\
             |---|---|---|---|---|---|---|"
        )?;
        for workload in WORKLOADS {
            for threads in workload.threads() {
                let measure = Measure::Rate(workload, *threads);
                let Some(daxite) = self.median(measure, DAXITE) else { continue };
                write!(f, "| {} | {threads} | {} |", workload.title(), grouped(daxite))?;
                for durability in [Durability::Durable, Durability::Relaxed] {
                    match self.best(measure, durability) {
                        Some((peer, rate)) => {
                            write!(
                                f,
                                " {} {} | **{:.2}** |",
                                peer.name,
                                grouped(rate),
                                daxite / rate
                            )?;
                        }
                        None => write!(f, " | |")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }

    fn workload(&self, f: &mut Formatter, workload: Workload) -> fmt::Result {
        let measures: Vec<_> =
            workload.threads().iter().map(|threads| Measure::Rate(workload, *threads)).collect();
        writeln!(f, "\n#### {}\n", workload.title())?;
        write!(f, "| per second |")?;
        for threads in workload.threads() {
            write!(f, " {threads} thread{} | Daxite / it |", if *threads == 1 { "" } else { "s" })?;
        }
        writeln!(f, "\n|---|{}", "---|---|".repeat(measures.len()))?;
        for (number, contestant) in self.contestants.iter().enumerate() {
            write!(f, "| {} |", contestant.title())?;
            for measure in &measures {
                let rates = self.median(*measure, number).zip(self.median(*measure, DAXITE));
                let Some((rate, daxite)) = rates else { continue };
                write!(f, " {} | {:.2} |", grouped(rate), daxite / rate)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn reopening(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(
            f,
            "\n#### Opening and space\n\nUntil the first record is read, after a clean close and after the \
             process was killed. All keys had been written in batches of 1,000, and 1,000 of them again. \
             Bytes are those on the medium for each byte of a key or a value after the clean close, and \
             \"in use\" those that are not taken ahead of need.\n\n\
             | durable | open, closed | open, killed | bytes | in use |\n|---|---|---|---|---|"
        )?;
        for (number, contestant) in self.contestants.iter().enumerate() {
            let median = |measure| self.median(measure, number);
            let opened = [Measure::OpenClosed, Measure::OpenKilled].map(median);
            let space = [Measure::Space, Measure::SpaceInUse].map(median);
            let [Some(closed), Some(killed)] = opened else { continue };
            let [Some(space), Some(in_use)] = space else { continue };
            let name = contestant.name;
            writeln!(f, "| {name} | {closed:.1} ms | {killed:.1} ms | {space:.2} | {in_use:.2} |")?;
        }
        Ok(())
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.contestants(f)?;
        f.write_str(METHOD)?;
        self.summary(f)?;
        for workload in WORKLOADS {
            self.workload(f, workload)?;
        }
        self.reopening(f)
    }
}

/// What must be known to judge the numbers.
const METHOD: &str = "
- On tmpfs a sync is a system call that does nothing, which favours the peers: on a disk, or on persistent
  memory without DAX, each of their durable writes waits for the medium. Nothing here survives a power failure.
- One store is open at a time, and what it does in the background slows down itself. Each has a cache that
  holds everything; otherwise all are at their defaults.
- Time is that on the wall, without that for which a thread was ready and had no CPU. Waiting for a lock, for
  the medium or for another thread counts. Where much is left out, two threads seldom ran at the same moment, and
  the figures for two tell little of how they get in each other's way.
- A get is an operation of its own, with a transaction of its own where the store has them. \"In one
  transaction\" reads 100 keys in one; Daxite and sled have none for reads and do 100 gets.
- Daxite's pool has room for the keys that are loaded and inserted, and a quarter more, so that it is soon full
  and reclaims while it is measured. It takes a fixed capacity; the peers grow.
- YCSB chooses keys by a scrambled Zipf distribution (0.99), everything else by a uniform one. All stores get
  the same draws. Batches, scans of 100 and gets of 100 are counted in records.
- Whoever does not load all keys in time gets the rest in batches that are not measured, and is measured on a
  store that is still small.
- Every value that is read is compared with what was written, and each round ends with a scan of everything.

";

/// The version of a package, by the lock file that this was built with.
fn version(package: &str) -> Option<&'static str> {
    let lock = include_str!("../Cargo.lock");
    let (_, after) = lock.split_once(&format!("\nname = \"{package}\"\nversion = \""))?;
    Some(after.split_once('"')?.0)
}

/// The commit that is checked out.
fn commit() -> Option<String> {
    let git = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"];
    let output = Command::new("git").args(git).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!said.is_empty()).then_some(said)
}

/// A whole number with commas.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
