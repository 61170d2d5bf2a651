"""The mentions that several caches of one release share, whatever the encoders and the order of rows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cache import Reader
from common.errors import ConfigError
from common.foreign import printable

NAMED = ("mention.ids.id", "mention.ids.surface")
CONTENT = "mention.ids.content_text"
# id, surface, of mentions that share both also the text, and the number among those of one key; in a cache without ids
# the row
Key = tuple[Any, ...]


def rows_of(readers: Mapping[str, Reader]) -> dict[str, np.ndarray]:
    """Return by cache the rows (n,) of the mentions that all of them hold, in the order of the first.

    Raises ConfigError for caches that share none, and for a mention that is in other splits or has another gold: what
    heads learn from them then differs by more than the encoder.
    """
    keys = {name: {key: row for row, key in enumerate(_keys(reader))} for name, reader in readers.items()}
    first, *others = keys
    shared = [key for key in keys[first] if all(key in keys[other] for other in others)]
    if not shared:
        raise ConfigError(f"{', '.join(keys)} share no mention: not caches of one release")
    found = {name: np.array([own[key] for key in shared]) for name, own in keys.items()}
    for other in others:
        for what, of in (("split", _splits), ("gold", _golds)):
            mine, theirs = (of(readers[name])[found[name]] for name in (first, other))
            if (differ := np.flatnonzero(mine != theirs)).size:
                mention = printable(str(shared[differ[0]][0], "utf-8", "replace"))
                raise ConfigError(
                    f"{first} and {other} are not of one release: {differ.size:,} of {len(shared):,} shared mentions "
                    f"have another {what}, the first of them {mention}. Extract both from the same release"
                )
    return found


def lists_differ(reader: Reader, other: Reader, rows: np.ndarray, others: np.ndarray) -> int:
    """Return of how many mentions, `rows` here and `others` there (n,), the candidates are other entities."""
    mine, theirs = (np.sort(_listed(one)[at], axis=1) for one, at in ((reader, rows), (other, others)))
    if mine.shape != theirs.shape:
        return len(rows)
    return int((mine != theirs).any(1).sum())


def entities_differ(reader: Reader, other: Reader) -> bool:
    """Return whether two caches hold other entities, in whatever order."""
    return not np.array_equal(*(np.sort(_entities(one)) for one in (reader, other)))


def _keys(reader: Reader) -> Iterator[Key]:
    columns = [reader.column(name).tolist() for name in NAMED if name in reader.columns]
    if NAMED[0] not in reader.columns:
        columns = [[b"row %d" % row for row in range(reader.manifest.tables["mention"])]]
    named: list[Key] = list(zip(*columns, strict=True))
    often = {key for key, count in Counter(named).items() if count > 1}
    contents = reader.column(CONTENT) if CONTENT in reader.columns else None
    seen: Counter[Key] = Counter()
    for row, name in enumerate(named):
        key = (*name, bytes(contents[row])) if contents is not None and name in often else name
        seen[key] += 1
        yield (*key, seen[key])


def _splits(reader: Reader) -> np.ndarray:
    return np.array(reader.column("mention.ids.splits"))


def _golds(reader: Reader) -> np.ndarray:
    """Return the id of each mention's gold, (N,), and what stands for none and for no label."""
    return _entities(reader)[reader.column("mention.ids.gold")]


def _listed(reader: Reader) -> np.ndarray:
    return _entities(reader)[reader.column("pair.candidates.candidates")]


def _entities(reader: Reader) -> np.ndarray:
    """Return what names each entity, and behind them, found by -2 and -1, no label and none."""
    count = reader.manifest.tables["entity"]
    ids = reader.column("entity.ids.id") if "entity.ids.id" in reader.columns else np.arange(count).astype("S")
    return np.concatenate([ids, np.array([b"\x01unlabeled", b"\x01none"])])
