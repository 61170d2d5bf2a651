"""What every stage shares: records, errors, options and commands, paths, and what is printed."""
