#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tcpcore_fuzz::line_parser::check(input));
