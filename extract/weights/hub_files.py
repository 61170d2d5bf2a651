"""Files of a Hugging Face model: in a folder of its own, or in the Hub's cache.  Nothing in them is run."""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.fingerprint import digest
from cache.kinds import Role
from common.errors import WeightsError
from common.paths import is_file, is_folder, is_special
from common.places import home
from extract.config.knobs import LOCAL, OPTIONS
from extract.weights import states
from extract.weights.sources import Weights, reachable

CONFIG = "config.json"
DESCRIBING = ["*.json", "*.txt", "*.model"]
WORDS: dict[Role, str] = {
    "text": "text encoder",
    "image": "image encoder",
    "joint": "joint encoder",
    "objects": "detector",
}
# a file of weights, or the index of several; the first that is there is taken
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
NAMELESS = (
    "model",
    "models",
    "weights",
    "checkpoint",
    "main",
)  # what a folder is called that says nothing of its model
DENSE = "*_Dense"  # folders of modules of sentence-transformers that have weights of their own
DEEPEST = 100  # levels of objects and lists
MAX_JSON = 64 << 20  # bytes; a model's index of a thousand files has some
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)(?:@(\w[\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Place:
    """Where a model's files lie, and where its weights do."""

    folder: Path
    weights: Path


def find(asked: str, weights: Weights, role: Role) -> Place:
    """Return where the model of a role lies that an option names, as the role's weights are asked for.

    A folder of weights that is given has the weights, whatever else the model's own folder has. Raises WeightsError.
    """
    trained, what = not weights.random, WORDS[role]
    folder = home(asked)
    if weights.folder is None:
        folder = located(asked, what, trained=trained)
        return Place(folder, folder)
    if not is_folder(folder):
        if (found := next((place for place in weights.places(asked) if is_file(place / CONFIG)), None)) is None:
            looked = ", ".join(map(str, (folder, *weights.places(asked))))
            raise WeightsError(
                f"no {what} {asked}: looked for a folder with {CONFIG} at {looked}. Expected such a folder, or with "
                "--weights pretrained or random-tiny the name of a model at https://huggingface.co"
            )
        return Place(found, found)
    places = weights.places(os.path.basename(os.path.abspath(folder)))
    there = next((place for place in places if any(is_file(place / file) for file in WEIGHTS)), places[-1])
    return Place(folder, there)


def located(name: str, what: str, *, trained: bool) -> Path:
    """Return the folder of a model that is named, or that is itself a folder; with its weights where it is `trained`.

    A name on the Hub may end in `@` and a revision: a branch, a tag or a commit. Raises WeightsError, which says `what`
    it is.
    """
    if is_folder(folder := home(name)):
        return folder
    model = _NAME.fullmatch(name)
    if model is None:
        raise WeightsError(
            f"no {what} {name}: looked for a folder at {folder}. Expected such a folder, "
            "or with --weights pretrained or random-tiny the name of a model at https://huggingface.co"
        )
    try:
        return _download(model[1], model[2], trained=trained)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"no {what} {name}: no such folder, not in the download cache, and not to be had at "
            f"https://huggingface.co/{model[1]} ({reason}). Expected a model's name as it stands there, or a folder of "
            "its files"
        ) from error


def origin(folder: Path) -> str | None:
    """Return NAME@COMMIT of a model's folder in the Hub's cache; None for any other folder."""
    kind, _, name = folder.parent.parent.name.partition("--")
    if kind != "models" or folder.parent.name != "snapshots" or not _COMMIT.fullmatch(folder.name):
        return None
    return f"{name.replace('--', '/')}@{folder.name}"


def called(asked: str) -> str:
    """Return how tables call an encoder that an option names: by its name, and one in a folder by the folder's.

    A folder of the Hub's cache goes by the model's name, one that says nothing by that of the folder above, too.
    """
    local = asked.removeprefix(LOCAL)
    if local == asked and not is_folder(home(asked)):
        return asked
    folder = Path(os.path.abspath(home(local)))
    if (known := origin(folder)) is not None:
        return known.partition("@")[0]
    return "/".join(folder.parts[-2:]) if folder.name in NAMELESS else folder.name


def _download(name: str, revision: str | None, *, trained: bool) -> Path:
    """Return the model's folder in the Hub's own cache, fetching what is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetched(*patterns: str, local: bool = False) -> Path:
        wanted = [*DESCRIBING, *patterns]
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=local))

    try:
        folder = fetched(local=True)
        if is_file(folder / CONFIG) and (not trained or all(map(is_file, _all_weights_of(folder)))):
            return folder
    except (LocalEntryNotFoundError, WeightsError):
        pass  # nothing of it is there, or no weights
    reachable("huggingface.co")
    folder = fetched(*(["model*.safetensors", f"{DENSE}/*"] if trained else []))
    if trained and not any(is_file(folder / file) for file in WEIGHTS):
        folder = fetched("pytorch_model*.bin", f"{DENSE}/*")
    return folder


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.  Raises WeightsError."""
    try:
        if is_special(path):
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON:,} bytes")
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        _refuse_deep(found)
        return found
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read {path}: {error}. Download the model again") from error


def _refuse_deep(found: Any) -> None:
    """Raise ValueError for objects and lists in each other of which libraries make no copy."""
    level = [found]
    for _ in range(DEEPEST):
        inner = (held.values() if isinstance(held, dict) else held for held in level if isinstance(held, dict | list))
        if not (level := [value for values in inner for value in values]):
            return
    raise ValueError(f"it is deeper than {DEEPEST} levels")


def _refuse(name: str) -> None:
    raise ValueError(f"it holds {name}")


def _finite(text: str) -> float:
    if not math.isfinite(found := float(text)):
        _refuse(text[:20])
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.  Raises WeightsError."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise WeightsError(f"cannot read {path}: it is not a JSON object. Download the model again")
    return found


def identity(folder: Path, role: Role) -> str:
    """Return the sha256 of the weights in a folder, 64 hex digits; of those of its files where there are several."""
    found = [states.identity(path, str(folder)) for path in _weights_of(folder, role)]
    return found[0] if len(found) == 1 else digest(found)


def read_state(folder: Path, encoder: str, role: Role) -> states.State:
    """Return the weights in a folder by name.  Raises WeightsError."""
    found: states.State = {}
    for path in _weights_of(folder, role):
        found |= states.read(path, encoder)
    return found


def _all_weights_of(folder: Path) -> list[Path]:
    """Return the files of weights of a folder and of its modules.  Raises WeightsError where there are none of one."""
    return [path for place in (folder, *folder.glob(DENSE)) for path in _weights_of(place, "text")]


def _weights_of(folder: Path, role: Role) -> list[Path]:
    """Return the files of a folder that hold its weights.  Raises WeightsError where there are none."""
    there = next((folder / name for name in WEIGHTS if is_file(folder / name)), None)
    if there is None:
        raise WeightsError(
            f"no weights in {folder}: expected model.safetensors or pytorch_model.bin. --{OPTIONS[role]}-weights "
            "random-tiny tries things out without"
        )
    if there.suffix != ".json":
        return [there]
    parts = read_object(there).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise WeightsError(f"{there} does not say which files hold the weights. Download the model again")
    found = [folder / Path(name).name for name in sorted(set(parts.values()))]
    if strange := [path for path in found if is_special(path)]:  # of a FIFO or a device reading has no end
        raise WeightsError(f"{there}: {strange[0]} is not a regular file. Download the model again")
    return found
