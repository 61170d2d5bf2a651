"""DRIN as its authors' code computes it."""
