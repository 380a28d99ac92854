//! Checks the properties of the fuzz targets, each in its own module.
//!
//! The modules do not depend on libFuzzer. `tests/fuzz_seeds.rs` compiles them too, so that `cargo test`
//! checks every seed on any toolchain.

pub mod encoder;
pub mod http;
pub mod line_parser;
pub mod partition;
pub mod servers_file;
