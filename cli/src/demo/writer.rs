//! The process that the demo kills: it writes for ever, and acknowledges each write on standard
//! output once the store has said that it is durable.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::session::{Access, Session};

use super::writes;

#[derive(Args)]
pub(crate) struct WriterArgs {
    /// The pool
    #[arg(long)]
    pub(crate) pool: PathBuf,
    /// What the writes are made of
    #[arg(long)]
    pub(crate) seed: u64,
}

/// Writes until it is killed, or nobody reads any more.
pub(crate) fn run(args: &WriterArgs) -> Outcome<()> {
    Session::run(&args.pool, Access::Write, |pool| {
        let keyspace = pool.keyspace_or_new(writes::KEYSPACE)?;
        let mut acks = io::stdout().lock();
        for seq in 0.. {
            let (key, value) = (writes::key(args.seed, seq), writes::value(args.seed, seq));
            keyspace.insert(&key, value).map_err(|error| pool.fail(error))?;
            writeln!(acks, "{seq}").map_err(|error| Failure::stdout(&error))?;
        }
        Ok(())
    })
}
