//! `daxite put`, `get` and `del`: one key at a time.

use serde::Serialize;

use crate::args::{DelArgs, GetArgs, PutArgs};
use crate::encoding;
use crate::failure::{Failure, Outcome};
use crate::formats::jsonl::Line;
use crate::key;
use crate::output::{Mode, Out};
use crate::session::Session;

/// Writes a key. Durable when it returns, to the degree that the medium is.
pub(crate) fn put(pool: &Session, keyspace: &str, args: &PutArgs, out: &mut Out) -> Outcome<()> {
    if args.key == "-" && args.value == "-" {
        return Err(Failure::usage("key and value cannot both come from standard input"));
    }
    let (key, value) = (key::parse(&args.key)?, key::parse(&args.value)?);
    let keyspace = pool.keyspace_or_new(keyspace)?;
    keyspace.insert(&key, &value).map_err(|error| pool.fail(error))?;
    match out.is_json() {
        true => out.object(&Line::of_key(&key)),
        false => Ok(()),
    }
}

/// Prints a value: readable on a terminal, the exact bytes to anything else.
pub(crate) fn get(pool: &Session, keyspace: &str, args: &GetArgs, out: &mut Out) -> Outcome<()> {
    let key = key::parse(&args.key)?;
    let found = pool.keyspace(keyspace)?.get(&key).map_err(|error| pool.fail(error))?;
    let value = found.ok_or_else(|| {
        let what = format!("no key {:?} in keyspace {keyspace:?}", key::unparse(&key));
        Failure::negative("KeyNotFound", what).at(&pool.path)
    })?;
    match out.mode {
        Mode::Json => out.object(&Line::of_key(&key).value(&value)),
        Mode::Table => out.line(encoding::escape(&value)),
        Mode::Tsv => out.bytes(&value),
    }
}

#[derive(Serialize)]
struct Removed {
    removed: u64,
    absent: Vec<String>,
}

/// Removes keys. All of them are tried; a key that is not there makes the answer negative.
pub(crate) fn del(pool: &Session, keyspace: &str, args: &DelArgs, out: &mut Out) -> Outcome<()> {
    let keys = args.keys.iter().map(|key| key::parse(key)).collect::<Outcome<Vec<_>>>()?;
    let keyspace = pool.keyspace(keyspace)?;
    let mut answer = Removed { removed: 0, absent: Vec::new() };
    for key in &keys {
        let removed = if args.lost { keyspace.remove_lost(key) } else { keyspace.remove(key) };
        match removed.map_err(|error| pool.fail(error))? {
            true => answer.removed += 1,
            false => answer.absent.push(key::unparse(key)),
        }
    }
    if out.is_json() {
        out.object(&answer)?;
    }
    if answer.absent.is_empty() {
        return Ok(());
    }
    let what = format!("no key {} in keyspace {:?}", quoted(&answer.absent), keyspace.name());
    Err(Failure::negative("KeyNotFound", what).at(&pool.path))
}

fn quoted(keys: &[String]) -> String {
    keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")
}
