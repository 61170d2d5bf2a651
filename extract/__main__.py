"""Entry point of `python -m extract`."""

from common import console
from extract.cli import app

if __name__ == "__main__":
    console.run(app, "python -m extract")
