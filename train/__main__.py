"""Entry point of `python -m train`."""

from common import console
from train.cli import app

if __name__ == "__main__":
    console.run(app, "python -m train")
