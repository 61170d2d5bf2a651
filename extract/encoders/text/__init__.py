"""Encoders of the role text: BERT of the papers, and any other by name."""
