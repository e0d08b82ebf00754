//! The commands, one file each. Those that the shell has too take an open [`Session`] and their
//! own arguments; this file opens the pool for them.

pub(crate) mod bad_pages;
pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod dump;
pub(crate) mod info;
pub(crate) mod keyspaces;
pub(crate) mod load;
pub(crate) mod map;
pub(crate) mod point;
pub(crate) mod scan;
pub(crate) mod scrub;
pub(crate) mod shell;

use crate::args::Command;
use crate::demo;
use crate::failure::Outcome;
use crate::output::Out;
use crate::session::{Access, Layer, Session};

/// Carries out `command`.
pub(crate) fn run(command: Command, out: &mut Out) -> Outcome<()> {
    use Access::{Read, Write};
    match command {
        Command::Create(args) => create::run(&args, out),
        Command::Info(pool) => Session::run(&pool.path, Read, |pool| info::run(pool, out)),
        Command::Check(pool) => check::run(&pool.path, out),
        Command::Scrub { pool, scrub } => {
            Session::run(&pool.path, Write, |pool| scrub::run(pool, &scrub, out))
        }
        Command::Map { pool, map } => map::run(&Layer::open(&pool.path)?, &map, out),
        Command::Keyspaces(pool) => {
            Session::run(&pool.path, Read, |pool| keyspaces::run(pool, out))
        }
        Command::Put { place, put } => Session::run(&place.pool.path, Write, |pool| {
            point::put(pool, &place.keyspace, &put, out)
        }),
        Command::Get { place, get } => Session::run(&place.pool.path, Read, |pool| {
            point::get(pool, &place.keyspace, &get, out)
        }),
        Command::Del { place, del } => Session::run(&place.pool.path, Write, |pool| {
            point::del(pool, &place.keyspace, &del, out)
        }),
        Command::Scan { place, scan } => Session::run(&place.pool.path, Read, |pool| {
            scan::run(pool, &place.keyspace, &scan, out)
        }),
        Command::Load { pool, load } => {
            Session::run(&pool.path, Write, |pool| load::run(pool, &load, out))
        }
        Command::Dump { pool, dump } => {
            Session::run(&pool.path, Read, |pool| dump::run(pool, &dump, out))
        }
        Command::Shell(args) => shell::run(&args, out),
        Command::Demo(args) => demo::run(&args, out),
        Command::DemoWriter(args) => demo::writer::run(&args),
    }
}
