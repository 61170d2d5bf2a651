"""New mentions to entities: they are encoded as the cache of a run was, and ranked by the run's head."""
