//! The second chapter: real data, in batches.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::failure::Outcome;
use crate::progress;
use crate::session::Session;
use crate::size::{grouped, human, per_second, time};

use super::places::Places;
use super::story::Story;

/// The keyspace of the places.
pub(crate) const PLACES: &str = "places";
/// Records in a batch.
const BATCH: usize = 1000;

/// What loading took.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) records: u64,
    pub(crate) batches: u64,
    pub(crate) duration_ns: u64,
}

/// Loads the places.
pub(crate) fn chapter(pool: &Session, places: &Places, story: &mut Story<'_>) -> Outcome<Figures> {
    let records = places.pairs.len() as u64;
    story.chapter(&format!("Load {} places of the world", grouped(records)))?;
    story.say(
        "The data comes with the program: GeoNames, CC BY 4.0. A batch is there whole or not at \
         all, whatever happens, and as durable as the medium allows when it returns.",
    )?;
    let keyspace = pool.keyspace_or_new(PLACES)?;
    let bar = progress::bar(records, "places");
    let start = Instant::now();
    for pairs in places.pairs.chunks(BATCH) {
        let mut batch = pool.db.batch();
        for (key, value) in pairs {
            batch.insert(&keyspace, key, value);
        }
        batch.commit().map_err(|error| pool.fail(error))?;
        bar.inc(pairs.len() as u64);
    }
    let took = start.elapsed();
    bar.finish_and_clear();
    let batches = places.pairs.len().div_ceil(BATCH) as u64;
    tell(places, batches, took, story)?;
    Ok(Figures { records, batches, duration_ns: took.as_nanos() as u64 })
}

fn tell(places: &Places, batches: u64, took: Duration, story: &mut Story<'_>) -> Outcome<()> {
    let records = places.pairs.len() as u64;
    story.figure("loaded", format!("{}, {}", human(places.bytes), time(took)));
    story.figure("records per second", grouped(per_second(records, took)));
    story.figure(
        "batches",
        format!("{batches} of up to {BATCH}, {} each", time(took / batches as u32)),
    );
    story.kept("every batch was acknowledged")
}
