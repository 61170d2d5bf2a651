"""Score a split: every distinct entity is projected once, however many mentions it is a candidate of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from common import device as devices
from train import metrics
from train.config import Protocol
from train.distributed import World
from train.models.head import Head
from train.table import Table

SLOTS = {"cpu": 6_400, "cuda": 131_072}  # candidates scored at once
CHUNK = 8_192  # entities projected at once
SHARE = 0.25  # of the free memory that projected entities may take


@dataclass(frozen=True)
class Split:
    """The mentions of a split, `rows` (n,); their distinct entities (E,) and where among those each candidate stands.

    `places` is (n, C), on the device.
    """

    rows: Tensor
    entities: Tensor
    places: Tensor


def split_of(table: Table, name: str, protocol: Protocol = "retrieved") -> Split:
    """Return the mentions of a split that the protocol counts."""
    rows = table.rows(name)
    if protocol == "given":
        rows = rows[(table.gold[rows.to(table.device)] >= 0).cpu()]
    candidates = table.candidates[rows.to(table.device)].clamp(min=0)
    entities, places = torch.unique(candidates, return_inverse=True)
    return Split(rows, entities.long().cpu(), places)


@torch.no_grad()  # not inference_mode, whose tensors a head could never use in training
def rank(model: Head, table: Table, split: Split, world: World) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks of a split's mentions, (n,) twice; in float32, whatever the precision of training."""
    was_training = model.training
    model.eval()
    projected = _project(model, table, split.entities)
    size = max(1, SLOTS[table.device.type] // table.candidates.shape[1])
    better = torch.zeros(len(split.rows), dtype=torch.int64, device=table.device)
    tied = torch.zeros_like(better)
    own = torch.arange(len(split.rows))[world.rank :: world.size]
    groups = own.split(size)
    without = () if projected is None else model.projects
    for places, batch in zip(groups, table.batches((split.rows[group] for group in groups), without), strict=True):
        there = places.to(table.device)
        vectors = None if projected is None else projected[split.places[there]]
        better[there], tied[there] = metrics.ranks(model(batch, vectors), batch.gold, batch.present)
    model.train(was_training)
    world.add([better, tied])
    return better, tied


def evaluate(model: Head, table: Table, split: Split, world: World) -> dict[str, float]:
    """Return the metrics of a split, ties in expectation."""
    return metrics.summarize(*rank(model, table, split, world))


def rank_scores(scores: Tensor, table: Table, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return metrics.ranks of the scores (n, C) of mention rows (n,)."""
    there = rows.to(table.device)
    return metrics.ranks(scores, table.gold[there], table.present[there])


def measure(scores: Tensor, table: Table, rows: Tensor) -> dict[str, float]:
    """Return the metrics of the scores (n, C) of mention rows (n,)."""
    return metrics.summarize(*rank_scores(scores, table, rows))


def _project(model: Head, table: Table, entities: Tensor) -> Tensor | None:
    """Return what the head projects of each entity, (E, D); None if it projects none, or too much for the memory."""
    if not model.projects:
        return None
    chunks, needed = [], 0
    for rows in entities.split(CHUNK):
        chunks.append(model.project(table.entities(model.projects, rows)))
        needed = chunks[0].numel() * chunks[0].element_size() * len(entities) // len(chunks[0])
        if len(chunks) == 1 and 2 * needed > SHARE * devices.free_memory(table.device):
            return None
    return torch.cat(chunks)
