"""Some parts of a cache, and the proof that they are parts of it.

A pull for one head leaves a cache of fewer parts. Its manifest is an ordinary one, with an id of its own, whose
provenance names the whole cache (`of`); the whole cache's manifest lies beside it, in manifests/. Who takes the same
parts of that manifest gets the same id, so every byte here is bound to the id that a team passes around, and it is
that id by which a part goes: training on it names it, and taking more parts does not change it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cache import manifests, store
from cache.manifests.entries import Manifest
from cache.names import ColumnName, PartName
from cache.schema import CHOICES, PARTS, READS
from common.errors import CacheError, ConfigError
from common.paths import is_file
from common.words import nearest

ALWAYS = ("entity.ids", "mention.ids", "pair.candidates")  # info, doctor and explain need them; about 2% of a cache


def wanted(names: str, manifest: Manifest) -> list[PartName]:
    """Return the parts that heads need (names with commas; also parts by name) of a cache, in its order.

    Raises ConfigError for a name that is neither, CacheError for columns that the cache does not have.
    """
    parts: set[str] = set(ALWAYS)
    there = manifest.columns
    for name in filter(None, names.replace(" ", "").split(",")):
        needed = _columns(name, there)
        if missing := sorted(set(needed) - set(there)):
            raise CacheError(f"cache {manifest.id[:16]}... lacks {', '.join(missing)}, which --for {name} asks for")
        parts |= {ColumnName(column).part for column in (*needed, *CHOICES.get(name, ()))}
    return [part for part in manifest.parts if part in parts]


def _columns(name: str, there: Sequence[ColumnName]) -> Sequence[str]:
    if name in READS:
        return READS[name]
    if name in PARTS:
        return [column for column in there if column.part == name] or [f"{name}.{min(PARTS[name])}"]
    near = nearest(name, (*READS, *PARTS))
    raise ConfigError(
        f"--for {name}: expected one of the heads {', '.join(READS)}, or a part such as entity.objects{near}"
    )


def take(whole: Manifest, parts: Iterable[str]) -> Manifest:
    """Return the manifest of some parts of a cache; of all of them, the cache's own."""
    kept = set(parts)
    if kept == whole.parts.keys():
        return whole
    content = whole.as_json()
    some = {
        "parts": {name: part for name, part in content["parts"].items() if name in kept},
        "shards": [shard for shard in content["shards"] if shard["part"] in kept],
        "provenance": content["provenance"] | {"of": whole.id},
    }
    return Manifest.of(manifests.seal(content | some))


def whole_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Return the manifest of the whole cache that this one is a part of, proved; else the manifest itself.

    Raises CacheError if the manifest that lies beside is damaged, or is not one that this is a part of.
    """
    identity = manifest.provenance.whole_id
    path = folder / manifests.copy_of(identity) if identity else None
    if path is None or not is_file(path):  # a whole cache, or a part whose proof was not copied along
        return manifest
    found = manifests.read(store.read_regular(path, manifests.MAX_BYTES), str(path))
    if found.id != identity or take(found, manifest.parts).id != manifest.id:
        raise CacheError(f"{folder}/{manifests.NAME} is not a part of {path}, as it says. Get it again")
    return found
