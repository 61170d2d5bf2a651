"""`python -m melcache`: the command, from any folder."""

import os
import sys


def _leave_out_working_directory() -> None:
    """Keep a train.py or cache/ of the user's own out of the way: `python -m` looks there first."""
    first, ours = os.path.abspath(sys.path[0]), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if first == os.getcwd() != ours:
        del sys.path[0]


if __name__ == "__main__":
    _leave_out_working_directory()
    from melcache.cli import main

    main()
