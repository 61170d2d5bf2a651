"""Which entity each slot of DRIN's candidate lists is, as rows of an entity table without repeats."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from cache import store
from cache.drin.release import INDEX, SLOTS, Release
from common.errors import CacheError

INDEX_BYTES = 1 << 30
QID_LENGTH = 64
CHUNK = 4096  # slots hashed at a time
DIGEST = 16  # bytes that stand for what the arrays hold of a slot's entity


@dataclass(frozen=True)
class Lists:
    """`candidates` (N, C) rows of entities, -1 = one that stands in the list already; `gold` (N,) its place or -1.

    `gold_row` (N,) is gold's row, listed or not. `sources` (E,) ascend: where the entity arrays hold each entity.
    `ids` (E,) are strings.
    """

    candidates: np.ndarray
    gold: np.ndarray
    gold_row: np.ndarray
    sources: np.ndarray
    ids: np.ndarray


def read(release: Release) -> Lists:
    """Return the lists of all splits.  Raises CacheError for an answer or a qid that cannot be."""
    answer = release.rows["answer"].take(np.arange(release.mentions)).astype(np.int64)
    last = release.sizes["K"] - 1
    if len(bad := np.flatnonzero((answer < 0) | (answer > last))):
        where = release.rows["answer"].where(int(bad[0]))
        raise CacheError(f"{where} holds {answer[bad[0]]}, expected 0 to {last} ({last}: gold was not retrieved)")
    number = _by_qid if release.by_entity else _by_content
    slots, sources, ids = number(release, answer)
    gold_row = slots[np.arange(len(slots)), answer]
    gold = np.where(answer < last, answer, -1).astype(np.int32)
    return Lists(_without_repeats(slots[:, :last], gold), gold, gold_row, sources, ids)


def index_sha256(release: Release) -> str:
    """Return the sha256 of the file that says which entity is where."""
    return hashlib.sha256(store.read_regular((release.source / INDEX).resolve(), INDEX_BYTES)).hexdigest()


def _by_qid(release: Release, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entity of each slot (N, K) by WikiMEL's names of them; all entities are kept."""
    index, names = _index(release), release.rows["entity-name-raw"]
    found = np.empty(len(names), np.int32)
    for at, values in names.blocks(np.arange(len(names))):
        rows = [index.get(qid, -1) for qid in values.tolist()]
        if -1 in rows:
            place = rows.index(-1)
            raise CacheError(f"{names.where(at.start + place)} holds {str(values[place])!r}, which is not in {INDEX}")
        found[at] = rows
    slots = found.reshape(len(answer), -1)
    own, gold = slots[np.arange(len(slots)), answer], slots[:, -1]
    if len(bad := np.flatnonzero(own != gold)):
        ids = list(index)
        raise CacheError(
            f"{release.rows['answer'].where(int(bad[0]))} holds {answer[bad[0]]}, candidate {ids[own[bad[0]]]}, but "
            f"gold at the end of its list is {ids[gold[bad[0]]]}: not of one release?"
        )
    return slots, np.arange(len(index)), np.array([qid.encode(errors="replace") for qid in index])


def _by_content(release: Release, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entity of each slot (N, K): slots are one entity where every byte of its arrays is the same.

    Gold at the end of a list is not looked at where it was retrieved: one entity encoded twice may differ in the last
    bit.
    """
    slots = np.arange(release.mentions * release.sizes["K"]).reshape(release.mentions, -1)
    slots[:, -1] = slots[np.arange(len(slots)), answer]
    used = np.unique(slots)
    digests = _digests(release, used)
    _, first, same = np.unique(digests, return_index=True, return_inverse=True)
    order = np.argsort(first)  # of first appearance
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order))
    kept = first[order]
    ids = np.array([digests[row].tobytes().hex().encode() for row in kept])
    return rank[same][np.searchsorted(used, slots)], used[kept], ids


def _digests(release: Release, rows: np.ndarray) -> np.ndarray:
    """Return 16 bytes for each of the slots (n,) that stand for all that the arrays hold of it."""
    found = np.empty(len(rows), f"V{DIGEST}")
    for begin in range(0, len(rows), CHUNK):
        some = rows[begin : begin + CHUNK]
        hashes = [hashlib.sha256() for _ in some]
        for name in SLOTS:
            for at, values in release.rows[name].blocks(some):
                for digest, row in zip(hashes[at], values, strict=True):
                    digest.update(row)
        joined = b"".join(digest.digest()[:DIGEST] for digest in hashes)
        found[begin : begin + CHUNK] = np.frombuffer(joined, found.dtype)
    return found


def _index(release: Release) -> dict[str, int]:
    """Return the entity row of each qid, in order of rows."""
    path, count = release.source / INDEX, release.sizes["E"]
    try:
        index = json.loads(store.read_regular(path.resolve(), INDEX_BYTES))
    except (ValueError, RecursionError) as error:
        raise CacheError(f"{path} is not JSON: {error}") from error
    rows = list(index.values()) if isinstance(index, dict) and max(map(len, index), default=0) <= QID_LENGTH else []
    if not all(type(row) is int for row in rows) or sorted(rows) != list(range(count)):
        raise CacheError(f"{path}: expected one qid for each of the {count:,} rows of the entity arrays")
    return dict(sorted(index.items(), key=lambda item: item[1]))


def _without_repeats(lists: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return lists (N, C) where an entity stands once, at gold's place or its first one, and -1 at the others."""
    lists, ranked = lists.astype(np.int32), np.arange(lists.shape[1])[None].repeat(len(lists), 0)
    listed = np.flatnonzero(gold >= 0)
    ranked[listed, gold[listed]] = -1  # gold before all others
    order = np.lexsort((ranked, lists), axis=1)
    ordered = np.take_along_axis(lists, order, 1)
    repeated = np.zeros(lists.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    lists[repeated] = -1
    return lists
