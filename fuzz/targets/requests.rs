#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| inference_operator_fuzz::requests::check(data));
