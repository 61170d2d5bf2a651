"""DRIN's preprocessed arrays, and how they become a cache (`melcache import --from drin`)."""
