"""Compute the shards that are missing: texts, pictures and what derives from them, range by range."""
