"""When, with what and how long a cache was made: in the manifest, but not in the cache id."""

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cache.manifests.entries import Manifest, Provenance
from cache.sharing.remote_shards import Listed
from cache.writing.draft import Draft
from extract.encoders import Encoders

PACKAGES = (
    "melcache",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "h5py",
    "numpy",
    "pillow",
    "rapidfuzz",
)

NOTHING = Provenance({}, {})
LONGEST = 200  # characters of a text that is taken over


def of(
    draft: Draft, others: Sequence[Listed], spent: Mapping[str, float], encoders: Encoders, seconds: float
) -> dict[str, Any]:
    """Return the provenance of a finished draft, `seconds` having passed and `spent` of them on parts.

    What was present locally, or is of `others` (caches beside, a remote), keeps the seconds that its own manifest
    notes; `seconds`, in all and of a part, are sums over all runs that computed some of it, `rows` those of which the
    time is known. Date, device and packages are those of the run that computed last: this one, if it computed anything.
    """
    if not draft.made and not others and draft.before is not None:
        return _own(draft.before)
    parts: dict[str, dict[str, Any]] = {}
    noted_here = draft.before.provenance if draft.before else NOTHING
    known = [(part, rows, noted_here.seconds_of(part, rows)) for part, rows in draft.rows_known().items()]
    known += [(listed.entry.part, listed.entry.rows, listed.seconds) for listed in others]
    earlier = sum(taken for *_, taken in known if taken is not None)
    known += [(part, rows, spent.get(part, 0.0)) for part, rows in draft.rows_made().items() if rows]
    for part, rows, taken in known:
        if rows and taken is not None:
            noted = parts.setdefault(part, {"seconds": 0.0, "rows": 0})
            noted["seconds"], noted["rows"] = round(noted["seconds"] + taken, 3), noted["rows"] + rows
    if draft.made or not others:
        return _collect(encoders) | {"seconds": round(earlier + seconds, 1), "parts": parts}
    last = max(
        (listed.manifest for listed in others), key=lambda manifest: str(manifest.provenance.noted.get("made", ""))
    )
    return _told(last) | {"seconds": round(earlier, 1), "parts": parts}


def _own(manifest: Manifest) -> dict[str, Any]:
    """Return the provenance of a manifest as that of a whole cache, which an extraction makes of a part, too."""
    return {name: value for name, value in manifest.provenance.noted.items() if name != "of"}


def _told(manifest: Manifest) -> dict[str, Any]:
    """Return what of a stranger's provenance has the form that ours has: it would else make a manifest too large."""
    noted = manifest.provenance.noted
    told = {name: noted[name] for name in ("made", "device", "python") if _short(noted.get(name))}
    packages = noted.get("packages", {})
    if isinstance(packages, dict):
        told["packages"] = {name: packages[name] for name in PACKAGES if _short(packages.get(name))}
    return told


def _short(text: object) -> bool:
    return isinstance(text, str) and len(text) <= LONGEST and text.isprintable()


def _collect(encoders: Encoders) -> dict[str, Any]:
    """Return date, versions, device and commits of encoders; never a path, user or host name."""
    compute, origins = encoders.compute, encoders.origins
    gpu = compute.device.type != "cpu"
    return ({"encoders": origins} if origins else {}) | {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(compute.device) if gpu else platform.machine(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
