"""What one process has planned, as a file that workers go by: the release in row order, lists, tokens and keys."""
