//! Tests that do to their process what no other test in it could bear: limits, other users, forks.
//!
//! A test starts its own binary again, for itself alone, and waits.

use std::io::Write;
use std::process::Command;

/// In the process that a test started for itself: the name of the test.
const TEST: &str = "DAXITE_TEST_IN_OWN_PROCESS";

/// Runs `act` in a process that runs nothing else. `test` is the full name of the calling test.
///
/// # Panics
/// If `act` does, or the process dies of a signal.
pub fn in_own_process(test: &str, act: impl FnOnce()) {
    if std::env::var(TEST).is_ok_and(|running| running == test) {
        return act();
    }
    let binary = std::env::current_exe().expect("the binary of the test");
    let mut command = Command::new(binary);
    command.args([test, "--exact", "--include-ignored", "--nocapture"]).env(TEST, test);
    let output = command.output().expect("starting the test again");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let ran_one = stdout.contains("running 1 test");
    stderr.lines().filter(|line| line.starts_with(SAID)).for_each(say);
    assert!(output.status.success() && ran_one, "{test}: {}\n{stdout}\n{stderr}", output.status);
}

const SAID: &str = "host: ";

/// Says something about this machine that must be seen though the test passes.
pub fn say(what: impl AsRef<str>) {
    let what = what.as_ref();
    let line = format!("{SAID}{}\n", what.strip_prefix(SAID).unwrap_or(what));
    // Past the macros, whose output is captured while a test passes.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says that this machine lacks what it takes to test `what`.
pub fn skip(what: &str, why: impl std::fmt::Display) {
    say(format!("SKIPPED {what}: {why}"));
}
