"""The command of `melcache` that serves a run."""

from importlib.util import find_spec

from common.commands import Command
from common.errors import ConfigError
from serve.config import ServeConfig

NEEDS = ("fastapi", "uvicorn", "python_multipart")


def serve(config: ServeConfig) -> None:
    """Link new mentions in a browser and over HTTP: a page, and JSON endpoints that /openapi.json describes.

    Only this machine can reach it, unless --host says otherwise; no request leaves the machine. Ctrl-C ends it.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise ConfigError(f"serve needs {missing[0]}: make setup EXTRAS=serve, or pip install 'melcache[serve]'")
    from link import command  # torch, and what no other command needs: not for --help
    from serve import server

    with server.bound(config) as listening:  # before the encoders are loaded: a port that is taken is known at once
        server.serve(server.warm(command.load(config)), config, listening)


COMMANDS = (Command("serve", "Use a run", ServeConfig, serve, kept="nothing was served yet"),)
