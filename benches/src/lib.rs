//! Benchmarks of Daxite; see `benches/` beside this file.
