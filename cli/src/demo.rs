//! `daxite demo`: the main job of the store in one command, with everything checked.
//!
//! It loads real data, reads it, kills a writer in the middle of its work, recovers, fills a pool
//! to the brim, and tells a person what happened and why it matters. Every claim it prints was
//! checked a moment before; a check that fails ends it with exit code 4. With `--json` the story
//! is left out and the figures come as one object.

mod crash;
mod full;
mod load;
mod pool;
mod read;
mod story;
mod summary;
pub(crate) mod writer;
mod writes;

pub(crate) mod places;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::commands::info::{Dax, Info};
use crate::failure::Outcome;
use crate::output::Out;
use crate::session::{Access, Session};
use crate::size;

use places::Places;
use story::Story;

/// The demo makes a pool of its own in a temporary folder and removes it at the end.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Put the pool here instead, and keep it: a file on DAX or /dev/shm, or a device
    #[arg(long, value_name = "PATH")]
    pub(crate) pool: Option<PathBuf>,
    /// Destroy what is there already
    #[arg(long, requires = "pool")]
    pub(crate) force: bool,
    /// Size of the pool; a device has a size of its own
    #[arg(long, value_parser = size::parse, default_value = "128M")]
    pub(crate) size: u64,
}

/// The figures of a demo.
#[derive(Serialize)]
struct Figures {
    load: load::Figures,
    read: read::Figures,
    crash: crash::Figures,
    full: full::Figures,
    /// The DAX layer of the process that loaded.
    loading: Dax,
    info: Info,
}

/// Tells the whole story.
pub(crate) fn run(args: &DemoArgs, out: &mut Out) -> Outcome<()> {
    let place = pool::Place::choose(args)?;
    let places = Places::unpack()?;
    let mut story = Story::new(out);
    story.say(
        "Daxite keeps keys and values in memory that does not forget: persistent memory, CXL \
         memory, or a file that stands in for it. This demo shows what it promises, on real data, \
         and checks every promise as it goes.",
    )?;

    let session = pool::chapter(&place, &mut story)?;
    let load = load::chapter(&session, &places, &mut story)?;
    let read = read::chapter(&session, &places, &mut story)?;
    let loading = Dax::of(session.db.pool());
    session.close()?;
    let crash = crash::chapter(&place.path, &places, &mut story)?;
    let full = full::chapter(&mut story)?;

    let session = Session::open(&place.path, Access::Read)?;
    let figures = Figures { load, read, crash, full, loading, info: Info::of(&session)? };
    summary::chapter(&session, &figures, &place, &mut story)?;
    session.close()?;
    story.end(&figures)
}
