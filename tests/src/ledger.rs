//! What a process tells its parent, so that it is known after the process was killed.
//!
//! 1. An event is one `write` of at most `PIPE_BUF` bytes, so it comes whole or not at all, and events of
//!    several threads don't mix.
//! 2. What stands before an event in the pipe happened before it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use crate::{Change, KeyNo, Outcome, Stamp};

/// What POSIX promises, and Linux has, for the atomic length of a `write` to a pipe.
const PIPE_BUF: usize = 4096;

/// Something that happened in a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It is about to open the pool.
    Opening,
    /// The pool is open, and was closed in good order or not.
    Opened {
        /// By its recovery report.
        was_clean: bool,
    },
    /// It is about to reclaim.
    Reclaiming,
    /// It is about to close the pool.
    Closing,
    /// Closing succeeded.
    Closed,
    /// A thread is about to make changes, all or none.
    Begin {
        /// Which thread.
        thread: u16,
        /// Which operation of it.
        operation: u32,
        /// The changes.
        changes: Vec<Change>,
        /// What must be there for them.
        replaces: Option<(KeyNo, Stamp)>,
    },
    /// The thread was answered.
    End {
        /// Which thread.
        thread: u16,
        /// Which operation of it.
        operation: u32,
        /// The answer.
        outcome: Outcome,
        /// What was there before, where the answer says it.
        replaced: Option<(KeyNo, Stamp)>,
    },
    /// A reader found `stamp` under `key`.
    Saw {
        /// The key.
        key: KeyNo,
        /// Its value.
        stamp: Stamp,
    },
    /// Anything else.
    Said(String),
}

/// The end of the pipe that events are written to.
#[derive(Clone)]
pub struct Ledger(Arc<File>);

impl Ledger {
    pub(crate) fn new(pipe: File) -> Self {
        Self(Arc::new(pipe))
    }

    /// Tells the parent of `event`. Without a parent there is nothing left to do.
    pub fn note(&self, event: &Event) {
        let bytes = encode(event);
        match (&*self.0).write(&bytes) {
            Ok(written) => assert_eq!(written, bytes.len(), "a short write is whole"),
            Err(error) => {
                eprintln!("nobody reads the ledger: {error}");
                std::process::exit(1);
            }
        }
    }
}

