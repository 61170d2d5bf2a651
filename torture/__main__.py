"""`python -m torture`: every experiment, large; prints its seed and records what it counted."""

import argparse
import datetime
import platform
import random
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from common.log import duration, say, table
from torture import crash, extractors, faults, flips, hostile, kills, manifests, numbers, readers
from torture.world import Result

# name: the promise, the experiment in make test, and in make torture; each takes a folder and a seed
Experiment = Callable[[Path, int], Result]
EXPERIMENTS: dict[str, tuple[str, Experiment, Experiment]] = {
    "kills": (
        "a kill at any moment costs at most the shard in hand",
        lambda folder, seed: kills.run(folder, 50, seed),
        lambda folder, seed: kills.run(folder, 2_000, seed, kills.HARSH),
    ),
    "power": (
        "done means done: no state after a power cut opens as complete and is wrong",
        lambda folder, seed: crash.run(folder, 5_000, seed),
        lambda folder, seed: crash.run(folder, 200_000, seed),
    ),
    "rot": (
        "no silent wrong number",
        lambda folder, seed: flips.run(folder, 10_000, seed),
        lambda folder, seed: flips.run(folder, 500_000, seed),
    ),
    "disk": (
        "a full or failing disk is one clear line",
        faults.run,
        lambda folder, seed: faults.run(folder, seed, faults.MORE),
    ),
    "together": (
        "two extractors at once, also without locks",
        lambda folder, seed: extractors.run(folder, 6, seed),
        lambda folder, seed: extractors.run(folder, 500, seed),
    ),
    "files": (
        "opening a stranger's cache is safe: hostile HDF5 files",
        hostile.run,
        hostile.run,
    ),
    "mutants": (
        "opening a stranger's cache is safe: damaged hostile files",
        lambda folder, seed: hostile.mutate(folder, 1_000, seed),
        lambda folder, seed: hostile.mutate(folder, 100_000, seed),
    ),
    "manifests": ("opening a stranger's cache is safe: hostile manifests", manifests.run, manifests.run),
    "fields": (
        "opening a stranger's cache is safe: random manifests",
        lambda folder, seed: manifests.mutate(folder, 1_000, seed),
        lambda folder, seed: manifests.mutate(folder, 100_000, seed),
    ),
    "numbers": ("only finite numbers in range, each in its row", numbers.run, numbers.run),
    "readers": (
        "bounded memory: each reader's own",
        lambda folder, seed: readers.run(folder, 16, 78_000, seed),
        lambda folder, seed: readers.run(folder, 64, 500_000, seed),
    ),
}


def main() -> None:
    """Run the experiments asked for; exit 1 if one finds a broken promise."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--only", choices=EXPERIMENTS, action="append", help="an experiment; repeat it")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30), help="default: random")
    parser.add_argument("--small", action="store_true", help="as make test runs them")
    parser.add_argument("--record", type=Path, help="write the results into this file")
    given = parser.parse_args()
    say(f"seed {given.seed}")
    rows, failures = [], []
    for name in given.only or EXPERIMENTS:
        promise, small, large = EXPERIMENTS[name]
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            result = (small if given.small else large)(Path(folder), given.seed)
        counts = ", ".join(f"{count:,} {what}" for what, count in result.counts.items())
        rows.append((name, promise, f"{result.tried:,}", counts, str(len(result.failures)), time.monotonic() - start))
        failures += [f"{name}: {failure}" for failure in result.failures]
        say(f"{name}: {result.tried:,} cases, {len(result.failures)} failures, {duration(rows[-1][-1])}")
    shown = [(*row[:-1], duration(row[-1])) for row in rows]
    print(table(("experiment", "promise", "cases", "counted", "failures", "time"), shown))
    if given.record:
        given.record.write_text(_document(shown, given.seed), encoding="utf-8")
    if failures:
        print("\n".join(failures[:50]))
        raise SystemExit(1)


def _document(rows: list[tuple[str, ...]], seed: int) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    lines = [
        "# Reliability",
        "",
        "Written by `make torture`, not by hand. What each experiment does stands in its module under `torture/`;",
        "`make test` runs all of them small, and tests/test_sabotage.py shows that each can fail.",
        "",
        f"{datetime.date.today()}, commit {commit}, seed {seed}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}.",
        "",
        "| experiment | promise | cases | counted | failures | time |",
        "|---|---|---|---|---|---|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
