//! The Outgrow binary.
fn main() {}
