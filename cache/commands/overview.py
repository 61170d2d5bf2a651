"""What `melcache info` prints."""

from pathlib import Path
from typing import Any

from cache import coverage, partial_cache
from cache.kinds import holds
from cache.manifests.entries import Manifest
from common.output import duration, size, table


def named(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Return a manifest under the id that the cache goes by: of a part the whole cache's, and its own beside it."""
    identity = partial_cache.whole_manifest(folder, manifest).id
    return manifest.as_json() | ({} if identity == manifest.id else {"id": identity, "id_of_parts": manifest.id})


def describe(folder: Path, manifest: Manifest) -> str:
    """Return a cache's content as text."""
    shards = manifest.shards
    rows = []
    for part, spec in manifest.parts.items():
        mine = manifest.shards_of(part)
        held = size(sum(shard.bytes for shard in mine))
        for i, (column, kind) in enumerate(spec.columns.items()):
            shape = "x".join(map(str, [manifest.tables[part.table], *kind.shape]))
            first = (part, len(mine), held) if i == 0 else ("", "", "")
            rows.append((*first, column, shape, kind.dtype.strip("<|"), holds(part, column)))
    made, tables, whole = manifest.provenance, manifest.tables, partial_cache.whole_manifest(folder, manifest)
    held = size(manifest.bytes)
    some = f"; {len(manifest.parts)} of its {len(whole.parts)} parts are present, {held} of {size(whole.bytes)}"
    lines = [
        f"{manifest.dataset.name}: {tables['mention']:,} mentions, {tables['entity']:,} entities, "
        f"{manifest.candidates} candidates; {', '.join(f'{name} {n:,}' for name, n in manifest.splits.items())}",
        f"licence: {manifest.dataset.licence}; source: {manifest.dataset.source}",
        f"id {whole.id}{some if whole is not manifest else ''}",
        f"{folder}: {len(shards)} shards, {held}; made {made.made} in {duration(made.seconds)}",
        "",
        table(("part", "shards", "size", "column", "shape", "type", "holds"), rows),
        "",
        table(("coverage", "rows"), coverage.rows(manifest.coverage)),
        *(f"warning: {warning}" for warning in manifest.warnings),
    ]
    return "\n".join(lines)
