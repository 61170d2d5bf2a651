"""What an extraction must produce: rows, candidate lists, recipes, and the key of every shard."""
