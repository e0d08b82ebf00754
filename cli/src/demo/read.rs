//! The third chapter: point reads and the ordered scan, both compared with the data.

use std::time::Instant;

use serde::Serialize;

use crate::encoding::escape;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::size::{grouped, per_second, time};

use super::load::PLACES;
use super::places::Places;
use super::story::Story;
use super::writes::Random;

/// Point reads that are timed.
const READS: u32 = 200_000;
/// A country with few enough places to look at.
const COUNTRY: &str = "IS/";

/// What reading took.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) point_reads: u64,
    pub(crate) point_reads_duration_ns: u64,
    pub(crate) scanned: u64,
    pub(crate) scan_duration_ns: u64,
}

/// Reads and compares.
pub(crate) fn chapter(pool: &Session, places: &Places, story: &mut Story<'_>) -> Outcome<Figures> {
    story.chapter("Read it back")?;
    story.say(
        "A read hands out the bytes where they lie, without a copy and without a system call. A \
         scan goes in the order of the keys, so places of one country stand together.",
    )?;
    let point_reads_duration_ns = point_reads(pool, places, story)?;
    let scan_duration_ns = scan(pool, places, story)?;
    sample(pool, story)?;
    let scanned = places.pairs.len() as u64;
    Ok(Figures {
        point_reads: u64::from(READS),
        point_reads_duration_ns,
        scanned,
        scan_duration_ns,
    })
}

fn point_reads(pool: &Session, places: &Places, story: &mut Story<'_>) -> Outcome<u64> {
    let keyspace = pool.keyspace(PLACES)?;
    let mut random = Random::new(7);
    let start = Instant::now();
    for _ in 0..READS {
        let (key, value) = &places.pairs[random.below(places.pairs.len() as u64) as usize];
        let equal =
            keyspace.get_with(key, |found| found == value).map_err(|error| pool.fail(error))?;
        if equal != Some(true) {
            let what = format!("the value of {:?} is not the one that was written", escape(key));
            return Err(Failure::broken_promise(what));
        }
    }
    let took = start.elapsed();
    story.figure(
        "random point reads",
        format!(
            "{} per second, {} each",
            grouped(per_second(READS.into(), took)),
            time(took / READS)
        ),
    );
    Ok(took.as_nanos() as u64)
}

fn scan(pool: &Session, places: &Places, story: &mut Story<'_>) -> Outcome<u64> {
    let start = Instant::now();
    compare(pool, places)?;
    let took = start.elapsed();
    let count = places.pairs.len() as u64;
    story.figure("ordered scan", format!("{} pairs per second", grouped(per_second(count, took))));
    story.kept(format_args!(
        "{} random reads gave the value that was written; a scan gave all {} pairs in key order",
        grouped(READS.into()),
        grouped(count)
    ))?;
    Ok(took.as_nanos() as u64)
}

/// Scans the places and compares each pair with the data.
pub(crate) fn compare(pool: &Session, places: &Places) -> Outcome<()> {
    let keyspace = pool.keyspace(PLACES)?;
    let mut found = keyspace.iter();
    for (at, (key, value)) in places.in_key_order().into_iter().enumerate() {
        let pair = found.next().transpose().map_err(|error| pool.fail(error))?;
        if !pair.is_some_and(|(k, v)| *k == **key && *v == **value) {
            let what = format!("pair {at} of the scan is not {:?}", escape(key));
            return Err(Failure::broken_promise(what));
        }
    }
    match found.next() {
        None => Ok(()),
        Some(_) => Err(Failure::broken_promise("the scan gives pairs that nobody wrote")),
    }
}

fn sample(pool: &Session, story: &mut Story<'_>) -> Outcome<()> {
    story.topic(&format!("the first places of Iceland, scan --prefix {COUNTRY}"))?;
    for pair in pool.keyspace(PLACES)?.prefix(COUNTRY).take(4) {
        let (key, value) = pair.map_err(|error| pool.fail(error))?;
        story.figure(&escape(&key), escape(&value));
    }
    Ok(())
}
