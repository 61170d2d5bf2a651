"""Fetch and load torchvision state dicts, strictly and without unpickling code."""

from pathlib import Path

import torch

from common.paths import is_file
from extract.weights import states
from extract.weights.sources import Wanted, reachable


def download(wanted: Wanted) -> Path:
    """Return the file in torch's own download cache, fetching it if it is not there.  Raises OSError offline."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / wanted.names[0]
    if not is_file(path):
        reachable("download.pytorch.org")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(wanted.url, str(path), hash_prefix=path.stem.rsplit("-", 1)[1])
    return path


def load_strictly(model: torch.nn.Module, path: Path, wanted: Wanted) -> None:
    """Load a state dict into the model.  Raises WeightsError if a key is missing, foreign, or of another shape."""
    states.fill(model, states.read(path, wanted.encoder), path, wanted.encoder)
