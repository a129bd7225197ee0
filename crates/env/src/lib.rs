//! The world, real and simulated: time and storage.
