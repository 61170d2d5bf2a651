"""What stands before training: the machine, the data, the head's widths, and which seeds go together."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from cache import Reader, kinds, store
from cache.names import ColumnName
from common import devices
from common.errors import ConfigError, UntrainableError
from common.output import say
from train import processes
from train.config import TrainConfig
from train.data.batch import CANDIDATES
from train.data.table import Table
from train.evaluating import leak, protocols
from train.evaluating.ranking import AmongAll, Split, rows_of, split_of
from train.heads.head_config import HeadConfig
from train.heads.models import MODELS, built
from train.heads.registry import HEADS
from train.optimizing.checkpoint import Half
from train.processes import World
from train.rehearsal import rehearse

# field of a head's config: the axis; the last two are widths of the joint encoder's towers
WIDTHS = {
    "text_width": "D", "image_width": "V", "joint_width": "P", "joint_text_width": "L", "joint_image_width": "I",
}  # fmt: skip
Options = TypeVar("Options", bound=HeadConfig | None)
PROBED = 4  # mentions
STACK_SHARE = 0.5  # of the free memory that stacked seeds may take


@dataclass(frozen=True)
class Data:
    """The table with the lists to train on, its mention rows (n,) to train on, and valid and test as they are ranked.

    `watched` is valid as it is ranked after each epoch; a head without weights does without valid. `warnings` is what
    a reader of results must know of the data.
    """

    table: Table
    rows: Tensor
    splits: dict[str, Split | AmongAll]
    watched: Split | AmongAll | None
    warnings: tuple[str, ...] = ()

    @property
    def ranked(self) -> int:
        """How many entities, at most, are ranked for a mention of test."""
        test = self.splits["test"]
        return test.table.entity_count if isinstance(test, AmongAll) else test.table.places


@contextlib.contextmanager
def machine(config: TrainConfig) -> Iterator[tuple[TrainConfig, World, torch.device]]:
    """Set the process up and hold the run's folder; yield the config with its precision, the world, the device."""
    device = devices.choose(config.device)
    devices.use_threads(config.threads)
    if device.type == "cpu":
        devices.keep_freed_memory()
    config = with_precision(config, device)
    world, device = processes.join(device)
    try:
        if config.batch % world.size:
            raise ConfigError(f"--batch {config.batch} cannot be split over {world.size} processes")
        with store.alone(config.folder) if world.first else contextlib.nullcontext():
            yield config, world, device
    finally:
        processes.leave()


