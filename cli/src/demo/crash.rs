//! The fourth chapter: kill -9 in the middle, and what is there afterwards.
//!
//! A second process writes and acknowledges. It is killed while it is at it, so at most one write
//! is durable without an acknowledgement. After the reopening every key must hold the last value
//! that was acknowledged for it, or the value of that one write.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::progress;
use crate::session::{Access, Session};
use crate::size::{counted, grouped, per_second, time};

use super::places::Places;
use super::story::Story;
use super::{read, writes};

/// The writer lives at least so long …
const LIFE: Duration = Duration::from_millis(1200);
/// … unless it has acknowledged so many writes before.
const ACKS_MAX: u64 = 100_000;
/// The number of the signal that cannot be handled.
const SIGKILL: i32 = 9;
/// What the writes are made of.
const SEED: u64 = 20_26;

/// What the crash left.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) acknowledged: u64,
    pub(crate) write_duration_ns: u64,
    pub(crate) keys_checked: u64,
    pub(crate) found_in_flight: u64,
    pub(crate) torn_tails: u64,
    pub(crate) open_duration_ns: u64,
    pub(crate) recovery_duration_ns: u64,
    pub(crate) recovered_records: u64,
}

/// Kills, reopens, and checks.
pub(crate) fn chapter(path: &Path, places: &Places, story: &mut Story<'_>) -> Outcome<Figures> {
    story.chapter("kill -9 in the middle")?;
    story.say(
        "A second process opens the pool, puts random keys one by one, and tells us the number of \
         each write once the store has called it durable. Then SIGKILL: no signal handler, no \
         destructor, no last words.",
    )?;
    let killed = kill_a_writer(path)?;
    story.figure(
        "single acknowledged writes",
        format!(
            "{} per second, {} each",
            grouped(per_second(killed.acknowledged, killed.life)),
            time(killed.life / killed.acknowledged.clamp(1, u64::from(u32::MAX)) as u32)
        ),
    );
    story.figure("killed after", format!("{} acknowledged writes", grouped(killed.acknowledged)));
    story.say("The pool is opened again. Nobody closed it, so the log is read and judged.")?;
    let start = Instant::now();
    let session = Session::open(path, Access::Write)?;
    let opened = start.elapsed();
    let checked = check(&session, killed.acknowledged)?;
    read::compare(&session, places)?;
    let figures = figures(&session, &killed, opened, &checked);
    session.close()?;
    tell(&figures, places, story)?;
    Ok(figures)
}

struct Killed {
    acknowledged: u64,
    life: Duration,
}

fn kill_a_writer(path: &Path) -> Outcome<Killed> {
    let trouble = |what, error| Failure::io(what, Path::new("the writing process"), &error);
    let program = std::env::current_exe().map_err(|error| trouble("find", error))?;
    let mut writer = Command::new(program)
        .arg("demo-writer")
        .args(["--seed", &SEED.to_string()])
        .arg("--pool")
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| trouble("start", error))?;
    let heard = listen(&mut writer);
    // Where listening failed it is still alive; where it ended by itself this does nothing.
    let _ = writer.kill();
    let status = writer.wait().map_err(|error| trouble("wait for", error))?;
    let killed = heard.map_err(|error| trouble("listen to", error))?;
    match status.signal() {
        Some(SIGKILL) if killed.acknowledged > 0 => Ok(killed),
        _ => {
            let error = io::Error::other(format!("it ended by itself, {status}"));
            Err(trouble("kill", error).hint("the pool may be too small; try a larger --size"))
        }
    }
}

/// Reads acknowledgements, kills in the middle, and reads those that were still under way.
fn listen(writer: &mut Child) -> io::Result<Killed> {
    let bar = progress::spinner();
    let acks = writer.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut acks = BufReader::new(acks);
    let mut acknowledged = 0;
    let mut first = None;
    let mut life = None;
    let mut line = String::new();
    loop {
        line.clear();
        acks.read_line(&mut line)?;
        // What the kill cut in two is no acknowledgement.
        if line.strip_suffix('\n') != Some(acknowledged.to_string().as_str()) {
            break;
        }
        acknowledged += 1;
        let start = *first.get_or_insert_with(Instant::now);
        if life.is_none() && (start.elapsed() >= LIFE || acknowledged >= ACKS_MAX) {
            life = Some(start.elapsed());
            writer.kill()?;
        }
        if acknowledged % 256 == 0 {
            bar.set_message(format!("{} writes acknowledged", grouped(acknowledged)));
        }
    }
    bar.finish_and_clear();
    Ok(Killed { acknowledged, life: life.unwrap_or(LIFE) })
}

struct Checked {
    keys: u64,
    in_flight: u64,
}

/// Compares what is there with what was acknowledged: writes `0..acknowledged`.
fn check(pool: &Session, acknowledged: u64) -> Outcome<Checked> {
    let mut last: HashMap<String, u64> = HashMap::new();
    for seq in 0..acknowledged {
        last.insert(writes::key(SEED, seq), seq);
    }
    let keyspace = pool.keyspace(writes::KEYSPACE)?;
    let mut checked = Checked { keys: last.len() as u64, in_flight: 0 };
    for pair in keyspace.iter() {
        let (key, value) = pair.map_err(|error| pool.fail(error))?;
        let key = String::from_utf8_lossy(&key).into_owned();
        let expected = last.remove(&key);
        match writes::seq_of(SEED, &value) {
            Some(seq) if Some(seq) == expected => {}
            Some(seq) if seq == acknowledged && key == writes::key(SEED, seq) => {
                checked.in_flight += 1;
            }
            found => {
                let what = format!("{key} holds write {found:?}, acknowledged was {expected:?}");
                return Err(Failure::broken_promise(what));
            }
        }
    }
    match last.into_iter().next() {
        None => Ok(checked),
        Some((key, seq)) => {
            let what = format!("{key} is lost, its write {seq} had been acknowledged");
            Err(Failure::broken_promise(what))
        }
    }
}

fn figures(pool: &Session, killed: &Killed, opened: Duration, checked: &Checked) -> Figures {
    let recovery = pool.db.recovery_report();
    Figures {
        acknowledged: killed.acknowledged,
        write_duration_ns: killed.life.as_nanos() as u64,
        keys_checked: checked.keys,
        found_in_flight: checked.in_flight,
        torn_tails: recovery.torn_tails,
        open_duration_ns: opened.as_nanos() as u64,
        recovery_duration_ns: recovery.duration.as_nanos() as u64,
        recovered_records: recovery.records,
    }
}

fn tell(figures: &Figures, places: &Places, story: &mut Story<'_>) -> Outcome<()> {
    story.figure(
        "opened in",
        format!(
            "{}, of which {} to recover {}",
            time(Duration::from_nanos(figures.open_duration_ns)),
            time(Duration::from_nanos(figures.recovery_duration_ns)),
            counted(figures.recovered_records, "record", "records"),
        ),
    );
    story.kept(format_args!(
        "all {} acknowledged writes are there: {} hold the last value acknowledged for them",
        grouped(figures.acknowledged),
        counted(figures.keys_checked, "key", "keys")
    ))?;
    story.kept(match (figures.found_in_flight, figures.torn_tails) {
        (0, 0) => "a write that was under way left no trace: nobody had been promised it",
        (0, _) => "the write that was under way was torn, and dropped: nobody had been promised it",
        _ => "the write that was under way had just become durable, and is whole",
    })?;
    story.kept(format_args!("all {} places are as they were", grouped(places.pairs.len() as u64)))
}
