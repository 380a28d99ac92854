//! Runs the simulation with the choices of the fuzzer.

#![no_main]

use libfuzzer_sys::fuzz_target;

// This target uses only a part of the module.
#[allow(dead_code, unused_imports)]
#[path = "../../tests/sim/mod.rs"]
mod sim;

fuzz_target!(|bytes: &[u8]| {
    if let Err(violation) = sim::run(bytes) {
        panic!("{violation}");
    }
});
