"""How a cache is written: shards, the draft that they make up, and synthetic ones."""
