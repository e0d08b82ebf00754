//! Standard output: who reads it, and in which form.
//!
//! A terminal gets aligned tables and colour, a pipe gets tab-separated values, and whoever asks
//! gets JSON. Nothing else in the program looks at the terminal.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Write};

use anstyle::Style;
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// The version of the JSON that the commands print; its top-level objects carry it.
pub(crate) const SCHEMA: u32 = 1;

/// The form in which results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Mode {
    /// For people.
    Table,
    /// For programs that split lines.
    Tsv,
    /// For programs that parse.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Standard output.
pub(crate) struct Out {
    sink: BufWriter<Box<dyn Write>>,
    /// The form of what is printed.
    pub(crate) mode: Mode,
    colored: bool,
}

/// A JSON object as the commands print it: `schema` first, then the fields of `body`.
#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl Out {
    /// Standard output in the form that suits whoever reads it.
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let terminal = io::stdout().is_terminal();
        let mode = match (json, terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Table,
            (false, false) => Mode::Tsv,
        };
        let colored = match color {
            Color::Auto => terminal && !plain_wanted(),
            Color::Always => true,
            Color::Never => false,
        };
        Self { sink: BufWriter::with_capacity(1 << 16, Box::new(io::stdout())), mode, colored }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.mode == Mode::Json
    }

    /// One line of text.
    pub(crate) fn line(&mut self, text: impl Display) -> Outcome<()> {
        writeln!(self.sink, "{text}").map_err(|error| Failure::stdout(&error))
    }

    /// Bytes as they are, without a line end.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.sink.write_all(bytes).map_err(|error| Failure::stdout(&error))
    }

    /// One JSON object on a line of its own, with its schema version.
    pub(crate) fn object(&mut self, body: &impl Serialize) -> Outcome<()> {
        self.json_line(&Envelope { schema: SCHEMA, body })
    }

    /// One item of a stream of JSON lines.
    pub(crate) fn json_line(&mut self, item: &impl Serialize) -> Outcome<()> {
        serde_json::to_writer(&mut self.sink, item)
            .map_err(|error| Failure::stdout(&error.into()))?;
        self.bytes(b"\n")
    }

    /// Hands everything to the reader.
    pub(crate) fn flush(&mut self) -> Outcome<()> {
        self.sink.flush().map_err(|error| Failure::stdout(&error))
    }

    /// `text` in `style`, if colour is wanted.
    pub(crate) fn paint(&self, style: Style, text: impl Display) -> String {
        match self.colored {
            true => format!("{style}{text}{style:#}"),
            false => text.to_string(),
        }
    }

    /// A heading of a section.
    pub(crate) fn heading(&mut self, title: &str) -> Outcome<()> {
        let title = self.paint(Style::new().bold(), title);
        self.line(title)
    }
}

/// Columns of the terminal, or what fits a mail where there is none.
pub(crate) fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(columns, _)| usize::from(columns.0));
    columns.or_else(terminal).unwrap_or(80).clamp(20, 240)
}

fn plain_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
