"""Every promise about caches, tried small; `make torture` tries it large."""

import pytest

from torture.experiments import EXPERIMENTS

# what must have been tried, whatever an experiment thinks is enough
LEAST = {
    "kills": 50, "power": 5_000, "rot": 10_000, "disk": 500, "together": 6, "files": 25, "mutants": 1_000,
    "manifests": 100, "fields": 1_000, "pictures": 2_060, "numbers": 150, "readers": 16,
}  # fmt: skip
SEED = 20_261
SMALL = {name: experiment for name, experiment in EXPERIMENTS.items() if experiment.small is not None}


def test_every_experiment_is_run_here_but_the_one_that_mounts_disks():
    assert LEAST.keys() == SMALL.keys() == EXPERIMENTS.keys() - {"ext4"}


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")  # children only touch files
@pytest.mark.parametrize("name", SMALL)
def test_promise(name, tmp_path):
    result = SMALL[name].run(tmp_path, SMALL[name].small, SEED)
    print(f"{name}, seed {SEED}: {SMALL[name].promise}: {result.tried} cases, {result.counts}")
    assert not result.failures, result.failures[:5]
    assert result.tried >= LEAST[name]
