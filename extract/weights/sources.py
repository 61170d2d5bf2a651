"""Where encoder weights come from, and proof that they are the ones meant."""

import hashlib
import importlib.metadata
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cache.kinds import ROLES, Role
from common.errors import WeightsError
from common.paths import is_file, is_folder
from extract.config import ExtractConfig
from extract.config.knobs import OPTIONS, RANDOM

SEED = 0
RESIDUAL_GAIN = 0.2  # untrained batch norms do not normalize: at gain 1 fifty blocks overflow float16


@dataclass(frozen=True)
class Wanted:
    """One weights file: the names it may have, where its library would download it, a hash that it must have.

    `sha256` is a whole digest or a prefix; without it, eight hex digits behind the last dash of a torchvision
    file name are checked.
    """

    encoder: str
    names: tuple[str, ...]
    url: str
    sha256: str = ""


@dataclass(frozen=True)
class Weights:
    """`--weights`: a folder of files, "pretrained", "random-tiny" or "random-full"."""

    kind: str
    folder: Path | None = None

    @property
    def random(self) -> bool:
        """The encoders are untrained; every output says so."""
        return self.kind in RANDOM

    @property
    def tiny(self) -> bool:
        """The encoders are of the real classes but of toy size."""
        return self.kind == "random-tiny"

    def places(self, *names: str) -> list[Path]:
        """Return where in the folder a model's file of weights may lie: in folders of its names, or in it itself."""
        if self.folder is None:
            return []
        inside = [self.folder / name for name in dict.fromkeys((*names, *(name.rpartition("/")[2] for name in names)))]
        return [*inside, self.folder]

    def find(self, wanted: Wanted, download: Callable[[], Path]) -> Path:
        """Return the checked local file.  Raises WeightsError naming every place looked at and the file wanted."""
        looked: list[str] = []
        if self.folder is not None:
            for path in (base / name for base in (self.folder, self.folder / wanted.encoder) for name in wanted.names):
                looked.append(str(path))
                if is_file(path):
                    return _checked(path, wanted)
        else:
            try:
                return _checked(download(), wanted)
            except (OSError, RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                looked.append(f"the download cache, then {wanted.url} ({reason})")
        online = "" if self.kind == "pretrained" else ", or --weights pretrained where there is network"
        raise WeightsError(
            f"no weights for {wanted.encoder}: looked at {'; '.join(looked)}. Expected: {' or '.join(wanted.names)}, "
            f"available at {wanted.url}. Put it into a folder and pass --weights FOLDER{online}, or --weights "
            "random-tiny to try things out"
        )


def parse(text: str, *, online: bool = False, option: str = "--weights") -> Weights:
    """Read an option that says where weights come from.  Raises WeightsError for a folder that is not there.

    The Hub's library is switched off where no weights are downloaded, and none are `online` for other reasons: without
    network it otherwise retries for 24-48 s.
    """
    if text != "pretrained" and not online:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if text in (*RANDOM, "pretrained"):
        return Weights(text)
    if not is_folder(Path(text)):
        raise WeightsError(f"{option} {text}: no such folder, and not one of pretrained, {', '.join(RANDOM)}")
    return Weights("files", Path(text))


def by_role(config: ExtractConfig) -> dict[Role, Weights]:
    """Return by role where its weights come from.  Raises WeightsError for a folder that is not there."""
    options = {role: config.weights_of(role) for role in ROLES}
    online = "pretrained" in options.values()
    return {
        role: parse(text, online=online, option="--weights" if text == config.weights else f"--{OPTIONS[role]}-weights")
        for role, text in options.items()
    }


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


def random_identity(kind: str, *packages: str) -> str:
    """Return what stands for the digest of random weights: kind, seed, and whatever decides the numbers drawn."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", *packages))
    return f"{kind}, seed {SEED}, {versions}"


def library(*packages: str) -> str:
    """Return the packages that compute an encoder's numbers, each with its major version."""
    return ", ".join(f"{name} {importlib.metadata.version(name).partition('.')[0]}" for name in packages)


def reachable(host: str) -> None:
    """Raise OSError at once where `host` cannot be reached directly and no proxy is set."""
    if not any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        socket.create_connection((host, 443), timeout=5).close()


def _checked(path: Path, wanted: Wanted) -> Path:
    prefix = wanted.sha256
    if not prefix and (found := re.search(r"-([0-9a-f]{8})\.pth$", path.name)):
        prefix = found[1]
    if prefix and not (actual := sha256_file(path)).startswith(prefix):
        raise WeightsError(
            f"{path} is not the file it claims to be: sha256 begins with {actual[: len(prefix)]}, not {prefix}. "
            f"Download it again from {wanted.url}"
        )
    return path
