"""Serve a fake linker until told to end: `python -m tests.serve.run_fake FOLDER [OPTION=NUMBER ...]`."""

import sys
from collections import deque
from pathlib import Path

from PIL import Image

from common import console
from serve import server
from serve.config import ServeConfig
from serve.door import connections
from tests.serve.fake_linker import FakeLinker


def main(folder: str, *options: str) -> None:
    """Serve on a free port.

    `seconds` is what a mention takes, `head` bounds connections; other options are those of the command.
    """
    given = {name: float(value) for name, _, value in (option.partition("=") for option in options)}
    picture = Path(folder) / "picture.jpg"
    Image.new("RGB", (400, 200), "teal").save(picture)
    linker = FakeLinker(picture, given.pop("seconds", 0.0))
    linker.calls = linker.mentions = deque(maxlen=0)  # it is asked much
    connections.HEAD = given.pop("head", connections.HEAD)
    config = ServeConfig(Path("runs/demo"), **{"port": 0} | {name: int(value) for name, value in given.items()})
    with console.lines(), server.bound(config) as listening:
        server.serve(linker, config, listening)


if __name__ == "__main__":
    main(*sys.argv[1:])
