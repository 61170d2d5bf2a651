"""Vectors of new records: encoded as a cache was, or taken from it."""
