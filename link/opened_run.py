"""A finished run that new mentions can be linked with, and the cache that its head reads."""

from collections.abc import Iterable, Mapping
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
from train import own_head
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.inspecting.finished_run import results_of
from train.run_folder import run_files


@dataclass(frozen=True)
class OpenedRun:
    """A run's folder, its results and the cache of its dataset, which may have grown since.

    `head` are the options of its head, None of one without weights.
    """

    folder: Path
    results: dict[str, Any]
    reader: Reader
    head: HeadConfig | None

    @classmethod
    def of(cls, run: Path, dataset: str | None, shards: Path | None, model: str | None = None) -> "OpenedRun":
        """Open a run; `model` is the file of its head, where that is the user's own.

        Raises ConfigError for one that nothing can be linked with, CacheError for a cache that is not there or lacks
        what the head reads.
        """
        results = results_of(run)
        if results is None:
            raise ConfigError(f"{run} holds no finished run: no results.json. `melcache train` writes one")
        if model is not None:
            own_head.load_for(model, run, results["model"])
        head, told = _options(run, results), results["config"]
        if head is not None and head.leak_gold:
            raise ConfigError(f"{run} was trained with gold in its graph (--leak-gold): what it ranks is not of use")
        where = find_cache(dataset or told["dataset"], Path(shards or told["shards"]))
        opened = cls(run, results, cache.open(where), head)
        opened.reader.expect(opened.columns(), results["model"], results["model"])
        opened._tell_dataset()
        return opened

    @property
    def reads_lists(self) -> bool:
        """Whether lists decide what the run says: they are ranked, or strings are compared with those in them."""
        return self.results["ranked"] == "list" or (self.head is not None and self.head.reads_strings)

    def columns(self) -> list[str]:
        """Return the columns that the head reads, and those that edges which it or its protocol reads are made of."""
        found, head = [*HEADS[self.results["model"]].reads], self.head or HeadConfig()
        found = [name for name in (*found, *head.more) if name not in head.absent]
        edges = self.results["ranked"] == "best" or any(ColumnName(name).part == ALIGNMENT for name in found)
        return list(dict.fromkeys([*found, *(ALIGNMENT_READS if edges else ())]))

    def _tell_dataset(self) -> None:
        """Say that entities are of another dataset than the run's: with the same recipes a head compares those, too."""
        name = self.reader.manifest.dataset.name
        if name != self.results["dataset"]:
            say(f"warning: {self.folder} was trained on {self.results['dataset']}, and links among entities of {name}")

    def check_weights(self, seed: str) -> None:
        """Raise ConfigError for a seed that the run does not have, and for weights that are damaged or of another."""
        from train.inspecting import trained_head  # torch: what is wrong so far was told without it
        from train.judging.predict import seeds_of

        seeds = seeds_of(self.folder, self.results, seed)
        for one in seeds if self.head is not None else ():
            trained_head.of_run(self.folder, self.results, self.reader, one)

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


def _options(run: Path, results: Mapping[str, Any]) -> HeadConfig | None:
    """Return the options that a run's head was trained with.  Raises ConfigError for one that is not known here."""
    model = results["model"]
    if model not in HEADS:
        raise ConfigError(
            f"{run} is of the head {model!r:.60}, which melcache does not have: name its file with --model "
            f"{model:.60}.py"
        )
    entry = HEADS[model]
    if entry.config is None:
        return None
    own = results["config"].get(model)
    with run_files.naming(run / run_files.RESULTS):
        if not isinstance(own, dict):
            raise ConfigError("it does not say with which options its head was trained")
        return from_json(entry.config, own)
