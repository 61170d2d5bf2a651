"""Where a timm model's config and weights lie: timm's own table, a folder, or the Hub.  Nothing in them is run."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from common import places
from common.errors import WeightsError
from common.paths import is_file, is_folder
from common.words import nearest
from extract.config.knobs import LOCAL
from extract.weights import hub_files
from extract.weights.sources import Wanted, Weights, reachable

FILES = ("model.safetensors", "pytorch_model.bin")
HUB = "hf-hub:"
DEEPEST, LARGEST = 1_000, 1 << 20  # numbers that a config.json may say: of layers, and any other


@dataclass(frozen=True)
class Found:
    """`name` is what timm.create_model takes: a name of its own, or local-dir:FOLDER.  `weights` is None for random."""

    name: str
    weights: Path | None


def find(asked: str, weights: Weights) -> Found:
    """Return where a model lies that --image names, fetching it where that is asked.  Raises WeightsError."""
    folder = places.home(asked.removeprefix(LOCAL))
    if asked.startswith(LOCAL) or (is_folder(folder) and not timm.is_model(asked)):
        name = _described(folder)
        return Found(
            name,
            None
            if weights.random
            else _in_folders(weights.places(Path(os.path.abspath(folder)).name) or [folder], asked),
        )
    if asked.startswith((HUB, "timm/")):
        return _of_hub(asked.removeprefix(HUB), weights)
    config = _known(asked)
    if weights.random:
        return Found(asked, None)
    if weights.folder is not None:
        file = _in_folders(weights.places(asked, asked.partition(".")[0]), asked)
        if not is_file(file.with_name(hub_files.CONFIG)):
            return Found(asked, file)
        return Found(_same(_described(file.parent), asked), file)
    return Found(asked, _downloaded(asked, config, weights))


def _known(asked: str) -> Any:
    """Return what timm knows of a name of its own.  Raises WeightsError for any other."""
    name, _, tag = asked.partition(".")
    if not timm.is_model(name):
        near = nearest(name.rpartition("/")[2], timm.list_models())
        raise WeightsError(
            f"--image {asked:.100}: timm {timm.__version__} has no model of this name{near}, and no folder is there. "
            "Expected one of timm.list_models() such as resnet50, convnext_tiny or vit_small_patch14_dinov2, a folder, "
            f"or {HUB}OWNER/NAME of a timm model on the Hub; models of transformers alone do not fill this role"
        )
    tags = [found.partition(".")[2] for found in timm.list_models(f"{name}.*", pretrained=True)]
    if tag and tag not in tags:
        expected = f"expected one of {', '.join(tags)}{nearest(tag, tags)}" if tags else "it has no trained weights"
        raise WeightsError(f"--image {asked:.100}: timm has no weights {tag:.60} of {name}: {expected}")
    return timm.get_pretrained_cfg(asked)


def _described(folder: Path) -> str:
    """Return the name of a folder whose config.json says which model of timm it is.  Raises WeightsError."""
    if not is_folder(folder):
        raise WeightsError(f"--image: no folder {folder}. Expected config.json and model.safetensors of a timm model")
    config = hub_files.read_object(folder / hub_files.CONFIG)
    name = config.get("architecture")
    if not isinstance(name, str) or not timm.is_model(name):
        kind = config.get("model_type")
        other = f", but a family of transformers, {kind:.40}" if isinstance(kind, str) else ""
        near = nearest(name, timm.list_models()) if isinstance(name, str) else ""
        raise WeightsError(
            f"{folder}/config.json names no model of timm {timm.__version__} as its architecture ({name!r:.60}"
            f"{near}{other}). Take a timm model, such as one of https://huggingface.co/timm"
        )
    if (found := _excess(config.get("model_args"))) is not None:
        raise WeightsError(f"{folder}/config.json: model_args say {found:,}, which no {name} has. Download it again")
    return f"{LOCAL}{folder}"


def _excess(value: Any, most: int = LARGEST) -> int | None:
    """Return a number within a value that no model has, which would take hours or all memory to build."""
    if isinstance(value, dict):
        limits = {name: DEEPEST if name in ("depth", "depths", "layers") else most for name in value}
        found = [_excess(inner, limits[name]) for name, inner in value.items()]
    elif isinstance(value, list):
        found = [_excess(inner, most) for inner in value]
    else:
        return value if isinstance(value, int) and abs(value) > most else None
    return next((number for number in found if number is not None), None)


def _same(described: str, asked: str) -> str:
    """Return a described folder's name where it is the architecture asked for.  Raises WeightsError."""
    folder = Path(described.removeprefix(LOCAL))
    found = hub_files.read_object(folder / hub_files.CONFIG)["architecture"]
    if found != asked.partition(".")[0]:
        raise WeightsError(f"--image {asked}: the weights in {folder} are of {found}. Take --image {found}, or others")
    return described


def _in_folders(folders: list[Path], asked: str) -> Path:
    """Return the first file of weights in some folders.  Raises WeightsError."""
    found = next((path for folder in folders for name in FILES if is_file(path := folder / name)), None)
    if found is None:
        raise WeightsError(
            f"no weights for {asked}: looked for {' or '.join(FILES)} in {', '.join(map(str, folders))}. Put them "
            "there, or leave --image-weights out where there is network; random-tiny tries things out without"
        )
    return found


def _of_hub(repository: str, weights: Weights) -> Found:
    """Return a model of the Hub, from the folder of weights where one is given, else from the Hub or its cache."""
    if weights.folder is not None:
        file = _in_folders(weights.places(repository), repository)
        return Found(_described(file.parent), file)
    folder = _fetched(repository, (hub_files.CONFIG,)).parent
    described = _described(folder)
    return Found(described, None if weights.random else _fetched(repository, FILES))


def _downloaded(asked: str, config: Any, weights: Weights) -> Path:
    """Return the file that timm itself would load, from the Hub or from its own address."""
    if config is not None and config.hf_hub_id:
        named = config.hf_hub_filename
        return _fetched(config.hf_hub_id, (named,) if named else FILES)
    if config is not None and isinstance(config.url, str) and config.url:
        file = config.url.rpartition("/")[2]
        return weights.find(Wanted(asked, (file,), config.url), partial(_of_address, config.url, file))
    tags = timm.list_models(f"{asked.partition('.')[0]}.*", pretrained=True)
    others = f"Take {' or '.join(tags)}" if tags else "Take another model, or --image-weights FOLDER"
    raise WeightsError(f"--image {asked}: timm has no trained weights of it. {others}")


def _of_address(url: str, file: str) -> Path:
    """Return a file in torch's own download cache, fetching it if it is not there.  Raises OSError offline."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not is_file(path):
        reachable(url.split("/")[2])
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    return path


def _fetched(repository: str, names: tuple[str, ...]) -> Path:
    """Return the first of some files of a model, from the Hub's cache or the Hub.  Raises WeightsError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = repository.partition("@")
    try:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, revision=revision or None, local_files_only=True))
            except LocalEntryNotFoundError:
                continue
        reachable("huggingface.co")
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, revision=revision or None))
            except EntryNotFoundError:
                continue
        raise ValueError(f"it has no {' or '.join(names)}")
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"no image encoder {repository}: not in the download cache, and not to be had at "
            f"https://huggingface.co/{repository} ({reason}). Put its files into a folder for --image-weights FOLDER, "
            "or try things out with --image-weights random-tiny"
        ) from error
