"""melcache: multimodal entity linking from a cache that is encoded once."""
