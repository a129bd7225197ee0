//! Checkpoints, model packages and durable files.
