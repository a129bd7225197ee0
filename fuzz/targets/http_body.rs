//! See the property.
#![no_main]

#[path = "../properties/http_body.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::check(data));