def with_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Return the config with the precision that "auto" stands for."""
    if config.precision != "auto":
        return config
    return dataclasses.replace(config, precision="tf32" if device.type == "cuda" else "float32")


def table_of(config: TrainConfig, head: HeadConfig | None, reader: Reader, device: torch.device) -> Table:
    """Return the columns that a head reads, those that its switches and the protocol ask for included."""
    head = head or HeadConfig()
    reads = tuple(name for name in HEADS[config.model].reads if name not in head.absent)
    named = (CANDIDATES,) if config.objective == "in-batch" else ()
    more = (*head.more, *named, *protocols.columns(protocols.ranking_of(config), reader))
    bounds = (head.tokens_read, head.bytes_read)
    given = (device, config.resident, more, *bounds, config.valid_from, reads)
    return Table(reader, config.model, *given, strings=head.reads_strings)


def data_of(config: TrainConfig, head: HeadConfig | None, reader: Reader, table: Table, world: World) -> Data:
    """Return what of the cache is trained on and what it is tested on.

    Raises UntrainableError for a split without a mention to use; a head without weights does without some.
    """
    own, ranking = head or HeadConfig(), protocols.ranking_of(config)
    if config.protocol == "injected":
        table = protocols.injected(ranking, reader, table)
    may_lack_gold = config.protocol in ("retrieved", "whole-kb")
    complete, warnings = _unchanged, ()
    if may_lack_gold and own.leak_gold:
        complete, warnings = functools.partial(leak.with_gold, reader, config.resident), leak.warnings(reader, table)
    table = complete(table)
    without_gold = may_lack_gold and own.learns_without_gold and config.objective == "own"
    rows = table.trainable(table.rows("train"), without_gold=without_gold)
    rehearse(config, head, table, rows[:1])
    found = {"train": rows if config.model in MODELS else table.rows("train")}
    found |= {name: rows_of(table, name, config.protocol) for name in ("valid", "test")}
    for name in HEADS[config.model].needs:
        if not len(found[name]):
            raise nothing_to_use(config, reader, table, name)
    splits = protocols.splits(ranking, reader, table, world, complete)
    if not len(found["valid"]):
        del splits["valid"]
    watched = splits.get("valid") if config.select_among == "all" else split_of(table, "valid")
    return Data(table, rows, splits, watched, warnings)


def _unchanged(table: Table) -> Table:
    return table


def nothing_to_use(config: TrainConfig, reader: Reader, table: Table, split: str) -> UntrainableError:
    """Return the error for a split in which nothing can be used, with what can be done about it."""
    what = f"{reader.path} has no mention to use in its {split} split"
    if count := table.unlabeled(split):
        what += f", where {count:,} are not labeled"
    if split == "valid" and not config.valid_from:
        what += ". Hold a part of train out for it: --valid-from train:0.1"
    if split == "train" and config.model in MODELS and len(table.rows(split)):
        what += ": none of its mentions has gold and another candidate in its list"
    return UntrainableError(what)


def with_widths(head: Options, reader: Reader) -> Options:
    """Return the head's config with the cache's feature widths."""
    if head is None:
        return None
    sizes = {kinds.width_axis(column): reader.shape(column)[-1] for column in reader.columns}
    head = head.with_widths({name: sizes[axis] for name, axis in WIDTHS.items() if axis in sizes})
    return head.without(tuple(_without_pictures(reader)))


def _without_pictures(reader: Reader) -> Iterator[str]:
    """Yield the columns of pictures of which none is there."""
    for name in reader.columns:
        if kinds.neutral(full := ColumnName(name)) and not reader.column(f"{full.part}.present").any():
            yield name


def groups(
    config: TrainConfig, head: HeadConfig, table: Table, seeds: tuple[int, ...], unfinished: Half | None
) -> list[tuple[tuple[int, ...], Half | None]]:
    """Return which seeds are trained together: those half done first, then on CUDA all that fit, else one by one."""
    found = []
    if unfinished is not None:
        first = tuple(unfinished.what["seeds"])
        found.append((first, unfinished))
        seeds = tuple(seed for seed in seeds if seed not in first)
    if not seeds:
        return found
    stackable = MODELS[config.model].stackable
    together = config.together == "yes" and stackable
    if config.together == "yes" and not stackable:
        say(f"seeds of {config.model} cannot be stacked: they are trained one by one")
    if (
        stackable and config.together == "auto" and table.device.type == "cuda"
    ):  # a CPU is busy with one: docs/benchmarks.md
        together = len(seeds) * _bytes_per_seed(config, head, table) < STACK_SHARE * devices.free_memory(table.device)
        if not together and len(seeds) > 1:
            say("seeds are trained one by one: together they may need more than half of the free memory")
    return [*found, *([(seeds, None)] if together else [((seed,), None) for seed in seeds])]


def _bytes_per_seed(config: TrainConfig, head: HeadConfig, table: Table) -> int:
    """Return about what one more seed needs: weights, gradient, two moments, best; a batch as it is and widened; what
    a step keeps to go back, as seen on a few mentions.
    """
    rows, kept = torch.arange(PROBED), {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = table.batch(rows)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model = built(config, head).to(batch.gold.device)
        loss = model.train().objective(batch)
    known = [*model.parameters(), *batch.tensors()]
    weights = sum(parameter.numel() for parameter in model.parameters())
    for tensor in known:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    del loss  # until here the addresses are those of different tensors
    held = sum(tensor.numel() * tensor.element_size() for tensor in batch.tensors())
    return 20 * weights + config.batch * (2 * held + sum(kept.values())) // PROBED
