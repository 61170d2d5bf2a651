"""What of a release is there and what is not: the table at the end of an extraction, and the stop before it."""

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import cache.coverage
from cache.kinds import IMAGE_STATUS, KINDS
from cache.writing.draft import Draft
from common.errors import CoverageError
from common.output import table
from common.paths import status
from common.records import SPLITS, Dataset
from extract.reading.entity_columns import pictures
from extract.reading.readers import NIL_COUNT, UNLABELED_COUNT

if TYPE_CHECKING:
    from extract.planning.candidate_lists import Lists  # imports torch, and what stands before an extraction must not


def stop(unusable: dict[str, int], named: int, max_missing: float, example: Path | None = None) -> None:
    """Raise CoverageError if the pictures that cannot be used are too many of those that the release names."""
    total = sum(unusable.values())
    if total and total / named > max_missing:
        first = f", such as {example}" if example else ""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(unusable.items()))
        raise CoverageError(
            f"{total:,} of the {named:,} pictures that the release names cannot be used ({reasons}{first}): more "
            f"than --max-missing {max_missing:g} allows. Put them where the release expects them, or pass at least "
            f"--max-missing {min(1.0, np.ceil(100 * total / named) / 100):g} to continue; unusable "
            "pictures are then masked"
        )


def stop_if_absent(release: Dataset, max_missing: float) -> None:
    """Raise CoverageError at once where too many of the named pictures have no file at all.

    Raises DeniedError for a picture in a folder that this user may not look into: it may well be there.
    """
    named = chain(*map(pictures, (release.entities, release.mentions)))
    paths = {image.path for image in named if image is not None and image.path}
    absent = [path for path in paths if status(path) is None]
    stop({"missing": len(absent)}, len(paths), max_missing, min(absent, default=None))


def count(release: Dataset, lists: "Lists", draft: Draft) -> dict[str, int]:
    """Return every count of the coverage table, from the release and from what was stored."""
    found = draft.column("mention.text.found")
    given = np.array([mention.start >= 0 for mention in release.mentions])
    golds = np.array([mention.gold is not None for mention in release.mentions])
    labeled = np.array([mention.labeled for mention in release.mentions])
    counts = release.counts | {  # the adapter's own are of the whole release, whatever --limit keeps
        "mentions": len(release.mentions),
        "entities": len(release.entities),
        "spans not found": int((~given).sum()),
        "spans beyond the token limit": int((given & ~found).sum()),
        NIL_COUNT: int((labeled & ~golds).sum()),
        "gold not among candidates": int((golds & (lists.gold < 0)).sum()),
    }
    if not labeled.all():  # a release whose mentions all have labels keeps its id
        counts[UNLABELED_COUNT] = int((~labeled).sum())
    for name in ("entity", "mention"):
        statuses = Counter(draft.column(f"{name}.ids.image_status").tolist())
        counts |= {f"{name} images: {IMAGE_STATUS[code]}": number for code, number in sorted(statuses.items())}
        counts |= {
            f"{name} texts cut by {part.kind}": int(draft.column(f"{part}.truncated").sum())
            for part in KINDS
            if part.table == name and "truncated" in KINDS[part].columns and not KINDS[part].on_demand
        }
    return counts


def report(release: Dataset, lists: "Lists", counts: dict[str, int]) -> str:
    """Return the coverage table and the recall of the candidate lists as text."""
    recalls = ", ".join(f"{k} -" if value is None else f"{k} {value:.1%}" for k, value in lists.recalls().items())
    over = "all mentions" if lists.labeled == len(release.mentions) else f"{lists.labeled:,} labeled mentions"
    splits = ", ".join(
        f"{name} {sum(mention.splits >> bit & 1 for mention in release.mentions):,}" for bit, name in enumerate(SPLITS)
    )
    return "\n".join(
        [
            table(("coverage", release.name), cache.coverage.rows(counts)),
            f"splits: {splits}",
            f"candidates: {lists.candidates.shape[1]} from {lists.origin}; {recalls} over {over}",
        ]
    )
