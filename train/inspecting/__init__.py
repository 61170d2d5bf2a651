"""Questions to a cache or to a run that is over: slices, explain, doctor."""
