"""`melcache doctor`: what a dataset's splits give away, before any number on it is believed."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from cache import Reader
from cache.schema import UNLABELED
from common.errors import CacheError
from common.output import table
from common.records import SPLITS

COLUMNS = (
    "mention.ids.surface",
    "mention.ids.splits",
    "mention.ids.gold",
    "mention.ids.content_text",
    "mention.ids.content_image",
    "entity.ids.content_image",
)
# key of a split's findings: what it says, and of what it is a share. Without "labeled" all mentions are
FINDINGS = {
    "mentions": ("mentions", None),
    "labeled": ("are labeled", "mentions"),
    "in_another_split": ("are in another split, too", "mentions"),
    "repeated": ("repeat sentence, mention and position of one in train", "mentions"),
    "picture_of_an_entity": ("have a picture that is also an entity's", "mentions"),
    "picture_of_gold": ("have the same picture as their gold entity", "labeled"),
    "gold_in_train": ("have a gold entity that occurs in train", "labeled"),
    "surface_in_train": ("have a string that occurs in train", "mentions"),
    "prior": ("are right by the commonest meaning of their string in train", "labeled"),
}


def examine(reader: Reader) -> dict[str, Any]:
    """Return the findings of a cache.  Raises CacheError if it came without the parts that hold ids."""
    missing = [name for name in COLUMNS if name not in reader.columns]
    if missing:
        raise CacheError(
            f"{reader.path} lacks {', '.join(missing)}, which doctor reads; synthetic and imported caches lack them"
        )
    found = diagnose({name: reader.column(name) for name in COLUMNS})
    return {"dataset": reader.manifest.dataset.name, "cache_id": reader.id, "splits": found}


def diagnose(columns: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Return the counts of FINDINGS for each split; `prior` credits strings with k commonest meanings 1 / k."""
    splits, gold = columns["mention.ids.splits"], columns["mention.ids.gold"]
    surface, texts = columns["mention.ids.surface"].tolist(), _digests(columns["mention.ids.content_text"])
    pictures, of_entities = (_digests(columns[f"{side}.ids.content_image"]) for side in ("mention", "entity"))
    known = set(of_entities) - {bytes(32)}  # zeros: no file
    train = np.flatnonzero(splits & 1)
    rows_seen = {(texts[i], surface[i]) for i in train}
    meanings: dict[bytes, Counter[int]] = defaultdict(Counter)
    for i in train:
        if gold[i] >= 0:
            meanings[surface[i]][int(gold[i])] += 1
    gold_seen, surfaces_seen = set(gold[train].tolist()) - {-1, UNLABELED}, {surface[i] for i in train}
    found = {}
    for bit, split in enumerate(SPLITS):
        rows = np.flatnonzero(splits >> bit & 1).tolist()
        found[split] = {
            "mentions": len(rows),
            "in_another_split": sum(int(splits[i]) != 1 << bit for i in rows),
            "picture_of_an_entity": sum(pictures[i] in known for i in rows),
            "picture_of_gold": sum(
                pictures[i] != bytes(32) and gold[i] >= 0 and pictures[i] == of_entities[gold[i]] for i in rows
            ),
        }
        if unlabeled := sum(gold[i] == UNLABELED for i in rows):
            found[split]["labeled"] = len(rows) - int(unlabeled)
        if split != "train":
            found[split] |= {
                "repeated": sum((texts[i], surface[i]) in rows_seen for i in rows),
                "gold_in_train": sum(int(gold[i]) in gold_seen for i in rows),
                "surface_in_train": sum(surface[i] in surfaces_seen for i in rows),
                "prior": sum(_right(meanings.get(surface[i]), int(gold[i])) for i in rows),
            }
    return found


def show(found: dict[str, Any]) -> str:
    """Return the findings as a table: counts and shares."""
    rows = []
    shown = [key for key in FINDINGS if key != "labeled" or any(key in counts for counts in found["splits"].values())]
    for key, (text, of) in ((key, FINDINGS[key]) for key in shown):
        cells = []
        for split in SPLITS:
            counts = {"labeled": found["splits"][split]["mentions"]} | found["splits"][split]
            share = f" ({100 * counts[key] / counts[of]:.1f}%)" if of and counts.get(of) and key in counts else ""
            number = f"{counts.get(key, 0):,.1f}".removesuffix(".0")  # of equal meanings each counts in part
            cells.append(f"{number}{share}" if key in counts else "-")
        rows.append((text, *cells))
    return table((found["dataset"], *SPLITS), rows)


def _digests(column: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in column]


def _right(counts: Counter[int] | None, gold: int) -> float:
    if not counts:
        return 0.0
    most = max(counts.values())
    commonest = [entity for entity, count in counts.items() if count == most]
    return (gold in commonest) / len(commonest)
