//! Where the lines typed earlier are kept: a file that only its owner can read.
//!
//! `DAXITE_HISTFILE` names another file; set and empty, it keeps no history. By default it is
//! `daxite/history` in `XDG_STATE_HOME`, else in `~/.local/state`.

use std::env;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The history file, made if it is not there; `None` where there is none to be had.
pub(crate) fn open() -> Option<PathBuf> {
    let path = place()?;
    fs::create_dir_all(path.parent()?).ok()?;
    OpenOptions::new().append(true).create(true).mode(0o600).open(&path).ok()?;
    Some(path)
}

fn place() -> Option<PathBuf> {
    if let Some(named) = env::var_os("DAXITE_HISTFILE") {
        return (!named.is_empty()).then(|| PathBuf::from(named));
    }
    let state = match env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()) {
        Some(state) => PathBuf::from(state),
        None => PathBuf::from(env::var_os("HOME")?).join(".local/state"),
    };
    Some(state.join("daxite/history"))
}
