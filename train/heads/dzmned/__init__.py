"""DZMNED."""
