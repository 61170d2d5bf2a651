"""The file by which workers go instead of planning themselves: what was found once, as arrays and one JSON document."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np
import safetensors.numpy

from cache.fingerprint import canonical
from cache.names import PartName
from common.records import Dataset
from extract.config import ExtractConfig
from extract.plan_files import columns, documents, reading
from extract.planning.shards import Plan


def encoded(
    config: ExtractConfig,
    release: Dataset,
    plan: Plan,
    listed: Mapping[PartName, str],
    about: Mapping[str, Any],
    listing: bool,
) -> bytes:
    """Return the bytes of a plan's file: equal for equal plans.

    `listed` are fingerprints of the cache that is there, `about` what its manifest will say of the dataset; `listing`
    says that the lists are not there yet.
    """
    rows, layout = plan.rows, plan.rows.layout
    entries = {name: part.manifest_entry for name, part in plan.parts.items()}
    document = {
        "format": documents.FORMAT,
        "code": reading.code(),
        "options": reading.options(config),
        "release": {
            "name": release.name,
            "licence": release.licence,
            "source": release.source,
            "counts": release.counts,
            "warnings": release.warnings,
            "doubts": release.doubts,
        },
        "about": about,
        "listing": listing,
        "parts": {
            name: {"recipe": entry.recipe, "inputs": entry.inputs, "fingerprint": entry.fingerprint}
            for name, entry in entries.items()
        },
        "listed": listed,
        "origin": plan.lists.origin,
        "faces": None if rows.faces is None else [[astuple(face) for face in faces] for faces in rows.faces],
    }
    arrays = columns.of(rows, config.source)
    arrays |= {f"{table}.borders": np.array(cuts, np.int64) for table, cuts in layout.borders.items()}
    arrays["generations"] = np.array(layout.generations, np.int64)
    arrays |= {f"lists.{name}": getattr(plan.lists, name).astype(kind) for name, kind in reading.LISTS.items()}
    arrays |= {f"tokens.{table}": np.diff(sentences.edges) for table, sentences in plan.sentences.items()}
    arrays |= {f"key.{part}": _bytes(plan.keys.all(part)) for part in plan.parts}
    arrays[reading.DOCUMENT] = np.frombuffer(canonical(document), np.uint8)
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _bytes(keys: list[str]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(keys)), np.uint8).reshape(-1, 32)
