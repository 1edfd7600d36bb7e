#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ppspp_fuzz::mangled_pair(data));
