//! See the property.
#![no_main]
#![allow(dead_code)]

#[path = "../properties/record_files.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|data: &[u8]| property::npz(data));
