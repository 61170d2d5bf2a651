"""Series and searches by several workers, who divide the runs by claims; the command itself then finds them done."""
