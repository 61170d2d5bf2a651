"""`melcache` and `python -m melcache`: the command, from any folder, whatever of the user's PYTHONPATH names."""

from melcache import ours_first


def main() -> None:
    """Run the command line."""
    with ours_first():
        from melcache import cli
    cli.main()


if __name__ == "__main__":
    main()
