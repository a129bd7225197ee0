//! Fitted, serialisable steps from a raw record to tensors.
