"""A training step of each head against plain programs, where its time goes, what it reads, and how a run starts."""
