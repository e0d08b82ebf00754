//! The verbs of the shell: the commands of the command line on a pool that is open.

use std::ffi::OsStr;

use clap::{Parser, Subcommand};

use crate::args::{DelArgs, DumpArgs, GetArgs, LoadArgs, MapArgs, PutArgs, ScanArgs};
use crate::commands::{dump, info, keyspaces, load, map, point, scan};
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::session::Session;

#[derive(Parser)]
#[command(name = "", no_binary_name = true, override_usage = "VERB [ARGUMENTS]")]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

/// What a line can ask for.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Write a key
    Put(PutArgs),
    /// Print the value of a key
    Get(GetArgs),
    /// Remove keys
    Del(DelArgs),
    /// Print keys and values in key order
    Scan(ScanArgs),
    /// Work on another keyspace
    Use {
        /// Its name
        keyspace: String,
    },
    /// List the keyspaces
    Keyspaces,
    /// Show what the pool is, holds and runs on
    Info,
    /// Draw the pool and its volumes, one cell per 2 MiB
    Map(MapArgs),
    /// Read JSON lines or an LMDB text dump
    Load(LoadArgs),
    /// Write an LMDB text dump or JSON lines
    Dump(DumpArgs),
}

/// Names of the verbs, for completion.
pub(crate) const NAMES: [&str; 10] =
    ["del", "dump", "get", "info", "keyspaces", "load", "map", "put", "scan", "use"];

/// The verb that `words` ask for, or the help that they ask for.
pub(crate) fn parse(words: &[String]) -> Outcome<Result<Verb, String>> {
    match Line::try_parse_from(words) {
        Ok(line) => Ok(Ok(line.verb)),
        Err(error) if !error.use_stderr() => Ok(Err(error.to_string())),
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            let what = first.strip_prefix("error: ").unwrap_or(first).to_string();
            Err(Failure::usage(what).hint(".help lists the verbs"))
        }
    }
}

/// Carries out `verb`. `use` is the shell's own.
pub(crate) fn run(verb: Verb, pool: &Session, keyspace: &str, out: &mut Out) -> Outcome<()> {
    match verb {
        Verb::Put(args) => {
            not_stdin([&args.key, &args.value])?;
            point::put(pool, keyspace, &args, out)
        }
        Verb::Get(args) => {
            not_stdin([&args.key])?;
            point::get(pool, keyspace, &args, out)?;
            match out.mode {
                // The exact bytes of a value need a line end before the next answer.
                crate::output::Mode::Tsv => out.bytes(b"\n"),
                _ => Ok(()),
            }
        }
        Verb::Del(args) => {
            not_stdin(&args.keys)?;
            point::del(pool, keyspace, &args, out)
        }
        Verb::Scan(args) => {
            not_stdin([&args.prefix, &args.from, &args.to].into_iter().flatten())?;
            scan::run(pool, keyspace, &args, out)
        }
        Verb::Use { .. } => Ok(()),
        Verb::Keyspaces => keyspaces::run(pool, out),
        Verb::Info => info::run(pool, out),
        Verb::Map(args) => map::run(&pool.layer(), &args, out),
        Verb::Load(args) if args.file.as_os_str() == "-" => {
            Err(Failure::usage("the shell loads from files only").hint("load FILE"))
        }
        Verb::Load(args) => load::run(pool, &args, out),
        Verb::Dump(args) => dump::run(pool, &args, out),
    }
}

/// Standard input is where the lines come from; `-` cannot stand for it here.
fn not_stdin<'a>(words: impl IntoIterator<Item = &'a String>) -> Outcome<()> {
    match words.into_iter().any(|word| OsStr::new(word) == "-") {
        true => Err(Failure::usage("- cannot be read in the shell").hint("write text:-")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn completion_knows_every_verb() {
        let mut verbs: Vec<String> =
            Line::command().get_subcommands().map(|verb| verb.get_name().to_string()).collect();
        verbs.sort();
        assert_eq!(verbs, NAMES);
    }

    #[test]
    fn a_line_is_a_verb_a_question_or_wrong() {
        let words = |line: &str| line.split(' ').map(str::to_string).collect::<Vec<_>>();
        assert!(matches!(parse(&words("put a b")), Ok(Ok(Verb::Put(_)))));
        assert!(matches!(parse(&words("put --help")), Ok(Err(_))));
        assert!(parse(&words("put a")).is_err());
        assert!(parse(&words("fly")).is_err());
    }
}
