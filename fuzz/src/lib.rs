//! What the fuzz targets check, each property in a module of its own.
//!
//! The modules know nothing of libFuzzer: `tests/fuzz_seeds.rs` compiles them too, so that
//! `cargo test` runs every seed through its property on any toolchain.

pub mod line_parser;
pub mod partition;
