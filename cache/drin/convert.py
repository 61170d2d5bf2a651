"""From DRIN's arrays to a cache: one part after the other, one shard at a time; `run` is the function to read."""

import datetime
import itertools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import manifests, store
from cache.drin import edges, lists
from cache.drin.about import SOURCE, about
from cache.drin.columns import Columns, Source
from cache.drin.release import INDEX, SLOTS, Release
from cache.fingerprint import content_hash, shard_key
from cache.names import PartName
from cache.schema import TABLES
from cache.writing.draft import Draft
from cache.writing.writer import PartPlan, Shard, ShardPlan, columns_of
from common.errors import ConfigError
from common.output import Progress, duration, size
from common.paths import check_name, exists

EDITION = 2  # raise it whenever the numbers made change: finished shards of an older one are then not taken
SHARD_ROWS = 8192
SHARD_BYTES = 64 << 20
THREADS = 4  # that hash the arrays

# what each part reads, beside the lists
READS = {
    "mention.ids": (),
    "entity.ids": (),
    "pair.candidates": (),
    "mention.text": ("mention-text-feature", "mention-text-mask", "start-pos", "end-pos"),
    "entity.text": ("entity-attr-feature", "entity-attr-mask"),
    "mention.image": ("mention-image-feature",),
    "entity.image": ("entity-image-feature",),
    "mention.regions": ("mention-image-feature",),
    "mention.tokens": ("mention-text-mask", "start-pos", "end-pos"),
    "token.text": ("mention-text-feature", "mention-text-mask"),
    "mention.objects": ("mention-object-feature", "mention-object-score"),
    "entity.objects": ("entity-object-feature", "entity-object-score"),
    "pair.alignment": ("similarity-miet", "similarity-eimt"),
}
EXTRAS = {"regions": ("mention.regions",), "tokens": ("mention.tokens", "token.text")}  # made where asked for


@dataclass(frozen=True)
class Imported:
    """What an import made: a cache `id` of so many entities and mentions in `folder`; `bytes` read of arrays."""

    id: str
    folder: str
    mentions: int
    entities: int
    bytes: int
    shards: int
    kept: int
    seconds: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        kept = f", {self.kept} of them were present locally" if self.kept else ""
        made = (
            f"{self.folder}: {self.mentions:,} mentions and {self.entities:,} entities from {size(self.bytes)} of "
            f"arrays, in {duration(self.seconds)}; {self.shards} shards{kept}"
        )
        return "\n".join([made, f"cache id {self.id}", *(f"warning: {warning}" for warning in self.warnings)])


