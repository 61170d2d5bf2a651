"""Every promise about caches, tried small; `make torture` tries it large."""

import pytest

from torture import document
from torture.machines import bit_rot
from torture.registry import EXPERIMENTS
from torture.strangers import strange_files, strange_manifests, strange_remotes
from torture.tiny_cache import Result

# what must have been tried, whatever an experiment thinks is enough
LEAST = {
    "kills": 50, "beside": 20, "power": 600, "rot": 2_000, "unlisted": 50, "disk": 200, "lacks": 75, "together": 2,
    "files": 25, "mutants": 1_000, "types": 300, "manifests": 100, "fields": 1_000, "pictures": 2_060, "numbers": 150,
    "readers": 8, "runs": 2_700, "remotes": 65, "requests": 150,
}  # fmt: skip
SEED = 20_261
SMALL = {name: experiment for name, experiment in EXPERIMENTS.items() if experiment.small is not None}


def test_every_experiment_is_run_here_but_those_that_mount_disks_or_start_clusters():
    assert LEAST.keys() == SMALL.keys() == EXPERIMENTS.keys() - {"ext4", "clusters"}


def tried(name, folder):
    """The result of a small run of an experiment."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (strange_files, strange_manifests, strange_remotes):
            patch.setattr(module, "SECONDS", 60)  # of a processor, which a busy machine slows; make torture takes 1
        patch.setattr(bit_rot, "WHOLE", 5)  # each starts a process that loads h5py
        return SMALL[name].run(folder, SMALL[name].small, SEED)


@pytest.mark.parametrize("name", SMALL)
def test_promise(name, tmp_path, small_process):
    result = small_process(tried, name, tmp_path)
    print(f"{name}, seed {SEED}: {SMALL[name].promise}: {result.tried} cases, {result.counts}")
    assert not result.failures, result.failures[:5]
    assert result.tried >= LEAST[name]


def row(name, tried, failures=(), seed=1):
    return document.Row(name, Result(name, tried, {"kills | of all": 7}, list(failures)), 12.3, seed)


def test_a_run_replaces_its_own_rows_of_the_record_and_no_others(tmp_path):
    page = tmp_path / "reliability.md"
    document.write(page, [row("rot", 10), row("kills", 50, ["lost"])])
    document.write(page, [row("rot", 2_000, seed=9)])
    lines = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith("| ")]
    assert [cells[0] for cells in lines] == ["| experiment", "| ---", "| kills", "| rot"]
    kills, rot = (dict(zip(document.HEADER, [cell.strip("| ") for cell in cells], strict=True)) for cells in lines[2:])
    assert (kills["cases"], kills["of"], kills["failures"], kills["seed"]) == ("50", "2,000", "1", "1")
    assert (rot["cases"], rot["of"], rot["failures"], rot["seed"]) == ("2,000", "500,000", "0", "9")
    assert kills["counted"] == "7 kills / of all" and len(rot["commit"]) >= 7
