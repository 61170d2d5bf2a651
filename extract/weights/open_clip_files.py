"""Files of an open_clip model: by its library's name, on the Hub, or in a folder.  Nothing in them is run."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import open_clip
from open_clip import pretrained as library

from common.errors import ConfigError, WeightsError
from common.paths import is_file, is_folder
from common.places import home
from common.words import nearest, one_of
from extract.weights import hub_files
from extract.weights.sources import Weights, reachable

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FORMS = "model:pretrained, hf-hub:ORG/NAME or local-dir:FOLDER"
LIKE = 5  # names that are listed where one is not known


@dataclass(frozen=True)
class Found:
    """A model as its files describe it.

    `config` says what its towers are, `preprocess` how pictures are read, both as open_clip has them; `weights` is its
    file, None for random ones; `folder` holds its tokenizer, None where that is only named.
    """

    config: dict[str, Any]
    preprocess: Mapping[str, Any]
    weights: Path | None
    folder: Path | None


def find(spec: str, weights: Weights) -> Found:
    """Return the model that --joint names, its files downloaded where they are not there.  Raises WeightsError."""
    kind, colon, name = spec.partition(":")
    if colon and kind in ("hf-hub", "local-dir"):
        if not name:
            raise ConfigError(f"--joint {spec}: expected {FORMS}")
        folder = _folder(spec, name, weights, hub=kind == "hf-hub")
        given = kind == "local-dir" and weights.folder is not None and is_folder(home(name))
        places = weights.places(Path(os.path.abspath(folder)).name) if given else [folder]
        return _of_folder(folder, places, trained=not weights.random)
    if is_folder(home(spec)):
        raise ConfigError(f"--joint {spec} is a folder: say local-dir:{spec}")
    return _of_library(kind, name, weights)


def _of_library(model: str, tag: str, weights: Weights) -> Found:
    """Return a model that open_clip knows by name, with the weights that it knows by a tag."""
    model = model.replace("/", "-")
    config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        raise WeightsError(f"open_clip {open_clip.__version__} has no model {model}{_similar(model)}. Expected {FORMS}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    known = library.get_pretrained_cfg(model, tag) if tag else {}
    if (tag and not known) or (not tag and weights.kind == "pretrained"):
        there = f"there are {one_of(tag, tags)}" if tags else "it has none: --joint-weights says a folder"
        raise WeightsError(f"--joint {model}{':' if tag else ''}{tag}: which weights of open_clip's? {there}")
    if tag:
        # the plain name builds GELU, whatever was trained; of roberta-ViT-B-32 the model says it, and not the tag
        config["quick_gelu"] = config.get("quick_gelu", False) or known.get("quick_gelu", False)
    path = None if weights.random else _in_folder(model, weights) or _downloaded(f"{model}:{tag}", known)
    return Found(config, known, path, weights.folder)


def _similar(model: str) -> str:
    """Return the names of open_clip's that begin as one does that it has not, and the nearest."""
    known = open_clip.list_models()
    begin = next((n for n in range(len(model), 2, -1) if any(name.startswith(model[:n]) for name in known)), 0)
    like = [name for name in known if begin and name.startswith(model[:begin])][:LIKE]
    return (f"; there are {', '.join(like)}" if like else "") + nearest(model, known)


def _in_folder(model: str, weights: Weights) -> Path | None:
    """Return the file of weights in --joint-weights FOLDER, None where weights are open_clip's own download."""
    if weights.folder is None:
        return None
    looked = [folder / name for folder in weights.places(model) for name in WEIGHTS]
    found = next((path for path in looked if is_file(path)), None)
    if found is None:
        raise WeightsError(f"no weights of {model}: looked at {', '.join(map(str, looked))}")
    return found


