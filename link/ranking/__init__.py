"""What of a run ranks mentions: which entities are compared, and by which heads."""
