"""A plan that another process wrote, read and checked; without torch, so that what is wrong is told at once."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from cache import manifests
from cache.names import PartName
from cache.schema import HOMES, SEQUENCES, UNLABELED
from cache.store import plans
from common.errors import CacheError, ConfigError
from common.options import as_json, flag_of
from common.records import Dataset, Face, Mention
from extract.config import ExtractConfig
from extract.plan_files import columns, documents
from extract.plan_files.columns import Table
from extract.planning.known import Known
from extract.planning.layout import Borders, Layout
from extract.planning.rows import Rows

DOCUMENT = "document"  # the array that holds JSON (plan_files.documents)
SIGNS = 1 << 26  # brackets and commas of it: each face of --faces has some
LISTS = {"candidates": np.int32, "gold": np.int32, "lexical": np.float32, "lexical_gold": np.float32}
CODE = ("cache", "common", "extract")  # folders whose code a plan depends on
# options that say where, with what and how the work is done: what they decide of numbers stands in recipes
ELSEWHERE = {
    "aliases", "by_plan", "data", "descriptions", "detector", "detector_weights", "device", "explain", "faces", "image",
    "image_weights", "joint", "joint_weights", "json", "name", "plan", "precision", "push", "remote", "reorder",
    "require_signed", "shards", "signers", "slurm", "text", "text_tokens", "text_weights", "wait", "weights", "workers",
    "workers_on",
}  # fmt: skip


@dataclass(frozen=True)
class PlanFile:
    """A plan: the release in row order, its rows, the arrays of candidate lists and their origin, and what is known.

    `listed` are fingerprints of the parts of the cache that was there, `about` what the manifest says of the dataset.
    `listing`: the lists are not those of the cache yet, so that only entities and mentions are made by it.
    """

    release: Dataset
    rows: Rows
    lists: Mapping[str, np.ndarray]
    origin: str
    known: Known
    listed: Mapping[PartName, str]
    about: dict[str, Any]
    listing: bool


def read(config: ExtractConfig, asked: str) -> PlanFile:
    """Return the plan that lies in the folder of a cache, `asked` for as --by-plan has it.

    Raises CacheError for one that is missing or damaged, OverError where the cache has been finished since, ConfigError
    where options or code are not those that planned.
    """
    where = f"the plan {asked[:16]} in {config.folder}/"
    try:
        arrays = safetensors.numpy.load(plans.read(config.folder, asked))
        document = manifests.parse(arrays.pop(DOCUMENT).tobytes(), where, signs=SIGNS)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CacheError(f"{where} is not one that melcache writes: {error}") from error
    documents.check(document, where)
    _refuse_others(config, document)
    try:
        return _opened(config, document, Table(arrays))
    except CacheError as error:
        raise CacheError(f"{where} is not one that melcache writes: {error}") from error


@functools.cache
def code() -> str:
    """Return the sha256 of the code that plans and computes."""
    found, root = hashlib.sha256(), Path(__file__).parents[2]
    for path in sorted(path for folder in CODE for path in (root / folder).rglob("*.py")):
        found.update(f"{path.relative_to(root)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def options(config: ExtractConfig) -> dict[str, Any]:
    """Return the options that decide what is planned, as JSON by the name of their field."""
    return {name: value for name, value in as_json(config).items() if name not in ELSEWHERE}


def _refuse_others(config: ExtractConfig, document: Mapping[str, Any]) -> None:
    """Raise ConfigError where the code or the options of this process are not those that planned."""
    if document["code"] != code():
        raise ConfigError(
            f"this worker runs other code than the process that planned: expected {document['code'][:16]}, found "
            f"{code()[:16]}. Install one version of melcache on all machines"
        )
    flags = {field.name: flag_of(field) for field in fields(config)}
    for name, found in options(config).items():
        if (expected := document["options"].get(name)) != found:
            raise ConfigError(
                f"this worker has other options than its plan: expected {flags[name]} {expected}, found {found}. Start "
                "it with the words of the command that planned"
            )


def _opened(config: ExtractConfig, document: Mapping[str, Any], table: Table) -> PlanFile:
    """Return the plan of a checked document and its arrays.  Raises CacheError for arrays that do not fit together."""
    entities, mentions, pictures = columns.records(table, config.source)
    mentions = _with_faces(mentions, document["faces"])
    borders = {"entity": _borders(table, "entity", len(entities)), "mention": _borders(table, "mention", len(mentions))}
    generations = table.get("generations", np.int64, None, 2).tolist()
    if not generations or generations[-1] != [len(entities), len(mentions)] or generations != sorted(generations):
        raise CacheError("generations do not count the rows")
    layout = Layout(borders, tuple((entity, mention) for entity, mention in generations))
    ranges = borders | {"pair": borders["mention"]}
    parts = document["parts"]
    keys = {name: table.get(f"key.{name}", np.uint8, len(ranges[_home(name)]), 32) for name in parts}
    known = Known(
        parts,
        {name: [key.tobytes().hex() for key in found] for name, found in keys.items()},
        {name: _tokens(table, name) for name, pointer in SEQUENCES.items() if pointer in parts},
    )
    aliases = columns.aliases(table)
    release = Dataset(mentions=mentions, entities=entities, aliases=aliases, **document["release"])
    rows = Rows(entities, mentions, layout, pictures, aliases)
    listed = {PartName(name): fingerprint for name, fingerprint in document["listed"].items()}
    lists = _lists(table, len(mentions), len(entities))
    return PlanFile(release, rows, lists, document["origin"], known, listed, document["about"], document["listing"])


def _lists(table: Table, mentions: int, entities: int) -> dict[str, np.ndarray]:
    candidates = table.between("lists.candidates", np.int32, [mentions, None], -1, entities - 1)
    width = candidates.shape[1]
    shapes = {"candidates": (mentions, width), "gold": (mentions,), "lexical": (mentions, width)}
    shapes["lexical_gold"] = (mentions,)
    table.between("lists.gold", np.int32, [mentions], UNLABELED, width - 1)
    return {name: table.get(f"lists.{name}", kind, *shapes[name]) for name, kind in LISTS.items()}


def _borders(table: Table, name: str, rows: int) -> Borders:
    cuts = table.get(f"{name}.borders", np.int64, None, 2)
    edges = np.concatenate([[0], cuts[:, 1]])
    if edges[-1] != rows or (cuts[:, 0] != edges[:-1]).any() or (np.diff(edges) <= 0).any():
        raise CacheError(f"array {name}.borders does not cut {rows:,} rows into ranges")
    return [(begin, end) for begin, end in cuts.tolist()]


def _tokens(table: Table, name: str) -> np.ndarray:
    return table.between(f"tokens.{name}", np.int64, [None], 0, np.iinfo(np.int32).max)


def _home(part: str) -> str:
    name = PartName(part).table
    return HOMES.get(name, name)


def _with_faces(mentions: list[Mention], faces: list[list[list[Any]]] | None) -> list[Mention]:
    if faces is None:
        return mentions
    if len(faces) != len(mentions):
        raise CacheError(f"faces of {len(faces):,} mentions, expected {len(mentions):,}")
    return [
        replace(mention, faces=tuple(Face(*face) for face in found))
        for mention, found in zip(mentions, faces, strict=True)
    ]
