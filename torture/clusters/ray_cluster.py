"""A real Ray cluster of several nodes on this machine, each with daemons of its own."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator


def lacking() -> str:
    """Return why no cluster can be started here, "" where one can."""
    return "" if importlib.util.find_spec("ray") else "Ray is not installed (make setup EXTRAS=ray)"


@contextlib.contextmanager
def start(nodes: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """Run a cluster of so many nodes of a CPU, the first of two; yield its address and what kills the last node."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        others = [cluster.add_node(num_cpus=1) for _ in range(nodes - 1)]
        yield cluster.address, lambda: cluster.remove_node(others[-1], allow_graceful=False)
    finally:
        cluster.shutdown()
