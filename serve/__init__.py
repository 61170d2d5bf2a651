"""A run's linker behind HTTP: JSON for programs, one page for people, by default for this machine alone."""
