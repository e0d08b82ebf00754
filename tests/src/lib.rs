//! Integration tests of Daxite; one file per promise in `tests/`.
//!
//! The README is a part of them: its example is compiled and run.
#![doc = include_str!("../../README.md")]