def _downloaded(spec: str, known: Mapping[str, str]) -> Path:
    """Return the file of a tag's weights as open_clip caches it, downloading it if it is not there."""
    repository, _, file = known.get("hf_hub", "").rpartition("/")
    url = known.get("url", "")
    host = "huggingface.co" if repository else urlsplit(url).hostname or ""
    try:
        there = _cached(repository, [file] if file else WEIGHTS, url)
        if there is None:
            reachable(host)
            there = Path(library.download_pretrained(dict(known)))
        return there
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"no weights of {spec}: not in the download cache, and not to be had at {host}/{repository} "
            f"({_first_line(error)}). Pass --joint-weights FOLDER, or random-tiny to try things out"
        ) from error


def _cached(repository: str, files: Sequence[str], url: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    if not repository:
        path = home("~/.cache/clip") / url.rpartition("/")[2]
        return path if is_file(path) else None
    wanted = [name for file in files for name in (f"{file.rpartition('.')[0]}.safetensors", file)]
    found = (try_to_load_from_cache(repository, name) for name in wanted)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _folder(spec: str, name: str, weights: Weights, *, hub: bool) -> Path:
    """Return the folder of a model's files, which for one on the Hub is the Hub's own cache."""
    under = weights.places(name.strip("/"))
    looked = under if hub else [home(name), *under]
    for folder in looked:
        if is_folder(folder) and (folder != weights.folder or is_file(folder / CONFIG)):
            return folder
    if not hub or looked:
        raise WeightsError(f"--joint {spec}: no folder at {', '.join(map(str, looked))}")
    try:
        return _snapshot(name, trained=not weights.random)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"--joint {spec}: not in the download cache, and not to be had at https://huggingface.co/{name} "
            f"({_first_line(error)}). Expected a model's name as it stands there, or local-dir:FOLDER"
        ) from error


def _snapshot(name: str, *, trained: bool) -> Path:
    """Return a model's folder in the Hub's own cache, fetching what is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    def whole(folder: Path) -> bool:
        return is_file(folder / CONFIG) and (not trained or any(is_file(folder / file) for file in WEIGHTS))

    try:
        folder = Path(snapshot_download(name, allow_patterns=hub_files.DESCRIBING, local_files_only=True))
        if whole(folder):
            return folder
    except LocalEntryNotFoundError:
        pass  # nothing of it is there
    reachable("huggingface.co")
    for file in WEIGHTS if trained else WEIGHTS[:1]:
        folder = Path(snapshot_download(name, allow_patterns=[*hub_files.DESCRIBING, *([file] if trained else [])]))
        if whole(folder):
            break
    return folder


def _of_folder(folder: Path, places: Sequence[Path], *, trained: bool) -> Found:
    """Return the model whose files a folder holds, its weights in the first of some places that has them."""
    if not is_file(folder / CONFIG):
        raise WeightsError(f"{folder} holds no model of open_clip: it has no {CONFIG}{_what(folder)}")
    told = hub_files.read_object(folder / CONFIG)
    config, preprocess = told.get("model_cfg"), told.get("preprocess_cfg", {})
    if not isinstance(config, dict) or not isinstance(preprocess, dict):
        raise WeightsError(f"{folder / CONFIG} has no object model_cfg, which says what the model is")
    path = next((place / name for place in places for name in WEIGHTS if is_file(place / name)), None)
    if trained and path is None:
        raise WeightsError(
            f"no weights in {' or '.join(map(str, places))}: expected {' or '.join(WEIGHTS)}. --joint-weights "
            "random-tiny tries things out without"
        )
    return Found(deepcopy(config), preprocess, path if trained else None, folder)


def _what(folder: Path) -> str:
    """Return what a folder without open_clip's config seems to be."""
    if not is_file(folder / hub_files.CONFIG):
        return ""
    told = hub_files.read_object(folder / hub_files.CONFIG)
    named = {"--text": told.get("model_type"), "--image": told.get("architecture")}
    return "".join(
        f". Its config.json is of {kind!r:.40}, which may be for {option}" for option, kind in named.items() if kind
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
