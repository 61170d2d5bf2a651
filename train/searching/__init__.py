"""`sweep`: runs with varied knobs, and the trials of a search."""
