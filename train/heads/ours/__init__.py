"""melcache's own head: what frozen features and strings allow."""
