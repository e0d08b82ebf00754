//! `daxite scan`: keys and values in key order.

use std::ops::Bound;

use daxite::{Iter, Key, Keyspace, Value};
use serde::Serialize;

use crate::args::ScanArgs;
use crate::encoding;
use crate::failure::Outcome;
use crate::formats::jsonl::Line;
use crate::key;
use crate::output::{Mode, Out};
use crate::session::Session;
use crate::table::Table;

/// Rows that are aligned with each other on a terminal; so many are held back at a time.
const PAGE_ROWS: usize = 100;

#[derive(Serialize)]
struct Counted {
    count: u64,
}

/// Prints the pairs, or counts them.
pub(crate) fn run(pool: &Session, keyspace: &str, args: &ScanArgs, out: &mut Out) -> Outcome<()> {
    let pairs = select(&pool.keyspace(keyspace)?, args)?;
    let limit = args.limit.unwrap_or(u64::MAX);
    if args.rev {
        walk(pool, pairs.rev(), limit, args, out)
    } else {
        walk(pool, pairs, limit, args, out)
    }
}

fn select(keyspace: &Keyspace, args: &ScanArgs) -> Outcome<Iter> {
    if let Some(prefix) = &args.prefix {
        return Ok(keyspace.prefix(key::parse(prefix)?));
    }
    let bound = |written: &Option<String>| written.as_deref().map(key::parse).transpose();
    let from = bound(&args.from)?.map_or(Bound::Unbounded, Bound::Included);
    let to = bound(&args.to)?.map_or(Bound::Unbounded, Bound::Excluded);
    Ok(keyspace.range((from, to)))
}

fn walk(
    pool: &Session,
    pairs: impl Iterator<Item = daxite::Result<(Key, Value)>>,
    limit: u64,
    args: &ScanArgs,
    out: &mut Out,
) -> Outcome<()> {
    let mut count = 0;
    let mut page = Table::default();
    for pair in pairs {
        if count == limit {
            break;
        }
        let (key, value) = pair.map_err(|error| pool.fail(error))?;
        count += 1;
        if !args.count {
            let value = (!args.keys_only).then_some(&value[..]);
            print(&key, value, &mut page, out)?;
        }
    }
    page.print(out, 0)?;
    match (args.count, out.is_json()) {
        (true, true) => out.object(&Counted { count }),
        (true, false) => out.line(count),
        (false, _) => Ok(()),
    }
}

fn print(key: &[u8], value: Option<&[u8]>, page: &mut Table, out: &mut Out) -> Outcome<()> {
    match (out.mode, value) {
        (Mode::Json, Some(value)) => return out.json_line(&Line::of_key(key).value(value)),
        (Mode::Json, None) => return out.json_line(&Line::of_key(key)),
        (_, None) => return out.line(encoding::escape(key)),
        (Mode::Tsv, Some(value)) => {
            return out.line(format_args!(
                "{}\t{}",
                encoding::escape(key),
                encoding::escape(value)
            ));
        }
        (Mode::Table, Some(value)) => {
            let key = encoding::escape(key);
            page.row([out.paint(anstyle::Style::new().bold(), key), encoding::escape(value)]);
        }
    }
    match page.len() {
        PAGE_ROWS => page.print(out, 0),
        _ => Ok(()),
    }
}
