#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ppspp_core::fuzzing::request_ops(data));
