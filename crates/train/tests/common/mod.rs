//! What tests of training share.

pub mod device;
