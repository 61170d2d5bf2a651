"""How fast texts and pictures become vectors."""
