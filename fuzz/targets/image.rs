//! See the property.
#![no_main]

#[path = "../properties/image.rs"]
mod property;

libfuzzer_sys::fuzz_target!(init: outgrow_ir::quiet_shielded_panics(), |data: &[u8]| property::check(data));
