"""Opening, training, ranking, search by the number of entities: `python -m bench.sizes.growth CACHE CACHE`, a table.

Caches hold what the head bert reads: `melcache synth FOLDER --for bert --entities E --mentions 5000 --candidates 10
--text-width 384 --signal 0.5`. Each is measured in a process of its own, features mapped from the shards; memory is the
largest that the process had of its own (RssAnon: without the pages of mapped files, which the system takes back) beside
that of the libraries; of the whole process where it trains. Seconds are those of the clock and, in brackets, of the
processor.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cache
from bench.sizes.planning import ROOT, status
from cache.reader import Reader
from common import console
from extract.retrieval.faiss_index import Approximate
from extract.retrieval.nearest import Mapped, Nearest
from train.data.table import Table
from train.evaluating import whole_kb
from train.evaluating.whole_kb import Towers
from train.processes import World

RANKED, NEAREST, QUERIES = 1_000, 10, 21
ENTITIES, MENTIONS = "entity.text.sentence", "mention.text.span"


def main() -> None:
    """Measure caches, or one if it is the only one, as JSON; print a table."""
    paths = sys.argv[1:]
    if paths[:1] == ["--one"]:
        console.show_json(measure(Path(paths[1])))
        return
    command = [sys.executable, "-m", "bench.sizes.growth", "--one"]
    told = [subprocess.run([*command, path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True) for path in paths]
    found = [json.loads(one.stdout) for one in told]
    for row in [list(found[0]), ["---"] * len(found[0]), *(list(one.values()) for one in found)]:
        console.show(f"| {' | '.join(row)} |")


def measure(path: Path) -> dict[str, str]:
    """Return what opening, an epoch's gathers, ranks among all entities and single queries take."""
    first = status("RssAnon")
    found: dict[str, str] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        with Watch() as watch:
            result = function()
        found[name] = f"{watch.seconds:,.2f} s ({watch.cpu:,.2f}), {(watch.most - first) >> 20:,} MB"
        return result

    reader: Reader = timed("open", lambda: cache.open(path))
    found = {"entities": f"{reader.manifest.tables['entity']:,}"} | found
    table: Table = timed("table, checked", lambda: table_of(reader))
    rows = torch.arange(min(RANKED, table.mention_count))
    timed(f"ranks of {len(rows):,} mentions", lambda: whole_kb.ranks(cosines(table), table, rows, World()))
    order = np.arange(reader.manifest.tables["entity"])
    nearest: Nearest = timed("codes", lambda: Nearest(Mapped(reader.pieces(ENTITIES, check=False)), order))
    asked = reader.read(MENTIONS)[:QUERIES]
    found["one query"] = query(nearest, asked)
    return found | {"train --epochs 1": trained(path)}


def table_of(reader: Reader) -> Table:
    """Return a cache's table as training maps it."""
    return Table(reader, "bert", torch.device("cpu"), "mmap", more=("mention.ids.gold",))


def trained(path: Path) -> str:
    """Return what an epoch of the head bert takes as a command, with its test on the lists."""
    with tempfile.TemporaryDirectory() as folder:
        options = "--model bert --epochs 1 --resident mmap --device cpu".split()
        command = [sys.executable, "-m", "melcache", "train", "--dataset", str(path), *options, "--run", folder]
        start, most = time.perf_counter(), 0
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while (ended := os.wait4(child.pid, os.WNOHANG))[0] == 0:
            most = max(most, status("RssAnon", child.pid))
            time.sleep(0.02)
    assert ended[1] == 0, command
    spent = ended[2].ru_utime + ended[2].ru_stime
    return f"{time.perf_counter() - start:,.1f} s ({spent:,.1f}), {most >> 20:,} MB"


def cosines(table: Table) -> Towers:
    """Return towers of stored vectors: what is measured is reading and ranking, not a head."""

    def of(column: str) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda rows: torch.nn.functional.normalize(table.features([column], rows)[column], dim=-1)

    return Towers(of(MENTIONS), of(ENTITIES))


def query(nearest: Nearest | Approximate, mentions: np.ndarray) -> str:
    """Return the median seconds of a search for one mention."""
    spent: list[tuple[float, float]] = []
    for mention in mentions:
        with Watch() as watch:
            nearest.best(mention[None], NEAREST, lambda count: None)
        spent.append((watch.seconds, watch.cpu))
    clock, processor = (statistics.median(some) for some in zip(*spent, strict=True))
    return f"{clock:.3f} s ({processor:.3f})"


class Watch:
    """Seconds of the clock and of the processor, and the most memory of its own that the process has meanwhile."""

    def __enter__(self) -> "Watch":
        self.most, self._ended = status("RssAnon"), threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._looking.start()
        self._start, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._start, time.process_time() - self._cpu
        self._ended.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, status("RssAnon"))


if __name__ == "__main__":
    main()
