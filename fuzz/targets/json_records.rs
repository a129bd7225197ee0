//! See the property.
#![no_main]
#![allow(dead_code)]

#[path = "../properties/text_tables.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::json_records(data));
