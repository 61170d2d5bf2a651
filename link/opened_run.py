"""A finished run that new mentions can be linked with, and the cache that its head reads."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cache
from cache.edges import ALIGNMENT, ALIGNMENT_READS
from cache.kinds import KINDS
from cache.names import ColumnName, PartName
from cache.reader import Reader
from common.errors import CacheError, ConfigError
from common.options import from_json
from common.output import say
from common.paths import find_cache
from train.heads.registry import HEADS
from train.inspecting.finished_run import results_of
from train.run_folder import run_files


@dataclass(frozen=True)
class OpenedRun:
    """A run's folder, its results and the cache of its dataset, which may have grown since."""

    folder: Path
    results: dict[str, Any]
    reader: Reader

    @classmethod
    def of(cls, run: Path, dataset: str | None, shards: Path | None) -> "OpenedRun":
        """Open a run.

        Raises ConfigError for one that nothing can be linked with, CacheError for a cache that is not there.
        """
        results = results_of(run)
        if results is None:
            raise ConfigError(f"{run} holds no finished run: no results.json. `melcache train` writes one")
        model, protocol = results["model"], results["protocol"]
        if model not in HEADS:
            raise ConfigError(
                f"{run} is of a head of one's own, {model:.60}; heads of melcache link: {', '.join(HEADS)}"
            )
        if not HEADS[model].network:
            raise ConfigError(f"{run} is of {model}, which has no weights: link with a trained head, such as drin")
        if results["ranked"] != "list":
            raise ConfigError(f"{run} ranks other entities than those of lists (protocol {protocol}): train without it")
        told = results["config"]
        where = find_cache(dataset or told["dataset"], Path(shards or told["shards"]))
        opened = cls(run, results, cache.open(where))
        opened._tell_dataset()
        return opened

    def columns(self) -> list[str]:
        """Return the columns that the head reads, and those that edges which it reads are made of."""
        entry = HEADS[self.results["model"]]
        assert entry.config is not None, "a head with weights has options"
        own = self.results["config"].get(entry.name)
        with run_files.naming(self.folder / run_files.RESULTS):
            if not isinstance(own, dict):
                raise ConfigError("it does not say with which options its head was trained")
            head = from_json(entry.config, own)
        found = [name for name in (*entry.reads, *head.more) if name not in head.absent]
        edges = any(ColumnName(name).part == ALIGNMENT for name in found)
        return list(dict.fromkeys([*found, *(ALIGNMENT_READS if edges else ())]))

    def _tell_dataset(self) -> None:
        """Say that entities are of another dataset than the run's: with the same recipes a head compares those, too."""
        name = self.reader.manifest.dataset.name
        if name != self.results["dataset"]:
            say(f"warning: {self.folder} was trained on {self.results['dataset']}, and links among entities of {name}")

    def check_recipes(self, columns: Iterable[str]) -> None:
        """Raise CacheError where features were made by other recipes than those that the head was trained on.

        What was added to a cache since leaves its recipes as they are.
        """
        if self.reader.id == self.results["cache_id"]:
            return
        parts = sorted({ColumnName(name).part for name in columns})
        made = [part for part in parts if KINDS[part].role or KINDS[part].inputs]
        known = self.results.get("parts")
        if known is None:
            say(
                f"warning: {self.reader.path} has changed since {self.folder} was trained, which does not say by which "
                "recipes its features were made; those of the cache are trusted"
            )
            return
        for part in made:
            self._check_part(part, known.get(part))

    def _check_part(self, part: PartName, trained: str | None) -> None:
        now = self.reader.manifest.parts[part].origin
        if trained != now:
            raise CacheError(
                f"{self.reader.path}: {part} is made by another recipe ({now[:12]}) than the one that "
                f"{self.folder} was trained on ({str(trained)[:12]}). Name the cache of the run with --dataset and "
                "--shards, or train on this one"
            )
