"""The three heads of one joint space: bert, jmel, clip_linear."""
