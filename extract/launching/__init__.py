"""Extraction by several processes, which divide the ranges by their claims (cache.store.claims)."""