def run(source: Path, folder: Path, *, more: tuple[str, ...] = (), pooler_as_text: bool = False) -> Imported:
    """Turn the arrays in `source` into a cache in `folder`, whose last component names it.

    `more` names what else is taken, of EXTRAS; `pooler_as_text` has WikiDiverse's pooler vectors stand for [CLS].
    Finished shards of an interrupted run are kept. Raises MelcacheError naming the file that does not fit.
    """
    began, name = time.monotonic(), Path(os.path.realpath(folder)).name
    check_name(name, "--name")
    if exists(folder / manifests.NAME) and manifests.load(folder).dataset.source != SOURCE:
        raise ConfigError(f"{folder} holds a cache that was not imported from {SOURCE}; choose another --name")
    release = Release(source)
    if pooler_as_text and release.by_entity:
        raise ConfigError("--pooler-as-text is for WikiDiverse's arrays: WikiMEL's have [CLS] itself")
    listed = lists.read(release)
    with store.alone(folder):
        draft, hashes = Draft(folder), _hashes(release)
        left_out = {part for extra, parts in EXTRAS.items() if extra not in more for part in parts}
        work = _Import(release, listed, draft, hashes, pooler_as_text)
        tables = work.parts([part for part in READS if part not in left_out])
        made = {"made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
        seconds = {"seconds": round(time.monotonic() - began, 1)}
        said = about(name, release, listed, hashes, pooler_as_text=pooler_as_text)
        said["tables"] |= tables
        identity = draft.finish(said, {"producer": "melcache import"} | made | seconds)
    return Imported(
        identity,
        str(folder),
        release.mentions,
        len(listed.ids),
        sum(array.rows * array.row_bytes for array in release.arrays(release.rows)),
        draft.made + draft.kept,
        draft.kept,
        time.monotonic() - began,
        tuple(said["warnings"]),
    )


class _Import:
    """The parts of one import."""

    def __init__(
        self, release: Release, listed: lists.Lists, draft: Draft, hashes: dict[str, str], pooler_as_text: bool
    ) -> None:
        self._release, self._listed, self._draft, self._hashes = release, listed, draft, hashes
        self._source, self._stand_in = Source(release, listed), pooler_as_text
        self._plans: dict[str, PartPlan] = {}

    def parts(self, names: list[str]) -> dict[str, int]:
        """Write parts, those that derive from others behind them; return the rows of their tables."""
        counts = {"entity": len(self._listed.ids), "mention": self._release.mentions, "pair": self._release.mentions}
        counts["token"] = int(self._source.edges[-1])
        order = sorted(names, key=lambda name: (TABLES.index(PartName(name).table), name == "pair.alignment"))
        rows = {name: counts[PartName(name).table] for name in order}
        with Progress(sum(rows.values()), f"import {self._draft.folder.name}", "rows") as progress:
            for name in order:
                self._part(name, rows[name], progress)
        return {PartName(name).table: count for name, count in rows.items()}

    def _part(self, name: str, count: int, progress: Progress) -> None:
        fill = self._filler(name)
        plan = self._plans[name] = self._plan(name, fill(np.arange(1)))
        width = sum(np.dtype(dtype).itemsize * int(np.prod(shape)) for dtype, shape in plan.columns.values())
        borders = self._borders(name, count, max(1, min(SHARD_ROWS, SHARD_BYTES // width)))
        for index, (begin, stop) in enumerate(itertools.pairwise(borders)):
            rows = np.arange(begin, stop)
            key = shard_key(plan.fingerprint, [content_hash(name, begin, len(rows))])
            shard = Shard(ShardPlan(plan, index, begin, len(rows), key))
            if not self._draft.adopt(shard.plan):
                for column, values in fill(rows).items():
                    shard.put(column, np.arange(len(rows)), values)
                self._draft.save(shard)
            progress.advance(len(rows))

    def _borders(self, name: str, count: int, step: int) -> list[int]:
        """Return where shards of about `step` rows begin and end; no sentence is cut."""
        wanted = np.arange(0, count, step)
        if name == "token.text":
            wanted = self._source.edges[np.searchsorted(self._source.edges, wanted)]
        borders: list[int] = np.unique([*wanted, count]).tolist()
        return borders

    def _filler(self, name: str) -> Callable[[np.ndarray], Columns]:
        return {
            "mention.ids": self._source.mention_ids,
            "entity.ids": self._source.entity_ids,
            "pair.candidates": self._source.candidates,
            "mention.text": self._source.mention_text,
            "entity.text": self._entity_text,
            "mention.image": self._source.mention_image,
            "entity.image": self._source.entity_image,
            "mention.regions": self._source.mention_regions,
            "mention.tokens": self._source.mention_tokens,
            "token.text": self._source.token_text,
            "mention.objects": self._source.mention_objects,
            "entity.objects": self._source.entity_objects,
            "pair.alignment": self._alignment,
        }[name]

    def _plan(self, name: str, example: Columns) -> PartPlan:
        """Return the plan of a part from its columns of one row."""
        sizes = self._release.sizes
        objects = sizes["Q"] if name.startswith("entity") else sizes["O"]
        lengths = {"D": sizes["D"], "V": sizes["V"], "R": sizes["R"], "K": objects, "C": sizes["K"] - 1}
        lengths |= {"id": self._listed.ids.itemsize if name == "entity.ids" else len("train-") + 12}
        recipe = {"origin": SOURCE, "edition": EDITION, "arrays": self._arrays(name)}
        if name == "entity.text" and self._stand_in:
            recipe["sentence"] = "pooler"
        derived = edges.INPUTS if name == "pair.alignment" else ()
        inputs = {part: self._plans[part].fingerprint for part in derived}
        return PartPlan(PartName(name), recipe, columns_of(name, lengths, "<f2", tuple(example)), inputs)

    def _arrays(self, part: str) -> dict[str, str]:
        """Return the sha256 by name of the files that decide a part's numbers."""
        names, files = {name for name in READS[part] if name in self._release.rows}, set()
        if not part.startswith("mention.") or part == "mention.ids":  # the lists number the entities
            names |= {"answer", *(("entity-name-raw",) if self._release.by_entity else SLOTS)}
            files = {INDEX} & self._hashes.keys()
        files |= {array.path.name for array in self._release.arrays(names)}
        return {file: self._hashes[file] for file in sorted(files)}

    def _entity_text(self, rows: np.ndarray) -> Columns:
        found = self._source.entity_text(rows)
        return {"sentence": found["pooler"], **found} if self._stand_in else found

    def _alignment(self, rows: np.ndarray) -> Columns:
        texts = edges.CLS if self._release.by_entity else edges.POOLER
        return edges.edges(self._draft, self._listed, rows, self._source.clip_edges(rows), texts)


def _hashes(release: Release) -> dict[str, str]:
    """Return the sha256 of every file, by name."""
    arrays = release.arrays(release.rows)
    total = sum(array.rows * array.row_bytes for array in arrays)
    with Progress(total, "hash the arrays", "B") as progress, ThreadPoolExecutor(THREADS) as pool:
        for array, _ in zip(arrays, pool.map(lambda array: array.sha256, arrays), strict=True):
            progress.advance(array.rows * array.row_bytes)
    found = {array.path.name: array.sha256 for array in arrays}
    return found | ({INDEX: lists.index_sha256(release)} if release.by_entity else {})
