"""Fetch and load torchvision state dicts, strictly and without unpickling code."""

import pickle
from pathlib import Path

import torch

from common.errors import WeightsError
from extract.encoders.weights import Wanted, reachable


def download(wanted: Wanted) -> Path:
    """Return the file in torch's own download cache, fetching it if it is not there.  Raises OSError offline."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / wanted.names[0]
    if not path.is_file():
        reachable("download.pytorch.org")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(wanted.url, str(path), hash_prefix=path.stem.rsplit("-", 1)[1])
    return path


def load_strictly(model: torch.nn.Module, path: Path, wanted: Wanted) -> None:
    """Load a state dict into the model.  Raises WeightsError if a key is missing, foreign, or of another shape."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state, strict=True)
    except (RuntimeError, pickle.UnpicklingError, AttributeError, TypeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} does not hold the weights of {wanted.encoder}: {reason}") from error
