"""Let an engine's workers do what there is to do."""

from pathlib import Path

from workers import local, ray, slurm
from workers.engine import Engine
from workers.work import Work


def check(engine: Engine, folder: Path) -> bool:
    """Return whether an engine's workers are known to have GPUs, be there some here or not.

    Raises ConfigError, before anything is planned, where the engine cannot be had here, or not for a `folder`.
    """
    if engine.kind == "local":
        return False
    return slurm.check(engine, folder) if engine.kind == "slurm" else ray.check(engine)


def run(engine: Engine, work: Work) -> bool:
    """Start the workers of an engine that was checked; return whether they have ended.

    Then the caller finishes what they have left; else they go on without this command, and the last of them finishes.
    Raises ConfigError where the engine refuses the work, WorkersError where its workers do not finish.
    """
    if not work.todo:
        return True
    if engine.kind == "slurm":
        return slurm.run(engine, work)
    {"local": local.run, "ray": ray.run}[engine.kind](engine, work)
    return True
