//! `daxite create`: makes a pool.

use std::io;
use std::path::Path;

use daxite::Options;
use serde::Serialize;

use crate::args::CreateArgs;
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::size;

#[derive(Serialize)]
struct Created {
    path: String,
    capacity_bytes: u64,
    medium: String,
    persistence: String,
}

/// Makes the pool and says what it stands on.
pub(crate) fn run(args: &CreateArgs, out: &mut Out) -> Outcome<()> {
    let path = &args.pool.path;
    if path.is_dir() {
        let error = io::ErrorKind::IsADirectory.into();
        return Err(Failure::io("create", path, &error));
    }
    if path.parent().is_some_and(|folder| folder != "" && !folder.is_dir()) {
        let error = io::ErrorKind::NotFound.into();
        return Err(Failure::io("create", path, &error).hint("its folder is not there"));
    }
    let mut options = Options::new().force(args.force).require_dax(args.require_dax);
    match args.size {
        Some(size) => options = options.capacity(size),
        None if !path.exists() => {
            return Err(Failure::usage("a new file needs a size").at(path).hint("--size 1G"));
        }
        None => {}
    }
    let db = options.create(path).map_err(|error| Failure::store(path, error))?;
    let info = db.pool().info();
    let created = Created {
        path: path.display().to_string(),
        capacity_bytes: info.len_bytes,
        medium: info.kind.to_string(),
        persistence: info.persistence.to_string(),
    };
    db.close().map_err(|error| Failure::store(path, error))?;
    print(path, &created, out)
}

fn print(path: &Path, created: &Created, out: &mut Out) -> Outcome<()> {
    if out.is_json() {
        return out.object(created);
    }
    out.line(format_args!(
        "created {}: {} on {}, persistence {}",
        path.display(),
        size::human(created.capacity_bytes),
        created.medium,
        created.persistence,
    ))
}
