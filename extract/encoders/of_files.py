"""What the files of a named encoder say of its recipe, before a library is imported or a model is built."""

from typing import Any

from cache.fingerprint import digest
from cache.kinds import Role
from common import own_file
from extract.config import ExtractConfig
from extract.config.knobs import OPTIONS
from extract.encoders.text.tokenizer import BLANKS
from extract.weights import hub_files, hub_models, sources
from extract.weights.sources import library


def recipe(config: ExtractConfig, role: Role) -> dict[str, Any]:
    """Return fields of the recipe of the encoder that an option names, with their values.

    {} for the papers' encoders, random weights, and models of timm and open_clip, which only these can look up. Raises
    WeightsError for files that are not to be had, ConfigError for a file of the user's own that is not there.
    """
    weights = sources.by_role(config)[role]
    if config.named(role) is None or weights.random:
        return {}
    if (path := config.own(role)) is not None:
        return {"encoder": "own", "code": own_file.digest_of(path, f"--{OPTIONS[role]}")}
    if role not in ("text", "objects"):
        return {}
    place = hub_files.find(str(config.named(role)), weights, role)
    found = {"config": digest(hub_models.decisive(hub_files.read_object(place.folder / hub_files.CONFIG)))}
    if role == "text":  # whether a detector needs timm beside transformers is not known yet
        found |= {"library": library("transformers")} | BLANKS
    return found | {"weights": hub_files.identity(place.weights, role)}
