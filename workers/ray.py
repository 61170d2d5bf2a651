"""`--workers-on ray`: a task of Ray core for each worker, of which only words and the end of its log travel.

Ray starts a task whose process or node has died on another one; what is computed goes to the shared folder alone.
"""

import contextlib
import importlib.util
import math
import os
import socket
from collections.abc import Iterator
from typing import Any

from common.errors import ConfigError
from common.paths import make_folder
from workers import keeper, ray_task
from workers.engine import Engine
from workers.work import Coming, Work, python_path, tell_failed

LOOK = 0.5  # seconds between two looks at the tasks
REACH = 10.0  # seconds in which the head of a cluster answers
AGAIN = 3  # times that Ray starts a task again whose process or node has died
# begin the names of variables that workers get
PASSED = ("MELCACHE_", "HF_HOME", "HF_HUB_", "TORCH_HOME", "XDG_CACHE_HOME")


def check(engine: Engine) -> bool:
    """Return whether nodes of the cluster have GPUs; False where there is none yet: then it will be this machine.

    Raises ConfigError where Ray is not installed, or the cluster is not there or another version's.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("--workers-on ray needs Ray: make setup EXTRAS=ray, or pip install 'melcache[ray]'")
    named = engine.address or os.environ.get("RAY_ADDRESS")
    try:
        with _connected(engine.address or "auto") as ray:
            return any(node["Resources"].get("GPU", 0) for node in _nodes(ray))
    except ConfigError:
        if named:
            raise
        return False


def run(engine: Engine, work: Work) -> None:
    """Let tasks of Ray work until all have ended.  One that fails costs a line with what it said last.

    Raises ConfigError where the cluster is not there or another version's.
    """
    make_folder(work.folder)
    with _connected(engine.address) as ray:
        count, cores, gpus = _shares(ray, engine.count)
        for module in (keeper, ray_task):
            ray.cloudpickle.register_pickle_by_value(module)
        task = ray.remote(ray_task.work).options(
            num_cpus=cores, num_gpus=gpus, max_retries=AGAIN, scheduling_strategy="SPREAD"
        )
        words, places = ["-m", work.module, *work.words], (str(work.folder.absolute()), os.getcwd())
        _wait(ray, [task.remote(words, _variables(cores), *places) for _ in range(count)], work)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield Ray, connected to a cluster; where none is named, to the one of this machine, or one of its own."""
    import ray

    _reach(address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level="CRITICAL")
    except (RuntimeError, ConnectionError, ValueError, TimeoutError) as error:
        where = f":{address}" if address else ""
        said = " ".join(str(error).split())
        todo = ". Install the cluster's versions here" if said.startswith("Version mismatch") else ""
        raise ConfigError(f"--workers-on ray{where}: {said:.500}{todo}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise ConfigError where nobody listens at HOST:PORT: Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--workers-on ray:{address}: nothing answers there ({said}). Expected HOST:PORT of the cluster's head, "
            "as `ray start --head` shows it"
        ) from None


def _shares(ray: Any, count: int) -> tuple[int, int, float]:
    """Return how many workers there are, and the cores and the GPUs of each."""
    nodes = [node["Resources"] for node in _nodes(ray)]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    count = count or gpus or len(nodes)
    if not gpus:
        return count, _cores([(node, math.ceil(count / len(nodes))) for node in nodes]), 0.0
    on_one = math.ceil(count / gpus)  # a worker's share is of one GPU
    there = [(node, min(count, on_one * int(node.get("GPU", 0)))) for node in nodes if node.get("GPU", 0) >= 1]
    return count, _cores(there), math.floor(1000 / on_one) / 1000


def _cores(shared: list[tuple[dict[str, Any], int]]) -> int:
    """Return the cores of each worker, where all workers of a node (by their number) are to run at once."""
    return max(1, min(int(node["CPU"]) // workers for node, workers in shared))


def _nodes(ray: Any) -> list[dict[str, Any]]:
    """Return the nodes that work.  Raises ConfigError where there are none."""
    found = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    if not found:
        raise ConfigError("--workers-on ray: no node of the cluster has a CPU for work")
    return found


def _variables(cores: int) -> dict[str, str]:
    """Return what the environment of a worker says: this one's of melcache and of weights, and its share of cores."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
    return passed | {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(cores)}


def _wait(ray: Any, tasks: list[Any], work: Work) -> None:
    """Wait until all tasks have ended, and show how much has come of what there is to do."""
    waiting = list(tasks)
    with Coming(work, f"{len(tasks)} workers on Ray") as coming:
        while waiting:
            ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK)
            for task in ended:
                _tell(ray, task, tasks.index(task), len(tasks))
            coming.look()


def _tell(ray: Any, task: Any, place: int, count: int) -> None:
    """Say what a worker said last, where it has failed."""
    try:
        status, said = ray.get(task)
    except ray.exceptions.RayError as error:
        status, said = "unknown", " ".join(str(error).split())[: ray_task.TAIL]
    if status:
        tell_failed(place, count, status, said)
