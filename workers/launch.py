"""Let an engine's workers do what there is to do."""

from workers import local, ray, slurm
from workers.engine import Engine
from workers.work import Work


def check(engine: Engine) -> None:
    """Raise ConfigError where an engine cannot be had here, before anything is planned."""
    {"local": lambda: None, "slurm": slurm.check, "ray": ray.check}[engine.kind]()


def run(engine: Engine, work: Work) -> bool:
    """Start an engine's workers; return whether they have ended, so that the caller finishes what they have left.

    False: they go on without this command, and the last of them finishes. Raises ConfigError where the engine is not to
    be had, WorkersError where its workers do not finish.
    """
    if not work.todo:
        return True
    check(engine)
    if engine.kind == "slurm":
        return slurm.run(engine, work)
    {"local": local.run, "ray": ray.run}[engine.kind](engine, work)
    return True
