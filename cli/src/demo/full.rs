//! The fifth chapter: a pool too small for huge pages, filled to the brim.

use daxite::{Error, Keyspace, Options};
use serde::Serialize;

use crate::commands::info::{Dax, dax_rows};
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::size::{grouped, human};

use super::story::Story;

/// Size of the pool: two huge pages, of which the superblock takes a part.
const POOL_BYTES: u64 = 4 << 20;
/// Length of each value.
const VALUE_BYTES: usize = 1000;

/// What fitted.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) pool_bytes: u64,
    pub(crate) fitted: u64,
    pub(crate) fitted_again: u64,
    #[serde(flatten)]
    pub(crate) dax: Dax,
}

/// Fills, deletes, and fills again.
pub(crate) fn chapter(story: &mut Story<'_>) -> Outcome<Figures> {
    story.chapter("A full pool")?;
    story.say(
        "A pool of 4 MiB in this process's memory has no huge page to spare for each part of its \
         log, so the log lives in pages of 4 KiB. We write until there is no room: that is a \
         normal answer, not a disaster.",
    )?;
    let in_memory = "a pool in memory".into();
    let created = Options::new().capacity(POOL_BYTES).in_memory();
    let db = created.map_err(|error| Failure::store("a pool in memory".as_ref(), error))?;
    let pool = Session { path: in_memory, db };
    let keyspace = pool.keyspace_or_new("small")?;

    let fitted = fill(&pool, &keyspace)?;
    let full = format!("{} values of {VALUE_BYTES} bytes", grouped(fitted));
    story.figure("room in 4 MiB", format!("{full}, {}", human(fitted * VALUE_BYTES as u64)));
    check_readable(&pool, &keyspace, fitted)?;
    for number in 0..fitted {
        keyspace.remove(key(number)).map_err(|error| pool.fail(error))?;
    }
    if !keyspace.is_empty() {
        return Err(Failure::broken_promise("removed keys are still there"));
    }
    let fitted_again = fill(&pool, &keyspace)?;
    check_readable(&pool, &keyspace, fitted_again)?;
    if fitted_again * 100 < fitted * 95 {
        let what = format!("of {fitted} values only {fitted_again} fitted after deleting all");
        return Err(Failure::broken_promise(what));
    }
    let figures =
        Figures { pool_bytes: POOL_BYTES, fitted, fitted_again, dax: Dax::of(pool.db.pool()) };
    tell(&figures, story)?;
    drop(keyspace);
    pool.close()?;
    Ok(figures)
}

fn tell(figures: &Figures, story: &mut Story<'_>) -> Outcome<()> {
    story.kept(
        "the put that did not fit said so, and changed nothing; everything stayed readable",
    )?;
    story.kept("a full pool still deletes: all keys were removed")?;
    story.kept(format_args!(
        "the space came back: {} fitted again",
        grouped(figures.fitted_again)
    ))?;
    story.topic("what its DAX layer did")?;
    story.show(|out| dax_rows(&figures.dax).print(out, 4))
}

fn key(number: u64) -> String {
    format!("number {number:06}")
}

/// Puts numbered keys until the pool is full; how many fitted.
fn fill(pool: &Session, keyspace: &Keyspace) -> Outcome<u64> {
    let mut number = 0;
    loop {
        match keyspace.insert(key(number), value(number)) {
            Ok(()) => number += 1,
            Err(Error::Full { .. }) => return Ok(number),
            Err(error) => return Err(pool.fail(error)),
        }
        if number * VALUE_BYTES as u64 > POOL_BYTES {
            return Err(Failure::broken_promise("more fitted than the pool is long"));
        }
    }
}

fn value(number: u64) -> Vec<u8> {
    vec![number as u8; VALUE_BYTES]
}

fn check_readable(pool: &Session, keyspace: &Keyspace, count: u64) -> Outcome<()> {
    for number in 0..count {
        let found = keyspace.get(key(number)).map_err(|error| pool.fail(error))?;
        if found.as_deref() != Some(&value(number)[..]) {
            return Err(Failure::broken_promise(format!("{} is not readable", key(number))));
        }
    }
    match keyspace.contains_key(key(count)).map_err(|error| pool.fail(error))? {
        true => Err(Failure::broken_promise("a put that answered Full is there all the same")),
        false => Ok(()),
    }
}
