"""Every promise about caches, tried small; `make torture` tries it large."""

import pytest

from torture.__main__ import EXPERIMENTS

LEAST = {"kills": 50, "power": 5_000, "rot": 10_000, "disk": 400, "files": 22, "manifests": 900, "readers": 16}
SEED = 20_261


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # children only touch files
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_promise(name, tmp_path):
    promise, small, _ = EXPERIMENTS[name]
    result = small(tmp_path, SEED)
    print(f"{name}, seed {SEED}: {promise}: {result.tried} cases, {result.counts}")
    assert not result.failures, result.failures[:5]
    assert result.tried >= LEAST.get(name, 1)
