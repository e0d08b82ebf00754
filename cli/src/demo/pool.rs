//! The first chapter: a pool, and what durability means on it.

use std::fs;
use std::path::{Path, PathBuf};

use daxite::{MediumKind, Options, Persistence};
use tempfile::TempDir;

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::size;

use super::DemoArgs;
use super::story::Story;

/// Where the pool is, and whether it stays.
pub(crate) struct Place {
    /// The file or device.
    pub(crate) path: PathBuf,
    options: Options,
    /// The folder that goes away with the demo.
    folder: Option<TempDir>,
}

impl Place {
    /// The user's choice, or a file in a temporary folder.
    pub(crate) fn choose(args: &DemoArgs) -> Outcome<Self> {
        let options = Options::new().force(args.force);
        match &args.pool {
            None => {
                let folder = TempDir::with_prefix("daxite-demo-").map_err(|error| {
                    Failure::io("make a folder in", &std::env::temp_dir(), &error)
                })?;
                let path = folder.path().join("demo.pool");
                Ok(Self { path, options: options.capacity(args.size), folder: Some(folder) })
            }
            Some(path) => {
                if path.exists() && !args.force {
                    let is_pool = false;
                    let exists = daxite::Error::AlreadyExists { path: path.clone(), is_pool };
                    return Err(Failure::store(path, exists));
                }
                let options = match is_device(path) {
                    true => options,
                    false => options.capacity(args.size),
                };
                Ok(Self { path: path.clone(), options, folder: None })
            }
        }
    }

    /// Whether the pool goes away with the demo.
    pub(crate) fn is_temporary(&self) -> bool {
        self.folder.is_some()
    }
}

fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

/// Makes the pool and tells what it stands on.
pub(crate) fn chapter(place: &Place, story: &mut Story<'_>) -> Outcome<Session> {
    story.chapter("A pool")?;
    let path = &place.path;
    let db = place.options.create(path).map_err(|error| Failure::store(path, error))?;
    let info = db.pool().info();
    story.figure("path", path.display());
    story.figure("size", size::human(info.len_bytes));
    story.figure("medium", info.kind);
    story.figure("persistence", info.persistence);
    story.figure("flush instruction", info.flush_instruction);
    story.say(meaning(info.persistence))?;
    if info.kind == MediumKind::File && place.is_temporary() && Path::new("/dev/shm").is_dir() {
        story.say(
            "To see the speed of memory, without its permanence, run the demo again with \
             `--pool /dev/shm/demo.pool`.",
        )?;
    }
    Ok(Session { path: path.clone(), db })
}

fn meaning(persistence: Persistence) -> &'static str {
    match persistence {
        Persistence::Eadr => {
            "The caches of this machine are part of what survives a power failure: a write is \
             durable when its fence has passed, in well under a microsecond."
        }
        Persistence::CacheFlush => {
            "This is persistent memory: a write is durable when its lines are flushed and the \
             fence has passed, in about a microsecond, without a system call."
        }
        Persistence::Msync => {
            "This is an ordinary file. A write is durable when the kernel has synced it to the \
             disk, which takes longer than everything else together. It is correct and slow; \
             batches share one sync, so bulk work goes in batches."
        }
        Persistence::Volatile => {
            "This is memory that survives the death of a process, but no power failure. It has \
             the speed of persistent memory and not its promise."
        }
        _ => "",
    }
}
