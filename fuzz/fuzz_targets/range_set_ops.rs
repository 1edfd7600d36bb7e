#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ppspp_fuzz::range_set_ops(data));
