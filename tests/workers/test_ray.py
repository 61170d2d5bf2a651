"""Workers on Ray: shares of a cluster, and what cannot be used is one line.  Real clusters: torture/clusters/."""

import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import ConfigError
from workers import launch, ray
from workers.engine import Engine
from workers.work import Work


def cluster(*nodes):
    return SimpleNamespace(nodes=lambda: [{"Alive": alive, "Resources": found} for alive, found in nodes])


@pytest.mark.parametrize(
    ("nodes", "count", "expected"),
    [
        ([(True, {"CPU": 8.0}), (True, {"CPU": 4.0})], 0, (2, 4, 0.0)),  # one for each node
        ([(True, {"CPU": 8.0, "GPU": 2.0}), (True, {"CPU": 8.0, "GPU": 2.0})], 0, (4, 4, 1.0)),  # for each GPU
        ([(True, {"CPU": 8.0, "GPU": 1.0})], 3, (3, 2, 0.333)),  # which they share
        ([(True, {"CPU": 8.0, "GPU": 3.0})], 4, (4, 2, 0.5)),  # none is of two GPUs
        ([(True, {"CPU": 64.0}), (True, {"CPU": 64.0, "GPU": 8.0})], 0, (8, 8, 1.0)),  # none is where there is no GPU
        ([(True, {"CPU": 2.0}), (False, {"CPU": 64.0, "GPU": 8.0})], 5, (5, 1, 0.0)),
        ([(True, {}), (True, {"CPU": 3.0})], 0, (1, 3, 0.0)),  # a head without work
    ],
)
def test_each_worker_has_its_share_of_the_cluster(nodes, count, expected):
    assert ray._shares(cluster(*nodes), count) == expected


def test_a_cluster_without_cores_is_refused():
    with pytest.raises(ConfigError, match="no node of the cluster has a CPU for work"):
        ray._shares(cluster((True, {"GPU": 1.0})), 0)


def test_workers_get_variables_of_melcache_and_of_weights_and_no_secrets(monkeypatch):
    for name in ("MELCACHE_REMOTE", "HF_HOME", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "x")
    found = ray._variables(3)
    assert found.keys() >= {"MELCACHE_REMOTE", "HF_HOME", "PYTHONPATH", "OMP_NUM_THREADS"}
    assert found["OMP_NUM_THREADS"] == "3" and not found.keys() & {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_ADDRESS"}


def work(tmp_path):
    return Work("extract", (), (), tmp_path / "world", "shards", 3, lambda: 0)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs Ray: make setup EXTRAS=ray"):
        launch.check(Engine("ray", 0), Path())


ERRORS = [
    RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n\nThis process"),
    ConnectionError("Could not find any running Ray instance."),
    ValueError("bad address"),
]


@pytest.fixture
def installed(monkeypatch):
    """A function that lets Ray be there, connect to `nodes` or raise an error; it returns the addresses asked for."""

    def install(*nodes, error=None):
        asked = []

        def init(address, **given):
            asked.append(address)
            if error is not None:
                raise error

        found = SimpleNamespace(init=init, shutdown=lambda: None, nodes=cluster(*nodes).nodes)
        monkeypatch.setitem(sys.modules, "ray", found)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        monkeypatch.setattr(ray, "_reach", lambda address: None)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        return asked

    return install


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("use", [lambda engine, work: launch.check(engine, work.folder), ray.run])
def test_a_cluster_that_cannot_be_used_is_one_line_before_anything_is_planned(tmp_path, installed, error, use):
    installed(error=error)
    with pytest.raises(ConfigError, match=r"--workers-on ray:head:6379: ") as refused:
        use(Engine("ray", 0, "head:6379"), work(tmp_path))
    assert "\n" not in str(refused.value) and str(error).split()[-1] in str(refused.value)


def test_another_version_says_what_to_do(tmp_path, installed):
    installed(error=ERRORS[0])
    with pytest.raises(ConfigError, match=r"Ray: 2.9.0 This process. Install the cluster's versions here$"):
        launch.check(Engine("ray", 0, "head:6379"), tmp_path)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}", "127.0.0.1:99999{}"])
def test_an_address_where_nobody_listens_is_told_at_once(tmp_path, installed, monkeypatch, form):
    """Ray itself waits for minutes there."""
    reach = ray._reach
    asked = installed((True, {"CPU": 1.0}))
    monkeypatch.setattr(ray, "_reach", reach)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = form.format(listening.getsockname()[1])
        with pytest.raises(ConfigError, match=rf"--workers-on ray:{address}: nothing answers there"):
            launch.check(Engine("ray", 0, address), tmp_path)
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ConfigError, match="nothing answers there"):
            ray.run(Engine("ray", 0), work(tmp_path))
        assert asked == []
        listening.listen()
        if "99999" not in address:
            assert launch.check(Engine("ray", 0, address), tmp_path) is False and asked == [address]


def test_where_no_cluster_is_named_none_need_be_there_yet(installed, monkeypatch):
    asked = installed(error=ConnectionError("Could not find any running Ray instance."))
    assert launch.check(Engine("ray", 2), Path()) is False and asked == ["auto"]
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ConfigError, match="Could not find any running Ray instance"):
        launch.check(Engine("ray", 2), Path())


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([(True, {"CPU": 8.0, "GPU": 1.0})], True),
        ([(True, {"CPU": 8.0}), (True, {"CPU": 8.0, "GPU": 1.0})], True),
        ([(True, {"CPU": 8.0}), (False, {"CPU": 8.0, "GPU": 1.0})], False),
        ([(True, {"CPU": 8.0}), (True, {"GPU": 1.0})], False),  # where nobody can work
    ],
)
def test_whether_a_cluster_has_gpus_is_asked_before_anything_is_planned(installed, nodes, expected):
    installed(*nodes)
    assert launch.check(Engine("ray", 0, "head:6379"), Path()) is expected
