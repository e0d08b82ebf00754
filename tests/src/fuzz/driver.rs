//! Runs a target on one input after the other, and makes a failing one small.
//!
//! 1. Time, memory and panics are watched for every input; one that never ends ends the process.
//! 2. Inputs that come to something new are kept and built upon, in memory only.
//! 3. A failure prints a line that repeats it.

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Target;
use super::memory::most_bytes;
use super::mutate::mutated;
use crate::{POOL_BYTES, Random, number};

/// No input takes longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// An input that takes so long never ends.
const ENDLESS: Duration = Duration::from_secs(60);
/// No input takes more memory: what the library may, for a pool of this length.
const MEMORY_BYTES_MAX: usize = (64 << 20) + POOL_BYTES as usize / 16;
/// How long a failing input is made smaller.
const MINIMISING: Duration = Duration::from_secs(10);

/// One target at a time, since the memory that is counted is that of the process.
static RUNNING: Mutex<()> = Mutex::new(());

/// Runs `target` on variations of what it was given before, for `DAXITE_FUZZ_SECONDS` (3), from the seed
/// `DAXITE_FUZZ_SEED` (1); or once, on the input `DAXITE_FUZZ_INPUT`.
///
/// # Panics
/// If the target does, after printing what repeats it; if it takes too long or too much memory.
pub fn run(target: &Target) {
    let _alone = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(hex) = std::env::var("DAXITE_FUZZ_INPUT") {
        println!("{}: {}", target.name, watched(target, &from_hex(&hex)));
        return;
    }
    let seconds = number("DAXITE_FUZZ_SECONDS").unwrap_or(3);
    let seed = number("DAXITE_FUZZ_SEED").unwrap_or(1);
    let started = Instant::now();
    // What it builds once is not counted against an input.
    let mut outcomes = HashSet::from([(target.run)(&[])]);
    let (mut random, mut corpus, mut inputs) = (Random::new(seed), Vec::new(), 0u64);
    while started.elapsed() < Duration::from_secs(seconds) {
        let input = mutated(&mut random, &corpus);
        match attempt(target, &input) {
            Ok(outcome) => {
                if outcomes.insert(without_digits(&outcome)) {
                    corpus.push(input);
                }
            }
            Err(panic) => {
                let small = minimised(target, input);
                let hex = to_hex(&small);
                println!("{}: seed {seed}, input {inputs}, {} bytes", target.name, small.len());
                println!("to replay it: {}", replay(target, &hex));
                resume_unwind(panic);
            }
        }
        inputs += 1;
    }
    let outcomes = outcomes.len();
    println!("{}: seed {seed}, {inputs} inputs came to {outcomes} outcomes", target.name);
}

fn replay(target: &Target, hex: &str) -> String {
    let name = target.name;
    format!("DAXITE_FUZZ_INPUT={hex} cargo test -p daxite-tests --test fuzz {name}")
}

fn attempt(target: &Target, input: &[u8]) -> Result<String, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| watched(target, input)))
}

/// Runs the target on `input`, and answers with what it came to.
fn watched(target: &Target, input: &[u8]) -> String {
    let watch = Watch::start(replay(target, &to_hex(input)));
    let started = Instant::now();
    let (outcome, most_bytes) = most_bytes(|| (target.run)(input));
    let took = started.elapsed();
    drop(watch);
    assert!(took < PATIENCE, "took {took:?}");
    assert!(most_bytes < MEMORY_BYTES_MAX, "took {most_bytes} bytes of memory");
    outcome
}

/// Ends the process if it is not dropped in time.
struct Watch {
    ended: Arc<(Mutex<bool>, Condvar)>,
}

impl Watch {
    fn start(replay: String) -> Self {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let watched = Arc::clone(&ended);
        thread::spawn(move || {
            let (ended, changed) = &*watched;
            let ended = ended.lock().expect("nobody panics under it");
            let (ended, _) = changed
                .wait_timeout_while(ended, ENDLESS, |ended| !*ended)
                .expect("nobody panics under it");
            if !*ended {
                println!("an input did not end; to replay it: {replay}");
                std::process::abort();
            }
        });
        Self { ended }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (ended, changed) = &*self.ended;
        *ended.lock().expect("nobody panics under it") = true;
        changed.notify_one();
    }
}

/// A shorter and plainer input that fails too.
fn minimised(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let fails = |input: &[u8]| started.elapsed() < MINIMISING && attempt(target, input).is_err();
    let mut len = input.len().div_ceil(2);
    while len > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..input.len().min(at + len));
            match fails(&shorter) {
                true => input = shorter,
                false => at += len,
            }
        }
        len /= 2;
    }
    for at in 0..input.len() {
        let held = std::mem::replace(&mut input[at], 0);
        if held != 0 && !fails(&input) {
            input[at] = held;
        }
    }
    set_hook(hook);
    input
}

/// What an outcome says but for its numbers.
fn without_digits(outcome: &str) -> String {
    outcome.replace(|char: char| char.is_ascii_hexdigit(), "")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("DAXITE_FUZZ_INPUT is in hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}
