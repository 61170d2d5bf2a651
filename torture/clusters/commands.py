"""Real commands with workers on an engine: series of runs, a search, an extraction.  Each is also done by one process.

What both leave must be equal but for times, and each seed and range finished once.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import numpy as tensors

from cache.reader import Reader
from cache.writing import synth
from torture.clusters import noted
from torture.clusters.tiny_worker import gate_of
from torture.clusters.watched import SECONDS, Watched, Worker
from workers.work import ROOT

TIMES = ("seconds", "digest", "run")  # of a result, and what depends on them or on the folder
SMALL = ("--epochs", "2", "--width", "8", "--device", "cpu", "--threads", "1")
RUNS = {
    "compare": ("--models", "bert,drin", "--seeds", "0,1,2", *SMALL),
    "ablate": ("--model", "drin", "--seeds", "0", *SMALL),
    "sweep": ("--model", "bert", "--vary", "learning-rate=1e-3,1e-2", "--sampler", "grid", "--trials", "2",
              "--seeds", "0,1,2", *SMALL),
}  # fmt: skip
ENCODED = ("--dataset", "demo", "--weights", "random-tiny", "--limit", "60", "--shard-rows", "32")
NAMES = (*RUNS, "extract")


class Commanded(Watched):
    """A command with workers; `name` is one of NAMES, `engine` what --workers-on and its like say."""

    def __init__(self, folder: Path, name: str, seed: int, engine: tuple[str, ...]) -> None:
        launchers = [lambda: self._run(self.record, self.place, *engine), self._alone]
        super().__init__(folder, "demo" if name == "extract" else "run", launchers)
        self.name = name
        if name != "extract":
            synth.write(folder.parent / "toy", synth.Synthetic(60, 40, 5, 0.5, seed, "bert,drin", 8, 16, joint_width=8))

    def workers(self, count: int) -> list[Worker]:
        """Wait until so many workers have begun a range or a run; return them in the order of their places."""
        self.until(lambda: len(self._at_work()) >= count)
        return self._at_work()

    def problems(self, disturbed: int) -> list[str]:
        """Return what is wrong: with what was made, how often, `disturbed` times for nothing, and what is left."""
        alone = self.alone / self.place.name
        found = list(self.failures)
        if not found:
            found += _extracted(self.place, alone) if self.name == "extract" else _trained(self.place, alone)
        ended, expected = (_ended(folder / "record") for folder in (self.record.parent, self.alone))
        if ended != expected:
            found.append(f"finished otherwise than once each: {dict((ended - expected) + (expected - ended))}")
        if (more := len(self.lines("range")) - expected.total()) > disturbed:
            found.append(f"{more} begun in vain, expected at most {disturbed}")
        return [*found, *self.left()]

    def _at_work(self) -> list[Worker]:
        lines = self.lines("range")
        return sorted((Worker(int(pid), *more) for _, _, pid, *more in lines), key=lambda worker: worker.place)

    def _alone(self) -> None:
        record = self.alone / "record"
        gate_of(record).touch()
        self._run(record, self.alone / self.place.name)

    def _run(self, record: Path, place: Path, *engine: str) -> None:
        """Run the command to its end."""
        if self.name == "extract":
            words = ["extract", *ENCODED, "--shards", str(place.parent)]
        else:
            toy = self.record.parent.parent / "toy"
            words = ["train", self.name, "--dataset", str(toy), "--run", str(place), *RUNS[self.name]]
        given = os.environ | {noted.RECORD: str(record), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-m", "torture.clusters.noted", *words, *engine], env=given,
                              capture_output=True, text=True, timeout=2 * SECONDS)  # fmt: skip
        if done.returncode:
            self.failures.append(f"status {done.returncode}: {' / '.join(done.stderr.splitlines()[-3:])}")


def _ended(record: Path) -> Counter[str]:
    return Counter(line for line in record.read_text().splitlines() if line.startswith("ended"))


def _extracted(place: Path, alone: Path) -> list[str]:
    found = []
    if (one := Reader(place).id) != (other := Reader(alone).id):
        found.append(f"the id is {one[:12]}, that of one process {other[:12]}")
    here, there = ({path.name: path.read_bytes() for path in folder.glob("*.h5")} for folder in (place, alone))
    return [*found, *([] if here == there else ["shards differ from those of one process"])]


def _trained(place: Path, alone: Path) -> list[str]:
    """Return in what the files of a series differ from those that one process leaves."""
    here, there = (
        {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
        for folder in (place, alone)
    )
    found = [f"{name}: of one alone" for name in sorted(here.keys() ^ there.keys())]
    return found + [
        f"{name} differs" for name in sorted(here.keys() & there.keys()) if _read(here[name]) != _read(there[name])
    ]


def _read(path: Path) -> Any:
    """Return the content of a file without times."""
    if path.suffix == ".safetensors":
        return {name: (array.dtype, array.shape, array.tobytes()) for name, array in tensors.load_file(path).items()}
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_bytes()))
    return path.read_bytes() if path.suffix == ".jsonl" else None  # tables show times


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
