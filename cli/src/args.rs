//! What can be written on the command line.
//!
//! Every command names its pool first; the commands on keys then name keyspace and key, in this
//! order: `daxite put PATH KEYSPACE KEY VALUE`. The arguments behind PATH and KEYSPACE are structs
//! of their own, because the shell takes the same ones.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::demo::DemoArgs;
use crate::demo::writer::WriterArgs;
use crate::output::Color;
use crate::size;

/// The keyspace of records that name none.
pub(crate) const DEFAULT_KEYSPACE: &str = "main";

/// A key-value store in byte-addressable memory, from the command line.
///
/// Keys and values are text; hex:00ff, b64:AP8=, @file and - (standard input) stand for bytes, and
/// text:… for text that looks like one of these.
///
/// Exit codes: 0 done, 1 no such key, 2 wrong usage, 3 cannot open or read, 4 damaged pool,
/// 5 pool full.
#[derive(Parser)]
#[command(name = "daxite", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print JSON: one object, or one object per line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to colour the output (NO_COLOR is honoured)
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a pool
    Create(CreateArgs),
    /// Show what a pool is, holds and runs on
    Info(PoolArg),
    /// Look for damage, and name all of it
    Check(PoolArg),
    /// Read all of the log, and name what is lost
    Scrub {
        #[command(flatten)]
        pool: PoolArg,
        #[command(flatten)]
        scrub: ScrubArgs,
    },
    /// Draw a pool and its volumes, one cell per 2 MiB
    Map {
        #[command(flatten)]
        pool: PoolArg,
        #[command(flatten)]
        map: MapArgs,
    },
    /// List the keyspaces
    Keyspaces(PoolArg),
    /// Write a key
    Put {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        put: PutArgs,
    },
    /// Print the value of a key
    Get {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        get: GetArgs,
    },
    /// Remove keys
    Del {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        del: DelArgs,
    },
    /// Print keys and values in key order
    Scan {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        scan: ScanArgs,
    },
    /// Read JSON lines or an LMDB text dump into a pool
    Load {
        #[command(flatten)]
        pool: PoolArg,
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Write a pool as an LMDB text dump or JSON lines
    Dump {
        #[command(flatten)]
        pool: PoolArg,
        #[command(flatten)]
        dump: DumpArgs,
    },
    /// Work on a pool interactively, or from a script on standard input
    Shell(ShellArgs),
    /// See it work on real data, with a kill -9 in the middle
    Demo(DemoArgs),
    /// The process that the demo kills
    #[command(name = "demo-writer", hide = true)]
    DemoWriter(WriterArgs),
}

/// The pool that a command works on.
#[derive(Args)]
pub(crate) struct PoolArg {
    /// The file or device that holds the pool
    pub(crate) path: PathBuf,
}

/// The keyspace that a command works on.
#[derive(Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) pool: PoolArg,
    /// The keyspace
    pub(crate) keyspace: String,
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArg,
    /// Size of the pool, such as 512M or 8G; a device has a size of its own
    #[arg(long, value_parser = size::parse)]
    pub(crate) size: Option<u64>,
    /// Destroy what is there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Refuse a medium that is not persistent memory
    #[arg(long)]
    pub(crate) require_dax: bool,
}

#[derive(Args)]
pub(crate) struct ScrubArgs {
    /// Let pages be used again that are listed as bad and can be read again
    #[arg(long)]
    pub(crate) forget_healed: bool,
}

#[derive(Args)]
pub(crate) struct MapArgs {
    /// Cells per line; by default as many as fit
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) width: Option<u16>,
}

#[derive(Args)]
pub(crate) struct PutArgs {
    /// The key
    #[arg(allow_hyphen_values = true)]
    pub(crate) key: String,
    /// The value
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
}

#[derive(Args)]
pub(crate) struct GetArgs {
    /// The key
    #[arg(allow_hyphen_values = true)]
    pub(crate) key: String,
}

#[derive(Args)]
pub(crate) struct DelArgs {
    /// The keys
    #[arg(required = true)]
    pub(crate) keys: Vec<String>,
    /// Remove keys whose records cannot be read: a media error
    #[arg(long)]
    pub(crate) lost: bool,
}

#[derive(Args)]
pub(crate) struct ScanArgs {
    /// Only keys that start so
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<String>,
    /// Only keys from this one on
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Only keys before this one
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Last key first
    #[arg(long)]
    pub(crate) rev: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Keys without values
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Only how many there are
    #[arg(long, conflicts_with = "keys_only")]
    pub(crate) count: bool,
}

/// How a file of records is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Format {
    /// The text format of LMDB's mdb_dump and mdb_load
    Lmdb,
    /// One JSON object per line, with key and value
    Jsonl,
}

/// How a file of records is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReadFormat {
    /// Tell by the first line
    Auto,
    /// The text format of LMDB's mdb_dump and mdb_load
    Lmdb,
    /// One JSON object per line, with key and value
    Jsonl,
}

/// A batch is atomic and durable when it is acknowledged. A file is checked as a whole before the
/// first batch, so a damaged one changes nothing; from a pipe, batches before the damage stay.
#[derive(Args)]
pub(crate) struct LoadArgs {
    /// What to read; - is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Keyspace of the records that name none
    #[arg(long, default_value = DEFAULT_KEYSPACE, value_name = "NAME")]
    pub(crate) ks: String,
    /// How the input is written
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) format: ReadFormat,
    /// Records per batch; a batch also ends when it grows large
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,
    /// Print `acked N` when N records in all are durable, one line per batch
    #[arg(long)]
    pub(crate) acks: bool,
}

#[derive(Args)]
pub(crate) struct DumpArgs {
    /// Only this keyspace
    #[arg(long, value_name = "NAME")]
    pub(crate) ks: Option<String>,
    /// How to write
    #[arg(long, value_enum, default_value = "lmdb")]
    pub(crate) format: Format,
    /// Where to write, instead of standard output; replaced only by a complete dump
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ShellArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArg,
    /// Keyspace to start in
    #[arg(long, default_value = DEFAULT_KEYSPACE, value_name = "NAME")]
    pub(crate) ks: String,
    /// Only read
    #[arg(long)]
    pub(crate) read_only: bool,
}
