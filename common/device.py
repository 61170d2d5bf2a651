"""Choose the device, its precision and the number of threads."""

import torch

from common.errors import ConfigError


def choose(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda".  Raises ConfigError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not (name == "cpu" or name.startswith("cuda")):
        raise ConfigError(f"--device {name}: choose cpu, cuda or auto")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this torch sees no CUDA device. Use --device cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: {str(error).splitlines()[0]}") from None
