//! Sources, splits, shards and loaders.
