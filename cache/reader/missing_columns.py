"""What a reader wants and a cache lacks: which columns, and the commands that get them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cache.kinds import on_demand
from cache.manifests.entries import Manifest
from cache.names import ColumnName, PartName
from cache.schema import CHOICES, READS
from common.by_make import suggested
from common.errors import CacheError
from common.foreign import shell
from common.records import RELEASES

DESCRIPTION = "entity.joint.description"  # the one column that --for does not make


def refuse(manifest: Manifest, path: Path, names: Sequence[str], head: str, whom: str) -> None:
    """Raise CacheError for those of the columns that a cache at a path lacks, if there are some.

    They are read for a head, by `whom`.
    """
    missing = sorted(set(names) - set(manifest.columns))
    if not missing:
        return
    parts = sorted({ColumnName(name).part for name in missing} - manifest.parts.keys())
    what = f"the parts {', '.join(parts)}" if parts else f"the columns {', '.join(missing)}"
    name, of = manifest.dataset.name, {ColumnName(column).part for column in missing}
    others = {ColumnName(column).part for column in missing if column not in READS.get(head, ())}
    makers = [head] if head in READS else _makers(of)
    pulled = [head, *sorted(others)] if head in READS else sorted(of)
    release = {"dataset": name} if name in RELEASES else {"dataset": "RELEASE", "name": name}
    options = release | ({"for": ",".join(makers)} if makers else {})
    described = DESCRIPTION in missing
    command = suggested("extract", options | ({"descriptions": "FILE"} if described else {}))
    source = " (melcache describe fetches one)" if described else ""
    raise CacheError(
        f"{path} lacks {what}, which {whom} reads. Compute them: {command}{source}, with the --data and "
        "--weights of the first time. Or take them from a teammate: "
        f"melcache pull {shell(name)} URL --for {shell(','.join(pulled))}"
    )


def _read(heads: Iterable[str]) -> set[PartName]:
    """Return the parts that heads of melcache read."""
    return {ColumnName(column).part for head in heads for column in (*READS[head], *CHOICES.get(head, ()))}


def _makers(parts: set[PartName]) -> list[str]:
    """Return what --for of an extraction must name for these parts: heads, and parts that no head reads."""
    heads = _readers(parts)
    return [*heads, *sorted(parts & set(on_demand()) - _read(heads))]


def _readers(parts: set[PartName]) -> list[str]:
    """Return heads of melcache that read these parts, as few as it takes; none for parts that none does."""
    reads = {head: _read([head]) for head in READS}
    found: list[str] = []
    while parts and reads[best := max(READS, key=lambda head: len(reads[head] & parts))] & parts:
        found.append(best)
        parts = parts - reads[best]
    return found
