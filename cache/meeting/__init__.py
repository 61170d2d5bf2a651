"""Machines that share no folder make one cache through a remote: each sends what it finishes, and fetches the rest."""
