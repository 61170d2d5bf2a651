"""Every experiment: the promise it tries, how, and how often in `make test` and in `make torture`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torture.clusters import engines
from torture.machines import (
    beside,
    bit_rot,
    ext4,
    failing_disk,
    kills,
    lacking_disk,
    many_extractors,
    many_readers,
    power_cuts,
    unlisted_rot,
)
from torture.strangers import (
    bad_numbers,
    bad_pictures,
    strange_files,
    strange_manifests,
    strange_remotes,
    strange_requests,
    strange_run_folders,
    strange_types,
)
from torture.tiny_cache import Result

Run = Callable[[Path, int, int], Result]  # in an empty folder, so many cases, with a seed


@dataclass(frozen=True)
class Experiment:
    """What is promised, and how it is tried.

    `small` and `large` are the cases of `make test`, None where it is not in it, and of `make torture`; where an
    experiment has a list of its own, they say nothing. `harsh` is done in place of `run` in make torture.
    """

    promise: str
    run: Run
    small: int | None = 0
    large: int = 0
    harsh: Run | None = None


EXPERIMENTS = {
    "kills": Experiment(
        "1. A kill at any moment costs at most the shard in hand",
        kills.run,
        50,
        2_000,
        lambda folder, count, seed: kills.run(folder, count, seed, harsh=True),
    ),
    "beside": Experiment(
        "1. The same where shards are shared with a cache beside, which may rot meanwhile", beside.run, 20, 2_000
    ),
    "power": Experiment("2. Done means done: every state that a power cut may leave", power_cuts.run, 1_000, 200_000),
    "ext4": Experiment("2. and 4. The same on a real disk: power cuts, and no room", ext4.run, None, 300),
    "rot": Experiment("3. No silent wrong number", bit_rot.run, 2_000, 500_000),
    "unlisted": Experiment(
        "3. The same before a manifest lists them: finished shards of a killed run", unlisted_rot.run, 50, 20_000
    ),
    "disk": Experiment("4. A full or failing disk is one clear line", failing_disk.run, 1, len(failing_disk.MORE)),
    "lacks": Experiment(
        "4. A file system that lacks something is one warning", lambda folder, _, seed: lacking_disk.run(folder, seed)
    ),
    "together": Experiment(
        "5. Eight extractors at once, every other time without locks, else half in PID namespaces",
        many_extractors.run,
        2,
        500,
    ),
    "files": Experiment(
        "6. Opening a stranger's cache is safe: HDF5 files with tricks",
        lambda folder, _, seed: strange_files.run(folder, seed, pulled=4),
        harsh=lambda folder, _, seed: strange_files.run(folder, seed),
    ),
    "mutants": Experiment("6. The same files, damaged", strange_files.mutate, 1_000, 100_000),
    "types": Experiment(
        "6. Number types of strangers: what is let pass, HDF5 reads as melcache does", strange_types.run, 300, 100_000
    ),
    "manifests": Experiment("6. Manifests with tricks", lambda folder, _, seed: strange_manifests.run(folder, seed)),
    "fields": Experiment(
        "6. Manifests changed at random, with digests that fit", strange_manifests.mutate, 1_000, 100_000
    ),
    "pictures": Experiment("8. Bad pictures never stop a run and never hide", bad_pictures.run, 2_000, 200_000),
    "numbers": Experiment(
        "9. Only finite numbers in range, each in its row", lambda folder, _, seed: bad_numbers.run(folder, seed)
    ),
    "readers": Experiment(
        "10. Bounded memory: readers of one cache at once",
        lambda folder, count, seed: many_readers.run(folder, count, 10, 3_000, seed),
        8,
        64,
        lambda folder, count, seed: many_readers.run(folder, count, 100_000, 110_000, seed),
    ),
    "runs": Experiment(
        "11. Run folders: no silent wrong number, and a stranger's values are refused",
        strange_run_folders.run,
        2_000,
        200_000,
    ),
    "remotes": Experiment("12. A remote never ends an extraction", strange_remotes.run, 10, 2_000),
    "requests": Experiment("13. A server answers whatever it is sent, and goes on", strange_requests.run, 150, 10_000),
    "clusters": Experiment(
        "14. Workers may die, be preempted or canceled: the cache is that of one, and nothing is left behind",
        engines.run,
        None,
        36,
    ),
}
