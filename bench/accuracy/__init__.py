"""What docs/results.md shows beside `compare`: real text, candidates' recall, vectors stored as codes, new pictures."""
