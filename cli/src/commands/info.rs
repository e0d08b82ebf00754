//! `daxite info`: what a pool is, holds and runs on.
//!
//! Figures of the medium come from the pool, figures of faults and entries from the counters of
//! this opening. A pipe gets the same names as JSON, one `name<TAB>value` per line.

mod dax;
mod report;
mod text;
mod volumes;

use serde_json::Value;

use crate::failure::Outcome;
use crate::output::{Mode, Out, SCHEMA};
use crate::session::Session;

pub(crate) use dax::dax_rows;
pub(crate) use report::{Dax, Info};

/// Prints the report.
pub(crate) fn run(pool: &Session, out: &mut Out) -> Outcome<()> {
    let info = Info::of(pool)?;
    match out.mode {
        Mode::Json => out.object(&info),
        Mode::Table => text::print(&info, out),
        Mode::Tsv => {
            out.line(format_args!("schema\t{SCHEMA}"))?;
            let tree = serde_json::to_value(&info).expect("a report has only text keys");
            flatten("", &tree, out)
        }
    }
}

/// Prints the leaves of `tree`, each with the path that leads to it.
fn flatten(path: &str, tree: &Value, out: &mut Out) -> Outcome<()> {
    let below = |name: &str| match path {
        "" => name.to_string(),
        path => format!("{path}.{name}"),
    };
    match tree {
        Value::Object(fields) => {
            fields.iter().try_for_each(|(name, value)| flatten(&below(name), value, out))
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, value)| flatten(&below(&at.to_string()), value, out)),
        Value::String(text) => {
            out.line(format_args!("{path}\t{}", crate::encoding::escape(text.as_bytes())))
        }
        Value::Null => out.line(format_args!("{path}\t")),
        other => out.line(format_args!("{path}\t{other}")),
    }
}
