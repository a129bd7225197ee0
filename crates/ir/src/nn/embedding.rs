//! `embedding`: a vector for each token.

use crate::{Builder, Value};

impl Builder {
    /// The rows of `table [rows, width]` that i32 or i64 `indices [..]` name: `[.., width]`.
    pub fn embedding(&mut self, table: Value, indices: Value) -> Value {
        self.composite("embedding", &[table, indices], |b| b.gather(table, indices))
    }
}
