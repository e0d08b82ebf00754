//! How the demo talks: numbered chapters, short paragraphs, figures with units.
//!
//! Where JSON was asked for it keeps silent and hands out the figures at the end.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::failure::Outcome;
use crate::output::{self, Out};
use crate::table::Table;

/// Columns of a paragraph: what is comfortable to read.
const COLUMNS: usize = 88;

/// The narrator.
pub(crate) struct Story<'a> {
    out: &'a mut Out,
    chapter: u32,
    table: Table,
}

impl<'a> Story<'a> {
    /// A story told to `out`.
    pub(crate) fn new(out: &'a mut Out) -> Self {
        Self { out, chapter: 0, table: Table::default() }
    }

    /// Starts a chapter.
    pub(crate) fn chapter(&mut self, title: &str) -> Outcome<()> {
        self.chapter += 1;
        let title = format!("{}. {title}", self.chapter);
        self.line("")?;
        let title = self.out.paint(AnsiColor::Cyan.on_default().bold(), title);
        self.line(title)
    }

    /// A paragraph.
    pub(crate) fn say(&mut self, text: impl Display) -> Outcome<()> {
        wrapped(&text.to_string(), columns()).into_iter().try_for_each(|line| self.line(line))
    }

    /// A figure. Those that follow each other are aligned.
    pub(crate) fn figure(&mut self, name: &str, value: impl Display) {
        self.table.row([name.to_string(), value.to_string()]);
    }

    /// A promise that was checked, and held.
    pub(crate) fn kept(&mut self, promise: impl Display) -> Outcome<()> {
        let mut sign = self.out.paint(AnsiColor::Green.on_default().bold(), "ok");
        for line in wrapped(&promise.to_string(), columns() - 6) {
            self.line(format_args!("  {sign}  {line}"))?;
            sign = "  ".to_string();
        }
        Ok(())
    }

    /// A line as it is, such as a row of data.
    pub(crate) fn line(&mut self, line: impl Display) -> Outcome<()> {
        if self.out.is_json() {
            return Ok(());
        }
        self.table.print(self.out, 4)?;
        self.out.line(line)?;
        // Someone watches: each line appears when it is said.
        self.out.flush()
    }

    /// A heading within a chapter.
    pub(crate) fn topic(&mut self, title: &str) -> Outcome<()> {
        let title = self.out.paint(Style::new().bold(), title);
        self.line(format_args!("  {title}"))
    }

    /// Lets `print` write rows or pictures of its own.
    pub(crate) fn show(&mut self, print: impl FnOnce(&mut Out) -> Outcome<()>) -> Outcome<()> {
        if self.out.is_json() {
            return Ok(());
        }
        self.table.print(self.out, 4)?;
        print(self.out)
    }

    /// Ends the story, or hands out the figures instead.
    pub(crate) fn end(self, figures: &impl Serialize) -> Outcome<()> {
        match self.out.is_json() {
            true => self.out.object(figures),
            false => Ok(()),
        }
    }
}

/// Columns of a paragraph here.
fn columns() -> usize {
    output::width().min(COLUMNS)
}

/// `text` in lines of at most `columns`, as far as its words are shorter.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
