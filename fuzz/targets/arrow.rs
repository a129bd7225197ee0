//! See the property.
#![no_main]
#![allow(dead_code)]

#[path = "../properties/record_files.rs"]
mod property;

libfuzzer_sys::fuzz_target!(init: outgrow_ir::quiet_shielded_panics(), |data: &[u8]| property::arrow(data));
