"""Which mentions are in which split: as the release says, or with a valid split held out of train; and their digest.

Numbers on different splits are not comparable: MIMIC's test split of WikiMEL lies across all three of MEL-GHMFC's. So
each result names the digest of the release's split, and how valid was held out of train, if it was.
"""

import hashlib
from collections import defaultdict
from typing import Any

import numpy as np

from cache import Reader
from cache.schema import UNLABELED
from common.errors import CacheError, UntrainableError
from common.foreign import printable
from common.records import SPLITS, split_mask
from train.checks import share_of

TRAIN, VALID = split_mask("train"), split_mask("valid")
READS = ("mention.ids.id", "mention.ids.caption", "pair.candidates.gold")  # of --valid-from
SHOWN = 12  # digits of a digest in tables
# digests of the splits of whole releases as their adapters read them: whose
KNOWN = {"49c6148d064bd9b2": "MEL-GHMFC's of WikiMEL", "cf8b61f1889a0aa0": "KGMEL's of WikiDiverse"}


def masks(reader: Reader, valid_from: str | None) -> np.ndarray:
    """Return the split mask of each mention row, (N,) uint8: with `valid_from` (train:0.1) part of train is valid.

    What is held out are whole captions that stand in train alone, in the order of a hash of their first mention id,
    until they hold that share of train's labeled mentions; at least one caption, and never all. So it depends neither
    on the order of rows nor on chance.

    Raises UntrainableError where the release has a valid split, or too few captions.
    """
    found = np.array(reader.column("mention.ids.splits"))
    if valid_from is None:
        return found
    share = share_of(valid_from)
    if missing := [name for name in READS if name not in reader.columns]:
        raise CacheError(f"{reader.path} lacks {', '.join(missing)}, which --valid-from goes by")
    labeled = reader.column("pair.candidates.gold") > UNLABELED
    if count := int(((found & VALID > 0) & labeled).sum()):
        raise UntrainableError(
            f"{reader.path} has {count:,} mentions in its valid split; --valid-from is for a release that has none"
        )
    captions: dict[bytes, list[int]] = defaultdict(list)
    for row, caption in enumerate(reader.column("mention.ids.caption").tolist()):
        captions[caption].append(row)
    alone = [rows for rows in captions.values() if (found[rows] == TRAIN).all() and labeled[rows].any()]
    ids, wanted = reader.column("mention.ids.id"), share * int(((found & TRAIN > 0) & labeled).sum())
    held = 0
    for rows in sorted(alone, key=lambda rows: hashlib.sha256(min(ids[rows].tolist())).digest())[:-1]:
        if held >= wanted:
            break
        held += int(labeled[rows].sum())
        found[rows] = VALID
    if not held:
        raise UntrainableError(
            f"{reader.path} has no two captions that stand in train alone: --valid-from holds none out"
        )
    return found


def describe(reader: Reader, valid_from: str | None) -> dict[str, Any]:
    """Return what results say of the splits: the release's `digest`, whose it is if known, and `valid_from`."""
    digest = digest_of(reader)
    return {"digest": digest, "known": KNOWN.get(digest[:16]), "valid_from": valid_from}


def digest_of(reader: Reader) -> str:
    """Return the digest of a cache's splits; of a cache without ids that of their places."""
    names = [name for name in ("mention.ids.id", "mention.ids.surface") if name in reader.columns]
    columns = [reader.column(name).tolist() for name in names] if "mention.ids.id" in names else []
    splits = reader.column("mention.ids.splits").tolist()
    return digest(columns or [[str(row).encode() for row in range(len(splits))]], splits)


def digest(columns: list[list[bytes]], splits: list[int]) -> str:
    """Return 64 hex digits that stand for which mentions, told apart by `columns`, are in which of SPLITS.

    The order of the rows is not in it, nor are encoders, labels and candidates.
    """
    found = hashlib.sha256()
    for bit, name in enumerate(SPLITS):
        own = sorted(b"\0".join(key) for *key, mask in zip(*columns, splits, strict=True) if mask >> bit & 1)
        found.update(f"{name} {len(own)}\n".encode() + b"\n".join(own) + b"\n")
    return found.hexdigest()


def told(split: dict[str, Any]) -> str:
    """Return what `describe` found, for people: split 3f2a81c09d4e (MEL-GHMFC's), valid from train:0.1."""
    whose = f" ({split['known']})" if split["known"] else ""
    held = f", valid from {split['valid_from']}" if split["valid_from"] else ""
    return printable(f"split {split['digest'][:SHOWN]}{whose}{held}")


def uncounted(unlabeled: dict[str, int]) -> str:
    """Return, for people, how many mentions of test have no label, "" if all have one."""
    return f" ({unlabeled['test']:,} more are not labeled)" if unlabeled["test"] else ""
