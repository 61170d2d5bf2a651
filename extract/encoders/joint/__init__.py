"""Encoders of texts and pictures in one space: the papers' CLIP, and any other of open_clip by name."""
