"""Workers of an engine on a tiny cache while something happens to them, and what must hold when they have ended."""

from functools import partial
from pathlib import Path

from cache.reader import Reader
from common.errors import MelcacheError
from common.paths import names
from torture.clusters import tiny_worker
from torture.clusters.tiny_worker import RANGES, SHARDS
from torture.clusters.watched import Watched, Worker
from workers import launch
from workers.engine import Engine
from workers.work import Work

RANGE_SECONDS = 0.2


class Trial(Watched):
    """Extractions at once by engines, in one folder."""

    def __init__(self, folder: Path, seed: int, *engines: Engine) -> None:
        super().__init__(folder, "tiny", [partial(self._launch, engine) for engine in engines])
        self.seed = seed

    def workers(self, count: int) -> list[Worker]:
        """Wait until so many workers, and one range of each, have begun; return the workers."""
        self.until(lambda: self.begun >= count and len(self.lines("range")) >= count)
        return [Worker(int(pid), *more) for _, pid, *more in self.lines("start")]

    def problems(self, workers: int) -> list[str]:
        """Return what is wrong: with the cache, with how much was computed by so many workers, with what is left."""
        tiny_worker.gate_of(self.alone / "record").touch()
        expected = tiny_worker.work(self.alone / "tiny", self.seed, self.alone / "record", 0)
        found = list(self.failures)
        if (identity := Reader(self.place).id) != expected:
            found.append(f"the id is {identity[:12]}, that of one worker {expected[:12]}")
        if not RANGES <= (computed := len(self.lines("range"))) <= RANGES + workers:
            found.append(f"{computed} ranges computed; {RANGES} there are, for {workers} workers")
        return [*found, *self.left()]

    def _launch(self, engine: Engine) -> None:
        words = (str(self.place), str(self.seed), str(self.record), str(RANGE_SECONDS))
        work = Work("torture.clusters.tiny_worker", words, words, self.place, "shards", SHARDS, self._look)
        try:
            if not launch.run(engine, work):
                self.failures.append("the launcher has not waited")
        except MelcacheError as error:
            self.failures.append(str(error))

    def _look(self) -> int:
        return sum(name.endswith(".h5") for name in names(self.place))
