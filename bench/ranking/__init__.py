"""Ranks among all entities, and the nearest by vectors and by name."""
