//! `daxite shell`: one pool, many commands.
//!
//! The verbs are those of the command line without PATH and KEYSPACE; words that start with a dot
//! are about the shell itself. On a terminal the shell edits lines, keeps a history and completes
//! verbs, keyspaces and keys. Anything else on standard input is a script, which stops at the
//! first failure and ends with its exit code.

mod complete;
mod history;
mod verbs;
mod words;

use std::io::{self, BufRead, IsTerminal};
use std::time::Instant;

use rustyline::error::ReadlineError;
use rustyline::{Config, Editor, history::FileHistory};

use crate::args::ShellArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{Mode, Out};
use crate::session::{Access, Session};
use crate::size;

use complete::Completion;
use verbs::Verb;

/// What the shell remembers between two lines.
struct Shell<'a> {
    pool: &'a Session,
    keyspace: String,
    timer: bool,
    out: &'a mut Out,
}

/// Whether there is a next line to read.
#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Quit,
}

/// Opens the pool and works on it until the input ends.
pub(crate) fn run(args: &ShellArgs, out: &mut Out) -> Outcome<()> {
    let access = if args.read_only { Access::Read } else { Access::Write };
    Session::run(&args.pool.path, access, |pool| {
        let keyspace = args.ks.clone();
        let mut shell = Shell { pool, keyspace, timer: false, out };
        match io::stdin().is_terminal() {
            true => shell.interactive(),
            false => shell.script(io::stdin().lock()),
        }
    })
}

impl Shell<'_> {
    fn script(&mut self, input: impl BufRead) -> Outcome<()> {
        for (at, line) in input.lines().enumerate() {
            let line =
                line.map_err(|error| Failure::io("read", "standard input".as_ref(), &error))?;
            let next = self.line(&line).map_err(|failure| match failure.is_broken_pipe() {
                true => failure,
                false => failure.after(format_args!("in line {} of the script", at + 1)),
            })?;
            // Whoever writes the script may wait for an answer before the next line.
            self.out.flush()?;
            if next == Next::Quit {
                break;
            }
        }
        Ok(())
    }

    fn interactive(&mut self) -> Outcome<()> {
        let config = Config::builder().auto_add_history(true).build();
        let mut editor: Editor<Completion, FileHistory> =
            Editor::with_config(config).map_err(|error| terminal(&error))?;
        editor.set_helper(Some(Completion::new(self.pool.db.clone())));
        let history = history::open();
        if let Some(path) = &history {
            let _ = editor.load_history(path);
        }
        self.out.line(format_args!(
            "{}: {}. Type .help for help, .quit to leave.",
            self.pool.path.display(),
            size::counted(self.pool.db.keyspaces().len() as u64, "keyspace", "keyspaces"),
        ))?;
        let done = self.converse(&mut editor);
        if let Some(path) = &history {
            let _ = editor.save_history(path);
        }
        done
    }

    fn converse(&mut self, editor: &mut Editor<Completion, FileHistory>) -> Outcome<()> {
        loop {
            self.out.flush()?;
            if let Some(completion) = editor.helper_mut() {
                completion.keyspace.clone_from(&self.keyspace);
            }
            match editor.readline(&format!("{}> ", self.keyspace)) {
                Ok(line) => match self.line(&line) {
                    Ok(Next::Line) => {}
                    Ok(Next::Quit) => return Ok(()),
                    Err(failure) => {
                        self.out.flush()?;
                        eprintln!("{failure}");
                    }
                },
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(terminal(&error)),
            }
        }
    }

    /// Carries out one line.
    fn line(&mut self, line: &str) -> Outcome<Next> {
        let words = words::split(line).map_err(Failure::usage)?;
        let Some(first) = words.first() else { return Ok(Next::Line) };
        if first.starts_with('#') {
            return Ok(Next::Line);
        }
        if first.starts_with('.') {
            return self.setting(&words);
        }
        let start = Instant::now();
        match verbs::parse(&words)? {
            Ok(Verb::Use { keyspace }) => self.keyspace = keyspace,
            Ok(verb) => verbs::run(verb, self.pool, &self.keyspace, self.out)?,
            Err(help) => self.out.line(help.trim_end())?,
        }
        if self.timer {
            self.out.flush()?;
            eprintln!("took {}", size::time(start.elapsed()));
        }
        Ok(Next::Line)
    }

    /// Carries out a line about the shell itself.
    fn setting(&mut self, words: &[String]) -> Outcome<Next> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            [".quit" | ".exit"] => return Ok(Next::Quit),
            [".help"] => self.out.line(HELP)?,
            [".mode", "table"] => self.out.mode = Mode::Table,
            [".mode", "tsv"] => self.out.mode = Mode::Tsv,
            [".mode", "json"] => self.out.mode = Mode::Json,
            [".timer", "on"] => self.timer = true,
            [".timer", "off"] => self.timer = false,
            _ => {
                let what = format!("not a setting: {}", words.join(" "));
                return Err(Failure::usage(what).hint(".help lists them"));
            }
        }
        Ok(Next::Line)
    }
}

fn terminal(error: &ReadlineError) -> Failure {
    Failure::io("use", "the terminal".as_ref(), &io::Error::other(error.to_string()))
}

const HELP: &str = "\
put KEY VALUE           write a key
get KEY                 print its value
del KEY...              remove keys
scan [--prefix P | --from A --to B] [--rev] [--limit N] [--keys-only | --count]
use KEYSPACE            work on another keyspace; the first put makes it
keyspaces               list them
info, map               show the pool and its volumes
load FILE, dump         as on the command line
VERB --help             more about a verb

.mode table|tsv|json    how results are printed
.timer on|off           print how long each line takes
.quit                   leave

Keys and values: text, hex:00ff, b64:AP8=, @file, text:… for text that looks like one of these.
Words are split at spaces; 'single quotes' keep everything, \"double quotes\" know \\\" and \\\\.";
