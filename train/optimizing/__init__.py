"""One run's training: steps, seeds, Adam, and the checkpoints it continues from."""
