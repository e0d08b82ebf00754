//! Paths that no pool can be at. `cli/tests/bad_input.rs` has files with the wrong contents.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use daxite::{Database, Error, Options};
use daxite_tests::test_folder;

use crate::{in_own_process, namespace, skip};

const POOL_BYTES: u64 = 4 << 20;
/// An account without rights, on every Linux.
const NOBODY: u32 = 65534;

fn options() -> Options {
    Options::new().capacity(POOL_BYTES)
}

/// What there is in a folder that may be looked at, and how long it is.
fn look(folder: &Path) -> Option<Vec<(OsString, u64)>> {
    let entry = |entry: fs::DirEntry| Some((entry.file_name(), entry.metadata().ok()?.len()));
    let mut found = fs::read_dir(folder).ok()?.flatten().map(entry).collect::<Option<Vec<_>>>()?;
    found.sort();
    Some(found)
}

type Attempt = fn(&Path) -> Result<(), Error>;

const READING: [(&str, Attempt); 2] = [
    ("open_read_only", |path| options().open_read_only(path).map(drop)),
    ("examine", |path| Database::examine(path).map(drop)),
];
const WRITING: [(&str, Attempt); 2] = [
    ("open", |path| options().open(path).map(drop)),
    ("open_or_create", |path| options().open_or_create(path).map(drop)),
];
const CREATING: [(&str, Attempt); 2] = [
    ("create", |path| options().create(path).map(drop)),
    ("create over it", |path| options().force(true).create(path).map(drop)),
];

/// Panics unless each of `attempts` on `path` is refused, in words that name it and `why`.
#[track_caller]
fn require_refused(path: &Path, attempts: &[(&str, Attempt)], why: &str) {
    let now = || path.parent().and_then(look);
    let before = now();
    for (attempt, act) in attempts {
        let text = act(path).expect_err(attempt).to_string();
        assert!(text.contains(&path.display().to_string()), "{attempt}: {text}");
        assert!(text.contains(why), "{attempt} is refused, but not by {why}: {text}");
        assert_eq!(now(), before, "{attempt}");
    }
}

#[track_caller]
fn require_refused_by_all(path: &Path, why: &str) {
    [READING, WRITING, CREATING].iter().for_each(|attempts| require_refused(path, attempts, why));
}

#[test]
fn what_is_no_file_is_refused_and_left_alone() {
    let folder = test_folder("daxite-host-faults-");
    let inside = |name: &str| folder.path().join(name);
    fs::create_dir(inside("folder")).unwrap();
    require_refused_by_all(&inside("folder"), "it is a directory");
    assert!(Command::new("mkfifo").arg(inside("pipe")).status().unwrap().success());
    require_refused_by_all(&inside("pipe"), "neither a file nor");
    let _socket = UnixListener::bind(inside("socket")).unwrap();
    require_refused_by_all(&inside("socket"), "neither a file nor");
    require_refused_by_all(Path::new("/dev/null"), "not device-dax");
}

#[test]
fn a_name_that_leads_nowhere_is_refused_and_nothing_is_made() {
    let folder = test_folder("daxite-host-faults-");
    let inside = |name: &str| folder.path().join(name);
    symlink("loop", inside("loop")).unwrap();
    require_refused_by_all(&inside("loop"), "symbolic links");
    require_refused_by_all(&inside("missing/pool"), "No such file");
    File::create(inside("file")).unwrap();
    require_refused_by_all(&inside("file/pool"), "Not a directory");
    require_refused_by_all(&inside(&"long".repeat(100)), "too long");
    require_refused_by_all(&inside("a\0b"), "NUL byte");
    require_refused_by_all(Path::new(""), "No such file");
    symlink("nothing", inside("dangling")).unwrap();
    require_refused(&inside("dangling"), &READING, "No such file");
    require_refused(&inside("dangling"), &CREATING, "already exists");
    require_refused(&inside("dangling"), &WRITING[..1], "No such file");
}

#[test]
fn what_may_not_be_reached_is_refused() {
    let folder = test_folder("daxite-host-faults-");
    in_own_process(&format!("paths forbidden {}", folder.path().display()));
    for name in ["secret", "shown"] {
        // To see what is there, and to remove it.
        allow(&folder.path().join(name), 0o700);
        let found = look(&folder.path().join(name)).expect("a folder");
        assert_eq!(found, [("pool".into(), POOL_BYTES)], "something was made");
    }
}

#[test]
fn a_file_system_that_is_read_only_is_only_read() {
    let folder = test_folder("daxite-host-faults-");
    in_own_process(&format!("paths read-only {}", folder.path().display()));
}

/// The part of a process.
pub(crate) fn play(of: &str) {
    match of.split_once(' ').expect("what, and where") {
        ("forbidden", folder) => forbidden(Path::new(folder)),
        ("read-only", folder) => read_only(Path::new(folder)),
        (other, _) => panic!("{other}?"),
    }
}

/// A pool, in a folder of its own.
fn pool(folder: &Path, name: &str) -> PathBuf {
    let folder = folder.join(name);
    fs::create_dir(&folder).unwrap();
    let path = folder.join("pool");
    options().create(&path).unwrap().keyspace("k").unwrap().insert("key", "value").unwrap();
    path
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn forbidden(folder: &Path) {
    allow(folder, 0o755);
    let secret = pool(folder, "secret");
    allow(secret.parent().unwrap(), 0);
    let closed = pool(folder, "closed");
    allow(&closed, 0);
    let shown = pool(folder, "shown");
    allow(&shown, 0o444);
    allow(shown.parent().unwrap(), 0o555);
    // SAFETY: it changes who this process is, and nothing in its memory.
    let is_root = unsafe { libc::geteuid() } == 0;
    // SAFETY: as above.
    assert!(!is_root || unsafe { libc::setuid(NOBODY) } == 0, "root without rights");
    require_refused_by_all(&secret, "Permission denied");
    require_refused_by_all(&secret.with_file_name("new"), "Permission denied");
    require_refused(&closed, &READING, "Permission denied");
    for attempts in [&WRITING, &CREATING] {
        require_refused(&closed, attempts, "read-only");
        require_refused(&shown, attempts, "read-only");
    }
    require_refused(&shown.with_file_name("new"), &CREATING, "Permission denied");
    require_readable(&shown);
}

fn require_readable(path: &Path) {
    let database = Options::new().open_read_only(path).unwrap();
    let keyspace = database.get_keyspace("k").unwrap().expect("the keyspace");
    assert_eq!(keyspace.get("key").unwrap().expect("the pair"), b"value");
    assert!(!Database::examine(path).unwrap().is_damaged());
}

fn read_only(folder: &Path) {
    let path = pool(folder, "mounted");
    let on = path.parent().unwrap();
    let mount = |arguments: &[&str]| {
        let output = Command::new("mount").args(arguments).arg(on).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(()),
            false => Err(std::io::Error::other(said.trim())),
        }
    };
    let bind = ["--bind", on.to_str().expect("a path of plain text")];
    let mounted = namespace::enter()
        .and_then(|()| mount(&bind))
        .and_then(|()| mount(&["-o", "remount,bind,ro"]));
    if let Err(error) = mounted {
        return skip("a read-only file system", error);
    }
    for attempts in [&WRITING, &CREATING[1..]] {
        require_refused(&path, attempts, "Read-only");
    }
    require_refused(&path.with_file_name("new"), &CREATING, "Read-only");
    require_readable(&path);
}
