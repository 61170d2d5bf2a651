"""DRIN, from its paper."""
