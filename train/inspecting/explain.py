"""`melcache explain`: the edges that enter each layer of a trained DRIN (DRIN Figure 5), as data."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cache import Reader
from cache.edges import EDGES
from cache.schema import UNLABELED
from common.errors import ConfigError, NotFiniteError
from common.foreign import printable
from common.output import table
from common.records import SPLITS
from train.config.inspecting import ExplainConfig
from train.data.batch import Batch
from train.data.row_names import row_names
from train.data.splits import masks
from train.data.table import Table
from train.inspecting import trained_head
from train.inspecting.finished_run import cache_of, results_of
from train.inspecting.trained_head import Trained

ROWS = 256  # mentions whose edges are computed at once


def explain(config: ExplainConfig) -> dict[str, Any]:
    """Return scores and edges of a mention's candidates, best first.

    An edge is null in a layer that does not read it. Raises ConfigError if the run, the seed or the mention is
    not there, or the cache is not the one that the run was trained on.
    """
    path = trained_head.seed_file(config.run, config.seed)
    about = trained_head.identity_of(path)
    if about["model"] != "drin":
        raise ConfigError(f"{config.run} is a run of {about['model']}, which has no edges to show")
    reader = cache_of(config, about["cache_id"])
    ids = row_names(reader, "mention.ids.id")
    if config.mention not in ids:
        raise ConfigError(
            f"{reader.path} has no mention '{config.mention}'; the first of its {len(ids):,} is '{ids[0]}'"
        )
    row = ids.index(config.mention)
    trained = trained_head.of_run(config.run, results_of(config.run), reader, config.seed)
    return {
        "mention": config.mention,
        "split": [name for bit, name in enumerate(SPLITS) if masks(reader, about["valid_from"])[row] >> bit & 1],
        "labeled": bool(reader.column("pair.candidates.gold")[row] != UNLABELED),
        "surface": row_names(reader, "mention.ids.surface")[row],
        "run": str(config.run),
        "seed": trained.seed,
        "cache_id": reader.id,
        "candidates": sorted(_candidates(trained, reader, row), key=lambda candidate: -candidate["score"]),
    }


@torch.no_grad()
def _candidates(trained: Trained, reader: Reader, row: int) -> list[dict[str, Any]]:
    """Return id, name, score and the edges of each layer of a mention's candidates."""
    table = Table(reader, "drin", torch.device("cpu"), "mmap")
    batch = table.batch(torch.tensor([row]))
    scores = trained.model(batch)[0].tolist()
    layers = [edges.flatten(1).tolist() for edges in _edges(trained, batch)[0]]
    if not all(map(math.isfinite, (score for score, there in zip(scores, batch.present[0], strict=True) if there))):
        raise NotFiniteError(f"scores of mention row {row} are not finite: the weights are not those of a training")
    ids, names = row_names(reader, "entity.ids.id"), row_names(reader, "entity.ids.name")
    return [
        {
            "id": ids[entity],
            "name": names[entity],
            "gold": position == int(batch.gold),
            "score": scores[position],
            "layers": [dict(zip(EDGES, map(_known, edges[position]), strict=True)) for edges in layers],
        }
        for position, entity in enumerate(reader.column("pair.candidates.candidates")[row].tolist())
        if entity >= 0
    ]


@torch.no_grad()
def edge_weights(trained: Trained, reader: Reader, rows: Tensor) -> np.ndarray:
    """Return the edges that enter each layer of a trained DRIN for the lists of mention rows (n,).

    float32 (n, C, L, 4), in the order of EDGES; NaN where a layer does not read an edge.
    """
    table = Table(reader, "drin", torch.device("cpu"), "mmap")
    found = [_edges(trained, batch) for batch in table.batches(rows.split(ROWS))]
    return torch.cat(found).flatten(3).transpose(1, 2).numpy()


def _edges(trained: Trained, batch: Batch) -> Tensor:
    """Return the edges of a batch, (B, L, C, 2, 2)."""
    return torch.stack(list(trained.inside.edge_weights(batch)), 1)


def show(found: dict[str, Any]) -> str:
    """Return what `explain` found as a table: a row per candidate, the edges of each layer."""
    depth = len(found["candidates"][0]["layers"]) if found["candidates"] else 0
    edges = [f"{edge.short} {layer + 1}" for layer in range(depth) for edge in EDGES]
    head = ("candidate", "name", "gold", "score", *edges)
    rows = [
        (
            candidate["id"],
            candidate["name"][:40],
            "*" if candidate["gold"] else "",
            f"{candidate['score']:.3f}",
            *("-" if v is None else f"{v:.3f}" for edges in candidate["layers"] for v in edges.values()),
        )
        for candidate in found["candidates"]
    ]
    return "\n".join(
        [
            f"mention {printable(found['mention'])} ({printable(found['surface'])}) of "
            f"{', '.join(found['split']) or 'no split'}, {'' if found['labeled'] else 'not labeled, '}"
            f"seed {found['seed']} of {printable(found['run'])}",
            table(head, rows),
            "t: text, i: image, mention side first; the number is the layer that the edge enters; -: not read there.",
            "Layer 1 reads the extracted edges, later layers those of Eq. 13; 0: no picture, or the relation "
            "was removed",
        ]
    )


def _known(value: float) -> float | None:
    return None if value != value else value
