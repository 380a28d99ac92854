#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tcpcore_fuzz::http::check(input));
