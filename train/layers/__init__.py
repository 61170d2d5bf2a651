"""What several heads are built of: attention, products of vectors, losses."""
