//! `daxite`: pools from the command line.
//!
//! `args` says what can be written, `commands` does it, `failure` says what went wrong, and
//! `output` decides in which form results are printed. Nothing here knows more of a pool than the
//! public API of the library tells everyone.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod demo;
mod encoding;
mod failure;
mod formats;
mod key;
mod output;
mod progress;
mod session;
mod size;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use failure::Failure;
use output::Out;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::new(cli.json, cli.color);
    // The process is ours. Where that is not to be had, a bad page ends it, and that is safe.
    let _ = daxite::install_sigbus_handler();
    let done = commands::run(cli.command, &mut out);
    // What was printed before a failure is printed all the same.
    let flushed = out.flush();
    match done.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure, out.is_json());
            ExitCode::from(failure.code())
        }
    }
}

/// Tells standard error why the command ended early.
fn report(failure: &Failure, json: bool) {
    if failure.is_broken_pipe() {
        return;
    }
    if json {
        eprintln!("{}", failure.to_json());
    } else {
        eprintln!("daxite: {failure}");
    }
}
