"""Let an engine's workers do what there is to do."""

from workers import local
from workers.engine import Engine
from workers.work import Work


def run(engine: Engine, work: Work) -> bool:
    """Start an engine's workers; return whether they have ended, so that the caller finishes what they have left.

    False: they go on without this command, and the last of them finishes.
    """
    if work.todo:
        local.run(engine.count, work)
    return True
