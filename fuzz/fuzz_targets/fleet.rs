//! The simulation's world with its choices made by the fuzzer.

#![no_main]

use libfuzzer_sys::fuzz_target;

// The tests use more of it.
#[allow(dead_code, unused_imports)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

fuzz_target!(|bytes: &[u8]| {
    if let Err(violation) = sim::run(bytes) {
        panic!("{violation}");
    }
});
