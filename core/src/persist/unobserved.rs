//! Nobody watches: what `observe.rs` does, in a build without the simulator.

use crate::medium::Medium;
use crate::units::{ByteRange, Offset};

pub(crate) fn is_bench(_: &Medium) -> bool {
    false
}

pub(super) fn before_read(_: &Medium, _: ByteRange) {}

pub(super) fn before_store(_: &Medium, _: ByteRange) {}

pub(super) fn may_store(_: &Medium, _: ByteRange) -> bool {
    true
}

pub(super) fn stored_word(_: &Medium, _: Offset, _: u64) {}

pub(super) fn stored_bytes(_: &Medium, _: ByteRange) {}

pub(super) fn stored_past_cache(_: &Medium, _: ByteRange) {}

pub(super) fn written_back(_: &Medium, _: ByteRange) {}

pub(super) fn fenced(_: &Medium) {}
