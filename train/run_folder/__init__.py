"""The files of a run folder, and what they must look like.  No torch here."""
