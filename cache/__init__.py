"""The cache: one directory of HDF5 shards and a manifest between extraction and training (FORMAT.md)."""

from cache.reader import Reader, open

__all__ = ["Reader", "open"]
