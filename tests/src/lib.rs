//! Integration tests of Daxite; one file per promise in `tests/`.
