//! Composites.
