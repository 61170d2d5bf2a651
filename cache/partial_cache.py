"""Some parts of a cache, and the proof that they are parts of it.

A pull for one head leaves a cache of fewer parts. Its manifest is an ordinary one, with an id of its own, whose
provenance names the whole cache (`of`); the whole cache's manifest lies beside it, in manifests/. Who takes the same
parts of that manifest gets the same id, so every byte here is bound to the id that a team passes around, and it is
that id by which a part goes: training on it names it, and taking more parts does not change it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cache import manifests, store
from cache.names import ColumnName
from cache.schema import CHOICES, PARTS, READS
from common.errors import CacheError, ConfigError
from common.paths import is_file
from common.words import nearest

ALWAYS = ("entity.ids", "mention.ids", "pair.candidates")  # info, doctor and explain need them; about 2% of a cache


def wanted(names: str, manifest: dict[str, Any]) -> list[str]:
    """Return the parts that heads need (names with commas; also parts by name) of a cache, in its order.

    Raises ConfigError for a name that is neither, CacheError for columns that the cache does not have.
    """
    parts = set(ALWAYS)
    there = [f"{part}.{column}" for part, spec in manifest["parts"].items() for column in spec["columns"]]
    for name in filter(None, names.replace(" ", "").split(",")):
        needed = _columns(name, there)
        if missing := sorted(set(needed) - set(there)):
            raise CacheError(f"cache {manifest['id'][:16]}... lacks {', '.join(missing)}, which --for {name} asks for")
        parts |= {ColumnName(column).part for column in (*needed, *CHOICES.get(name, ()))}
    return [part for part in manifest["parts"] if part in parts]


def _columns(name: str, there: Sequence[str]) -> Sequence[str]:
    if name in READS:
        return READS[name]
    if name in PARTS:
        return [column for column in there if ColumnName(column).part == name] or [f"{name}.{min(PARTS[name])}"]
    near = nearest(name, (*READS, *PARTS))
    raise ConfigError(f"--for {name}: none of the heads {', '.join(READS)}, nor a part such as entity.objects{near}")


def take(whole: dict[str, Any], parts: Iterable[str]) -> dict[str, Any]:
    """Return the manifest of some parts of a cache; of all of them, the cache's own."""
    kept = set(parts)
    if kept == whole["parts"].keys():
        return whole
    return manifests.seal(
        whole
        | {
            "parts": {name: part for name, part in whole["parts"].items() if name in kept},
            "shards": [shard for shard in whole["shards"] if shard["part"] in kept],
            "provenance": whole["provenance"] | {"of": whole["id"]},
        }
    )


def whole_manifest(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the whole cache that this one is a part of, proved; else the manifest itself.

    Raises CacheError if the manifest that lies beside is damaged, or is not one that this is a part of.
    """
    identity = manifest["provenance"].get("of")
    path = folder / manifests.copy_of(identity) if identity else None
    if path is None or not is_file(path):  # a whole cache, or a part whose proof was not copied along
        return manifest
    found = manifests.read(store.read_regular(path, manifests.MAX_BYTES), str(path))
    if found["id"] != identity or take(found, manifest["parts"])["id"] != manifest["id"]:
        raise CacheError(f"{folder}/{manifests.NAME} is not a part of {path}, as it says. Take it afresh")
    return found
