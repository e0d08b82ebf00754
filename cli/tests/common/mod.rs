//! Running the program, and looking at what it says.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder for pools. `DAXITE_TEST_DIR` chooses where; otherwise it is memory if there is any.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let parent = std::env::var_os("DAXITE_TEST_DIR").map(PathBuf::from).unwrap_or_else(|| {
            let memory = Path::new("/dev/shm");
            if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() }
        });
        Self(TempDir::with_prefix_in("daxite-cli-", parent).expect("a folder for the test"))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path of plain text").to_string()
    }

    /// A new pool of `size`.
    pub(crate) fn pool(&self, name: &str, size: &str) -> String {
        let path = self.path(name);
        daxite(["create", &path, "--size", size]).ok();
        path
    }

    /// A file with `text` in it.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("writing a file of the test");
        path
    }
}

/// What a run of the program left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    what: String,
}

impl Run {
    /// The standard output of a run that must have gone well.
    #[track_caller]
    pub(crate) fn ok(&self) -> String {
        self.exit(0).stdout.clone().try_into().expect("output in UTF-8")
    }

    /// The JSON lines of a run that must have gone well.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The run itself, which must have ended with `code`.
    #[track_caller]
    pub(crate) fn exit(&self, code: i32) -> &Self {
        assert_eq!(
            self.code,
            code,
            "daxite {}\nstdout: {}\nstderr: {}",
            self.what,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// The run itself, whose standard error must contain `text`.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> &Self {
        assert!(self.stderr.contains(text), "daxite {}\nstderr: {}", self.what, self.stderr);
        self
    }
}

/// A command for the program, with an environment that does not depend on who runs the test.
pub(crate) fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daxite"));
    command.args(args).env_remove("NO_COLOR").env_remove("COLUMNS").stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn daxite(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
    let mut command = command(args);
    let what = what(&command);
    done(what, command.output().expect("starting daxite"))
}

/// Runs the program with `input` on its standard input.
pub(crate) fn daxite_with(input: &[u8], args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
    let mut command = command(args);
    let what = what(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starting daxite");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        // It may stop reading when it finds a mistake; that is no failure of the test.
        scope.spawn(move || stdin.write_all(input).and_then(|()| stdin.flush()).ok());
        done(what, child.wait_with_output().expect("waiting for daxite"))
    })
}

fn what(command: &Command) -> String {
    command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn done(what: String, output: Output) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        what,
    }
}
