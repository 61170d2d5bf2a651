"""A cache's columns as tensors, and the batches that heads see."""
