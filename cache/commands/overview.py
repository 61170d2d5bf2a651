"""What `melcache info` prints."""

from pathlib import Path
from typing import Any

from cache import partial_cache
from cache.names import PartName
from cache.schema import PARTS
from common.output import duration, size, table


def named(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest under the id that the cache goes by: of a part the whole cache's, and its own beside it."""
    identity = partial_cache.whole_manifest(folder, manifest)["id"]
    return manifest | ({} if identity == manifest["id"] else {"id": identity, "id_of_parts": manifest["id"]})


def describe(folder: Path, manifest: dict[str, Any]) -> str:
    """Return a cache's content as text."""
    shards = manifest["shards"]
    rows = []
    for part, spec in manifest["parts"].items():
        mine = [shard for shard in shards if shard["part"] == part]
        held = size(sum(shard["bytes"] for shard in mine))
        for i, (column, kind) in enumerate(spec["columns"].items()):
            shape = "x".join(map(str, [manifest["tables"][PartName(part).table], *kind["shape"]]))
            first = (part, len(mine), held) if i == 0 else ("", "", "")
            rows.append((*first, column, shape, kind["dtype"].strip("<|"), PARTS[part][column].holds))
    made, tables, whole = manifest["provenance"], manifest["tables"], partial_cache.whole_manifest(folder, manifest)
    held = size(sum(shard["bytes"] for shard in shards))
    part = (
        f"; here are {len(manifest['parts'])} of its {len(whole['parts'])} parts, {held} of "
        f"{size(sum(shard['bytes'] for shard in whole['shards']))}"
    )
    lines = [
        f"{manifest['dataset']['name']}: {tables['mention']:,} mentions, {tables['entity']:,} entities, "
        f"{manifest['candidates']} candidates; {', '.join(f'{name} {n:,}' for name, n in manifest['splits'].items())}",
        f"licence: {manifest['dataset']['licence']}; source: {manifest['dataset']['source']}",
        f"id {whole['id']}{part if whole is not manifest else ''}",
        f"{folder}: {len(shards)} shards, {held}; "
        f"made {made.get('made', 'at an unknown time')} in {duration(float(made.get('seconds', 0)))}",
        "",
        table(("part", "shards", "size", "column", "shape", "type", "holds"), rows),
        "",
        table(("coverage", "rows"), [(name, f"{count:,}") for name, count in manifest["coverage"].items()]),
        *(f"warning: {warning}" for warning in manifest["warnings"]),
    ]
    return "\n".join(lines)
