"""Planning, opening, training and ranking by the number of entities."""
