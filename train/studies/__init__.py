"""Several runs side by side: compare, ablate, costs, and their tables."""
