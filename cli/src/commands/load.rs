//! `daxite load`: records from a file or a pipe into a pool.
//!
//! 1. A batch is atomic, and durable when it is acknowledged.
//! 2. A regular file is read twice: once to check all of it, and only then into the pool. So a
//!    dump that was cut off, or a mistake in the last line, changes nothing.
//! 3. A pipe is read once. What was acknowledged before a mistake stays, and the message says how
//!    much that is.
//! 4. The file as a whole is atomic only where it fits one batch.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::time::{Duration, Instant};

use daxite::{Batch, Keyspace};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::args::LoadArgs;
use crate::failure::{Failure, Outcome};
use crate::formats::{self, Item, Items};
use crate::output::Out;
use crate::progress;
use crate::session::Session;
use crate::size;

/// A batch ends when it takes so much of the log, in bytes: well below what one may take.
const BATCH_BYTES: usize = 256 << 10;

/// What a load has done so far.
#[derive(Serialize, Clone, Copy, Default, Debug)]
pub(crate) struct Loaded {
    /// Records that are durable.
    pub(crate) records: u64,
    /// Batches that carried them.
    pub(crate) batches: u64,
    /// Time that it took.
    pub(crate) duration_ns: u64,
}

/// Loads what the arguments name and says how much it was.
pub(crate) fn run(pool: &Session, args: &LoadArgs, out: &mut Out) -> Outcome<()> {
    let start = Instant::now();
    let (input, bar): (Box<dyn BufRead>, _) = match args.file.as_os_str().to_str() {
        Some("-") => (Box::new(io::stdin().lock()), progress::spinner()),
        _ => open_checked(args)?,
    };
    let input = BufReader::with_capacity(1 << 18, bar.wrap_read(input));
    let items = formats::read(input, &name(&args.file), args.format)?;
    let mut loader = Loader::new(pool, args, &bar);
    let loaded = loader.load(items, &mut |loaded| {
        if args.acks {
            out.line(format_args!("acked {}", loaded.records)).map_err(Failure::loud)?;
            out.flush().map_err(Failure::loud)?;
        }
        Ok(())
    });
    bar.finish_and_clear();
    loaded.map_err(|failure| match loader.loaded.records {
        0 => failure.after("nothing was loaded"),
        some => failure
            .after(format_args!("the {} records before are loaded", size::grouped(some)))
            .field("records", some),
    })?;
    loader.loaded.duration_ns = start.elapsed().as_nanos() as u64;
    print(&loader.loaded, args, out)
}

fn print(loaded: &Loaded, args: &LoadArgs, out: &mut Out) -> Outcome<()> {
    if args.acks {
        return Ok(());
    }
    if out.is_json() {
        return out.object(loaded);
    }
    let time = Duration::from_nanos(loaded.duration_ns);
    out.line(format_args!(
        "loaded {} in {}, {} ({} per second)",
        size::counted(loaded.records, "record", "records"),
        size::counted(loaded.batches, "batch", "batches"),
        size::time(time),
        size::grouped(size::per_second(loaded.records, time)),
    ))
}

fn name(file: &Path) -> String {
    match file.to_str() {
        Some("-") => "standard input".to_string(),
        _ => file.display().to_string(),
    }
}

/// Opens the file and, if it can be read twice, checks all of it.
fn open_checked(args: &LoadArgs) -> Outcome<(Box<dyn BufRead>, ProgressBar)> {
    let fail = |op, error: io::Error| Failure::io(op, &args.file, &error);
    let mut file = File::open(&args.file).map_err(|error| fail("open", error))?;
    let found = file.metadata().map_err(|error| fail("look at", error))?;
    if found.is_dir() {
        return Err(fail("read", io::ErrorKind::IsADirectory.into()).hint("name a file"));
    }
    if !found.is_file() {
        return Ok((Box::new(BufReader::new(file)), progress::spinner()));
    }
    let input = BufReader::with_capacity(1 << 18, Read::by_ref(&mut file));
    for item in formats::read(input, &name(&args.file), args.format)
        .map_err(|failure| failure.after("nothing was loaded"))?
    {
        item.map_err(|failure| failure.after("nothing was loaded"))?;
    }
    file.rewind().map_err(|error| fail("rewind", error))?;
    Ok((Box::new(BufReader::new(file)), progress::bytes(found.len())))
}

/// Puts records into a pool, batch by batch.
pub(crate) struct Loader<'a> {
    pool: &'a Session,
    default_keyspace: &'a str,
    batch_records: usize,
    batch_bytes: usize,
    bar: &'a ProgressBar,
    keyspaces: HashMap<String, Keyspace>,
    batch: Batch,
    /// What is durable.
    pub(crate) loaded: Loaded,
}

impl<'a> Loader<'a> {
    /// A loader into `pool`; the bar's message is kept up to date.
    pub(crate) fn new(pool: &'a Session, args: &'a LoadArgs, bar: &'a ProgressBar) -> Self {
        Self {
            pool,
            default_keyspace: &args.ks,
            batch_records: usize::from(args.batch),
            // A batch is one piece of the log; in a small pool there are only small pieces.
            batch_bytes: BATCH_BYTES.min(pool.db.stats().capacity_bytes as usize / 64),
            bar,
            keyspaces: HashMap::new(),
            batch: pool.db.batch(),
            loaded: Loaded::default(),
        }
    }

    /// Loads `items` and calls `acked` after each batch, when it is durable.
    pub(crate) fn load(
        &mut self,
        items: Items<'_>,
        acked: &mut dyn FnMut(&Loaded) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut keyspace = None;
        for item in items {
            match item? {
                Item::Keyspace(name) => keyspace = Some(self.keyspace(name)?),
                Item::Pair { key, value } => {
                    let keyspace = match &keyspace {
                        Some(keyspace) => keyspace,
                        None => keyspace.insert(self.keyspace(None)?),
                    };
                    if self.batch.len_bytes() + key.len() + value.len() > self.batch_bytes {
                        self.commit(acked)?;
                    }
                    self.batch.insert(keyspace, key, value);
                    if self.batch.len() >= self.batch_records {
                        self.commit(acked)?;
                    }
                }
            }
        }
        self.commit(acked)
    }

    fn commit(&mut self, acked: &mut dyn FnMut(&Loaded) -> Outcome<()>) -> Outcome<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, self.pool.db.batch());
        let records = batch.len() as u64;
        batch.commit().map_err(|error| self.pool.fail(error))?;
        self.loaded.records += records;
        self.loaded.batches += 1;
        self.bar.set_message(format!("{} durable", size::grouped(self.loaded.records)));
        acked(&self.loaded)
    }

    fn keyspace(&mut self, name: Option<String>) -> Outcome<Keyspace> {
        let name = name.unwrap_or_else(|| self.default_keyspace.to_string());
        if let Some(known) = self.keyspaces.get(&name) {
            return Ok(known.clone());
        }
        let keyspace = self.pool.keyspace_or_new(&name)?;
        self.keyspaces.insert(name, keyspace.clone());
        Ok(keyspace)
    }
}
