//! Tells the simulator what happens to a medium, if somebody watches it.

use crate::medium::Medium;
use crate::sim::{Act, Observer, Site};
use crate::units::{ByteRange, Offset};

/// Whether this is memory that a state after a crash is opened on: nothing gets lost there, and all of
/// it can be read.
pub(crate) fn is_bench(medium: &Medium) -> bool {
    medium.observer().is_some_and(|observer| observer.trial.is_some())
}

pub(super) fn before_read(medium: &Medium, range: ByteRange) {
    if let Some(Observer { recorder, trial: Some(trial) }) = medium.observer() {
        trial.before_read(medium, range, recorder.as_deref());
    }
}

pub(super) fn before_store(medium: &Medium, range: ByteRange) {
    if let Some(Observer { recorder, trial: Some(trial) }) = medium.observer() {
        trial.before_store(medium, range, recorder.as_deref());
    }
}

/// Whether the store that the caller was called for happens.
#[track_caller]
pub(super) fn may_store(medium: &Medium, range: ByteRange) -> bool {
    let happens = happens(medium, Act::Store);
    if happens {
        before_store(medium, range);
    }
    happens
}

pub(super) fn stored_word(medium: &Medium, offset: Offset, word: u64) {
    if let Some(Observer { recorder: Some(recorder), .. }) = medium.observer() {
        recorder.stored_word(offset, word);
    }
}

pub(super) fn stored_bytes(medium: &Medium, range: ByteRange) {
    if let Some(Observer { recorder: Some(recorder), .. }) = medium.observer() {
        recorder.stored_bulk(medium, range);
    }
}

/// A store past the cache counts as written back.
#[track_caller]
pub(super) fn stored_past_cache(medium: &Medium, range: ByteRange) {
    stored_bytes(medium, range);
    written_back(medium, range);
}

#[track_caller]
pub(super) fn written_back(medium: &Medium, range: ByteRange) {
    let happens = happens(medium, Act::WriteBack);
    if let Some(Observer { recorder: Some(recorder), .. }) = medium.observer() {
        match happens {
            true => recorder.written_back(medium, range),
            // What a guard stored is seen here or never.
            false => recorder.stored_bulk(medium, range),
        }
    }
}

#[track_caller]
pub(super) fn fenced(medium: &Medium) {
    let site = Site::here(Act::Fence);
    let happens = happens(medium, Act::Fence);
    if let Some(Observer { recorder: Some(recorder), .. }) = medium.observer()
        && happens
    {
        recorder.fenced(site);
    }
}

#[track_caller]
fn happens(medium: &Medium, act: Act) -> bool {
    match medium.observer() {
        Some(Observer { recorder: Some(recorder), .. }) => recorder.happens(Site::here(act)),
        _ => true,
    }
}
