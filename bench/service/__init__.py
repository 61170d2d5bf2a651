"""How long linking takes: a linker in the process, and `melcache serve`."""
