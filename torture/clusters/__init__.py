"""Real clusters of several nodes on this machine: Slurm's daemons and Ray's, started and ended here."""