/// Reads the next event. `None` when the process is gone.
///
/// # Errors
/// What reading answers, and [`io::ErrorKind::InvalidData`] for what is no event.
pub(crate) fn read_event(pipe: &mut impl Read) -> io::Result<Option<Event>> {
    let mut len = [0; 2];
    if pipe.read(&mut len[..1])? == 0 {
        return Ok(None);
    }
    pipe.read_exact(&mut len[1..])?;
    let mut bytes = vec![0; usize::from(u16::from_le_bytes(len)) - len.len()];
    pipe.read_exact(&mut bytes)?;
    decode(&mut &bytes[..]).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn encode(event: &Event) -> Vec<u8> {
    let mut bytes = vec![0; 2];
    match event {
        Event::Opening => bytes.push(0),
        Event::Opened { was_clean } => bytes.extend([1, u8::from(*was_clean)]),
        Event::Reclaiming => bytes.push(2),
        Event::Closing => bytes.push(3),
        Event::Closed => bytes.push(4),
        Event::Begin { thread, operation, changes, replaces } => {
            bytes.push(5);
            bytes.extend(thread.to_le_bytes());
            bytes.extend(operation.to_le_bytes());
            encode_optional(&mut bytes, *replaces);
            for (key, stamp) in changes {
                bytes.extend(key.to_le_bytes());
                bytes.push(u8::from(stamp.is_some()));
                stamp.iter().for_each(|stamp| encode_stamp(&mut bytes, *stamp));
            }
        }
        Event::End { thread, operation, outcome, replaced } => {
            bytes.push(6);
            bytes.extend(thread.to_le_bytes());
            bytes.extend(operation.to_le_bytes());
            bytes.push(u8::from(*outcome == Outcome::Done));
            encode_optional(&mut bytes, *replaced);
        }
        Event::Saw { key, stamp } => {
            bytes.push(7);
            bytes.extend(key.to_le_bytes());
            encode_stamp(&mut bytes, *stamp);
        }
        Event::Said(text) => {
            bytes.push(8);
            bytes.extend(text.as_bytes());
        }
    }
    assert!(bytes.len() <= PIPE_BUF, "an event of {} bytes", bytes.len());
    let len = bytes.len() as u16;
    bytes[..2].copy_from_slice(&len.to_le_bytes());
    bytes
}

fn encode_optional(bytes: &mut Vec<u8>, pair: Option<(KeyNo, Stamp)>) {
    bytes.push(u8::from(pair.is_some()));
    if let Some((key, stamp)) = pair {
        bytes.extend(key.to_le_bytes());
        encode_stamp(bytes, stamp);
    }
}

fn encode_stamp(bytes: &mut Vec<u8>, stamp: Stamp) {
    bytes.extend(stamp.cycle.to_le_bytes());
    bytes.extend(stamp.thread.to_le_bytes());
    bytes.extend(stamp.operation.to_le_bytes());
    bytes.extend(stamp.nth.to_le_bytes());
    bytes.extend(stamp.len_bytes.to_le_bytes());
}

/// The event that `bytes` are; `None` if they are none.
fn decode(bytes: &mut &[u8]) -> Option<Event> {
    let event = match u8_of(bytes)? {
        0 => Event::Opening,
        1 => Event::Opened { was_clean: u8_of(bytes)? == 1 },
        2 => Event::Reclaiming,
        3 => Event::Closing,
        4 => Event::Closed,
        5 => {
            let (thread, operation) = (u16_of(bytes)?, u32_of(bytes)?);
            let replaces = decode_optional(bytes)?;
            let mut changes = Vec::new();
            while !bytes.is_empty() {
                let (key, is_put) = (u16_of(bytes)?, u8_of(bytes)? == 1);
                changes.push((key, if is_put { Some(decode_stamp(bytes)?) } else { None }));
            }
            Event::Begin { thread, operation, changes, replaces }
        }
        6 => {
            let (thread, operation) = (u16_of(bytes)?, u32_of(bytes)?);
            let outcome = if u8_of(bytes)? == 1 { Outcome::Done } else { Outcome::Refused };
            Event::End { thread, operation, outcome, replaced: decode_optional(bytes)? }
        }
        7 => Event::Saw { key: u16_of(bytes)?, stamp: decode_stamp(bytes)? },
        8 => Event::Said(String::from_utf8(std::mem::take(bytes).to_vec()).ok()?),
        _ => return None,
    };
    bytes.is_empty().then_some(event)
}

fn decode_optional(bytes: &mut &[u8]) -> Option<Option<(KeyNo, Stamp)>> {
    match u8_of(bytes)? {
        0 => Some(None),
        _ => Some(Some((u16_of(bytes)?, decode_stamp(bytes)?))),
    }
}

fn decode_stamp(bytes: &mut &[u8]) -> Option<Stamp> {
    Some(Stamp {
        cycle: u32_of(bytes)?,
        thread: u16_of(bytes)?,
        operation: u32_of(bytes)?,
        nth: u16_of(bytes)?,
        len_bytes: u32_of(bytes)?,
    })
}

fn u8_of(bytes: &mut &[u8]) -> Option<u8> {
    array_of::<1>(bytes).map(|[byte]| byte)
}

fn u16_of(bytes: &mut &[u8]) -> Option<u16> {
    array_of(bytes).map(u16::from_le_bytes)
}

fn u32_of(bytes: &mut &[u8]) -> Option<u32> {
    array_of(bytes).map(u32::from_le_bytes)
}

fn array_of<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (array, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_as_they_went_in() {
        let stamp = Stamp { cycle: 1, thread: 2, operation: 3, nth: 4, len_bytes: 500 };
        let (thread, operation) = (31, 1 << 30);
        let events = [
            Event::Opening,
            Event::Opened { was_clean: true },
            Event::Opened { was_clean: false },
            Event::Reclaiming,
            Event::Closing,
            Event::Closed,
            Event::Begin {
                thread,
                operation,
                changes: vec![(1, Some(stamp)), (2, None), (3, Some(stamp))],
                replaces: Some((9, stamp)),
            },
            Event::Begin { thread, operation, changes: vec![(1, None)], replaces: None },
            Event::End { thread, operation, outcome: Outcome::Done, replaced: Some((7, stamp)) },
            Event::End { thread, operation, outcome: Outcome::Refused, replaced: None },
            Event::Saw { key: 500, stamp },
            Event::Said("anything".to_string()),
        ];
        let bytes: Vec<u8> = events.iter().flat_map(encode).collect();
        let mut pipe = &bytes[..];
        for event in events {
            assert_eq!(read_event(&mut pipe).unwrap(), Some(event));
        }
        assert_eq!(read_event(&mut pipe).unwrap(), None);
        let mut cut = &bytes[bytes.len() - 5..bytes.len() - 1];
        assert!(read_event(&mut cut).is_err());
    }
}
