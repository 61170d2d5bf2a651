"""When, with what and how long a cache was made: in the manifest, but not in the cache id."""

import datetime
import importlib.metadata
import platform
from typing import Any

import torch

from extract.encoders.compute import Compute

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


def collect(compute: Compute, seconds: float) -> dict[str, Any]:
    """Return versions, device and seconds; never a path, user or host name."""
    cuda = compute.device.type == "cuda"
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name(compute.device) if cuda else platform.machine(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
