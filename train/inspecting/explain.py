"""`melcache explain`: the edges that enter each layer of a trained DRIN (DRIN Figure 5), as data."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cache import Reader
from cache.edges import EDGES
from cache.schema import UNLABELED
from common.errors import ConfigError, NotFiniteError
from common.foreign import printable
from common.options import from_json
from common.output import table
from common.records import SPLITS
from train.config import ExplainConfig
from train.data.row_names import row_names
from train.data.splits import masks
from train.data.table import Table
from train.heads.base import Head
from train.heads.drin.config import DrinConfig
from train.heads.models import build
from train.heads.with_lexical import WithLexical
from train.heads.with_objective import WithObjective
from train.inspecting.finished_run import cache_of
from train.optimizing import checkpoint
from train.optimizing.head_weights import weights_of
from train.prepare import with_widths
from train.run_folder import run_files, run_schema
from train.run_folder.run_files import Layout, TensorFile

MAX_WIDTH = 1 << 24  # as of a column


def explain(config: ExplainConfig) -> dict[str, Any]:
    """Return scores and edges of a mention's candidates, best first.

    An edge is null in a layer that does not read it. Raises ConfigError if the run, the seed or the mention is
    not there, or the cache is not the one that the run was trained on.
    """
    path = _seed_file(config)
    with run_files.open_tensors(path) as file:
        about, result = run_schema.identity(file.about), run_schema.seed_result(file.what)
    if about["model"] != "drin":
        raise ConfigError(f"{config.run} is a run of {about['model']}, which has no edges to show")
    reader = cache_of(config, about["cache_id"])
    ids = row_names(reader, "mention.ids.id")
    if config.mention not in ids:
        raise ConfigError(
            f"{reader.path} has no mention '{config.mention}'; the first of its {len(ids):,} is '{ids[0]}'"
        )
    row = ids.index(config.mention)
    model = _model(path, reader)
    return {
        "mention": config.mention,
        "split": [name for bit, name in enumerate(SPLITS) if masks(reader, about["valid_from"])[row] >> bit & 1],
        "labeled": bool(reader.column("pair.candidates.gold")[row] != UNLABELED),
        "surface": row_names(reader, "mention.ids.surface")[row],
        "run": str(config.run),
        "seed": result["seed"],
        "cache_id": reader.id,
        "candidates": sorted(_candidates(model, reader, row), key=lambda candidate: -candidate["score"]),
    }


@torch.no_grad()
def _candidates(model: nn.Module, reader: Reader, row: int) -> list[dict[str, Any]]:
    """Return id, name, score and the edges of each layer of a mention's candidates."""
    batch = Table(reader, "drin", torch.device("cpu"), "mmap").batch(torch.tensor([row]))
    head = model
    while isinstance(head, WithLexical | WithObjective):
        head = head.head
    scores, layers = model(batch)[0].tolist(), [edges[0].flatten(1).tolist() for edges in head.edge_weights(batch)]
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


def _model(path: Path, reader: Reader) -> Head:
    """Return the head that a seed's file holds, whose widths must be the cache's."""

    def wanted(file: TensorFile) -> Layout:
        head = _head(file.about)
        if head != with_widths(head, reader) or head.layers > len(file.stored) or head.width > MAX_WIDTH:
            raise ConfigError("it is not of a head that this cache can feed")
        return weights_of("drin", head, **_around(file.about))

    tensors, about, _ = checkpoint.load(path, wanted)
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ConfigError(f"{path} holds numbers of {broken[0]} that are not finite. Train it with --fresh")
    model = build("drin", _head(about), **_around(about))
    model.load_state_dict(tensors)
    return model


def _seed_file(config: ExplainConfig) -> Path:
    found = run_files.names(config.run, run_files.SEED)
    seed = min(found, default=None) if config.seed is None else config.seed
    if seed not in found:
        which = "" if config.seed is None else f" {config.seed}"
        raise ConfigError(
            f"{config.run} holds no finished seed{which}; a run of `melcache train --model drin` writes "
            "seed-*.safetensors"
        )
    return found[seed]


def _head(about: dict[str, Any]) -> DrinConfig:
    own = {name.removeprefix("drin."): value for name, value in about.items() if name.startswith("drin.")}
    return from_json(DrinConfig, own)


def _around(about: dict[str, Any]) -> dict[str, Any]:
    return {"with_lexical": about["with_lexical"], "objective": about.get("objective", "own")}


def _known(value: float) -> float | None:
    return None if value != value else value
