"""One run: what travels together while a head is trained on a cache, and what identifies it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cache
from cache import Reader
from common.options import as_json
from common.paths import find_cache
from train.config import TrainConfig, decisive, resolved
from train.data import splits
from train.data.not_finite import naming_columns
from train.heads.head_config import HeadConfig
from train.heads.registry import HEADS
from train.optimizing import deciding_code
from train.optimizing.checkpoint import Checkpoints
from train.prepare import Data, data_of, machine, table_of, with_widths
from train.processes import World


@dataclass(frozen=True)
class Run:
    """A head with its options, None for one without weights, on what a cache has for it; and the folder it leaves.

    The config is resolved, the head's widths are the cache's. `world` is this process among others.
    """

    config: TrainConfig
    head: HeadConfig | None
    reader: Reader
    data: Data
    checkpoints: Checkpoints
    world: World

    @property
    def name(self) -> str:
        """The head as tables name it."""
        return name_of(self.config, self.head)


@contextlib.contextmanager
def opened(config: TrainConfig, head: HeadConfig | None) -> Iterator[Run]:
    """Set the machine up, hold the run's folder, and open the cache.  Raises MelcacheError: see common.errors."""
    reader = cache.open(find_cache(config.dataset, config.shards))
    with machine(resolved(config)) as (config, world, device):
        head = with_widths(head, reader)
        table = table_of(config, head, reader, device)
        with naming_columns(table):
            data = data_of(config, head, reader, table, world)
            checkpoints = Checkpoints(config.folder, identity(config, head, reader))
            yield Run(config, head, reader, data, checkpoints, world)


def identity(config: TrainConfig, head: HeadConfig | None, reader: Reader) -> dict[str, Any]:
    """Return what the numbers of a run depend on: two runs with one identity are one run."""
    names = decisive(type(config))
    knobs = {name: value for name, value in as_json(config).items() if name in names}
    own = {f"{config.model}.{name}": value for name, value in as_json(head).items()}
    known = {"cache_id": reader.id, "split": splits.digest_of(reader), "code": code_of(config.model)}
    return {"model": config.model, **known, **knobs, **own}


def code_of(model: str) -> str:
    """Return the digest of the code that decides the numbers of a head."""
    entry = HEADS[model]
    return deciding_code.digest(*entry.files(), network=entry.network)


def name_of(config: TrainConfig, head: HeadConfig | None) -> str:
    """Return the head as tables name it, with what must stand beside its numbers."""
    under = "" if config.objective == "own" else config.objective
    told = ", ".join(filter(None, (head.label if head else "", under)))
    label = f" ({told})" if told else ""
    return config.model + label + (" + lexical" if config.with_lexical else "")
