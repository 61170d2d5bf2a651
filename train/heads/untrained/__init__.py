"""The heads without weights: lexical, prior, clip (evaluating.untrained_heads computes their scores)."""
