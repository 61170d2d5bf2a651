"""Caches that come and go: push, pull, one tar, cards and signatures."""
