"""Candidate entities: by name, by vectors, and both together."""
