//! See the property.
#![no_main]

#[path = "../properties/json_records.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::check(data));
