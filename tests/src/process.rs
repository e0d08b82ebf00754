//! Other processes of a test: the same program again, with a part to play.
//!
//! A test file that starts processes has one ignored test named [`PART`], which asks [`my_part`] what to
//! do. It writes to its [`Ledger`], which is a pipe to the test that started it.

use std::fs::File;
use std::io::{BufReader, PipeReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::ledger::read_event;
use crate::{Event, Ledger};

/// The name of the ignored test that plays parts.
pub const PART: &str = "part";
/// The variable that says which.
const VARIABLE: &str = "DAXITE_TEST_PART";

/// A process that plays a part. It is killed when this is dropped.
pub struct Process {
    child: Child,
    events: Receiver<Event>,
}

/// What came out of waiting for an event.
#[derive(Debug)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// Nothing, until the time was over.
    Silence,
    /// Nothing, and nothing more will come: nobody has the other end of the pipe.
    End,
}

impl Process {
    /// Starts this program again, for `part`.
    pub fn start(part: &str) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let child = Command::new(std::env::current_exe().expect("the path of this program"))
            .args([PART, "--exact", "--ignored", "--nocapture"])
            .env(VARIABLE, part)
            // The only descriptor beside output that a process can be given without unsafe code. It is
            // the end that is written to.
            .stdin(Stdio::from(writer))
            .stdout(Stdio::null())
            .spawn()
            .expect("starting this program again");
        Self { child, events: events_of(reader) }
    }

    /// Waits for the next event until `deadline`.
    pub fn hear(&self, deadline: Instant) -> Heard {
        let time = deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(time) {
            Ok(event) => Heard::Event(event),
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// The next event, which must come within `time`.
    #[track_caller]
    pub fn next(&self, time: Duration) -> Event {
        match self.hear(Instant::now() + time) {
            Heard::Event(event) => event,
            heard => panic!("no event within {time:?}: {heard:?}"),
        }
    }

    /// Its number in the system.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it by SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("killing a process of the test");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("waiting for a process of the test")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part that this process was started for, if it was, and where to tell what happens.
pub fn my_part() -> Option<(String, Ledger)> {
    let part = std::env::var(VARIABLE).ok()?;
    let pipe = std::io::stdin().as_fd().try_clone_to_owned().expect("the pipe to the parent");
    Some((part, Ledger::new(File::from(pipe))))
}

/// Reads the ledger as it comes, so that nobody waits for room in the pipe.
fn events_of(reader: PipeReader) -> Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        while let Some(event) = read_event(&mut reader).expect("whole events") {
            // Nobody listens after a failure.
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}
