//! Memory planning, compiled executables and backends.
