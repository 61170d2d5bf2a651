"""Encoders of the user's own, a file each: what docs/guides/own-encoder.md promises, and checks of what comes back."""
