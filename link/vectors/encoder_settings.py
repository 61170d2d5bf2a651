"""The options under which an extraction encodes as a cache was encoded, read from the recipes of its parts."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cache.kinds import KINDS, ROLES, Role
from cache.manifests.entries import Manifest
from cache.names import PartName
from common.errors import ConfigError
from extract.config import ExtractConfig
from extract.config.knobs import OPTIONS, RANDOM
from extract.encoders.text.pooling import MODES

# how recipes call the papers' encoders, which no option names
PAPERS: dict[Role, str] = {"text": "transformers BertModel", "joint": "open_clip"}
PAPERS_BEGIN: dict[Role, str] = {"image": "torchvision ", "objects": "torchvision "}
PRECISIONS = ("fp32", "bf16", "fp16")
OBJECTS = PartName("mention.objects")
ON_HUB = re.compile(
    r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)@[0-9a-f]{40}"
)  # as manifests name where encoders are from
HUB: dict[Role, str] = {"image": "hf-hub:", "joint": "hf-hub:"}  # before such a name, where an option wants it
COUNTS = ("texts", "tokens", "pictures")  # what recipes say a call of an encoder takes
SECOND = "_v2"  # of torchvision's two detectors


@dataclass(frozen=True)
class Asked:
    """What a user says of encoders: `names` and `folders` of weights by option (text, image, joint, detector).

    `weights` is where those of the papers' encoders are.
    """

    weights: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, given in (("--encoder", self.names), ("--encoder-weights", self.folders)):
            if unknown := [role for role in given if role not in OPTIONS.values()]:
                raise ConfigError(f"{option} {unknown[0]}: expected one of {', '.join(OPTIONS.values())}")


def roles_of(parts: Collection[PartName]) -> set[Role]:
    """Return the roles of the encoders that make parts; a detector's objects are encoded by the image encoder."""
    found = {role for role in ROLES if any(KINDS[part].role == role for part in parts)}
    return found | ({"image"} if "objects" in found else set())


def config_of(manifest: Manifest, parts: Collection[PartName], asked: Asked, **machine: Any) -> ExtractConfig:
    """Return the config that makes `parts` as a cache's were made; of roles that they do not need toys, never loaded.

    Raises ConfigError for an encoder that was named when the cache was made and is not `asked` for now, and for
    recipes that say too little.
    """
    told, needed = recipes(manifest), roles_of(parts)
    if lost := sorted(needed - told.keys()):
        raise ConfigError(f"the cache of {manifest.dataset.name} does not say how its {lost[0]} encoder works")
    values: dict[str, Any] = {"dataset": "jsonl", "weights": "random-tiny", "max_missing": 1.0, "remote": ""}
    for role in ROLES:
        option = OPTIONS[role]
        if role not in needed:
            values[f"{option}_weights"] = "random-tiny"
            continue
        recipe = told[role]
        values[f"{option}_weights"] = _weights(recipe, asked, option)
        if name := _name(manifest, role, recipe, asked):
            values[option] = name
        elif role == "objects" and str(recipe.get("encoder")).endswith(SECOND):
            values[option] = "v2"
        values |= _counted(recipe) | {"precision": recipe["compute"]}
        if role == "objects":
            values["objects"] = manifest.parts[OBJECTS].columns["scores"].shape[0]
    values |= dict(_read_of(manifest, named="text" in values)) | {"storage": _storage(manifest, parts)}
    return ExtractConfig(**values, heads=tuple(part for part in parts if KINDS[part].on_demand), **machine)


def recipes(manifest: Manifest) -> dict[Role, Mapping[str, Any]]:
    """Return the recipe of each encoder that made a part."""
    found: dict[Role, Mapping[str, Any]] = {}
    for name, part in manifest.parts.items():
        recipe, role = part.recipe.get("encoder"), KINDS[name].role
        if role and isinstance(recipe, dict) and recipe.get("compute") in PRECISIONS:  # crops have theirs one deeper
            found.setdefault(role, recipe)
    resnet = found["objects"].get("resnet") if "objects" in found else None
    if isinstance(resnet, dict) and resnet.get("compute") in PRECISIONS:
        found.setdefault("image", resnet)
    return found


def _weights(recipe: Mapping[str, Any], asked: Asked, option: str) -> str:
    kind = str(recipe.get("weights")).partition(",")[0]
    if option in asked.folders:
        return asked.folders[option]
    return kind if kind in RANDOM else asked.weights or "pretrained"


def _name(manifest: Manifest, role: Role, recipe: Mapping[str, Any], asked: Asked) -> str | None:
    """Return the encoder that an extraction would have to name, None for the papers'."""
    option = OPTIONS[role]
    encoder, begin = str(recipe.get("encoder")), PAPERS_BEGIN.get(role)
    if option in asked.names or encoder == PAPERS.get(role) or (begin and encoder.startswith(begin)):
        return asked.names.get(option)
    origins = manifest.provenance.noted.get("encoders")
    origin = str(origins.get(role)) if isinstance(origins, dict) else ""
    if (found := ON_HUB.fullmatch(origin)) and not found[1].endswith(".py"):  # what a stranger wrote names no file
        return f"{HUB.get(role, '')}{found[1]}"
    kind, weights = (str(recipe.get(name))[:40] for name in ("encoder", "weights"))
    raise ConfigError(
        f"the {option} encoder of the cache of {manifest.dataset.name} was named when it was made, and the cache does "
        f"not hold the name ({kind}, weights {weights[:12]}...). Give it: --encoder {option}=NAME, or the folder where "
        "it lies"
    )


def _counted(recipe: Mapping[str, Any]) -> dict[str, int]:
    """Return how much a call takes: `64 texts and 16 pictures of one shard in row order`."""
    told = {what: count for count, what in re.findall(r"(\d{1,9}) (\w+)", str(recipe.get("batch")))}
    options = {"texts": "text_batch", "tokens": "text_tokens", "pictures": "image_batch"}
    return {options[what]: int(told[what]) for what in COUNTS if int(told.get(what, 0)) > 0}


def _read_of(manifest: Manifest, *, named: bool) -> Iterator[tuple[str, Any]]:
    """Yield what options of texts decided: tokens that are read and, of an encoder that was named, more."""
    for part, side, prompt in (
        ("mention.text", "sentence_tokens", "query_prompt"),
        ("token.text", "sentence_tokens", "query_prompt"),
        ("entity.text", "entity_tokens", "passage_prompt"),
    ):
        entry = manifest.parts.get(PartName(part))
        if entry is None:
            continue
        if type(most := entry.recipe.get("max_tokens")) is int:
            yield side, most
        if named and "prompt" in entry.recipe:
            yield prompt, str(entry.recipe["prompt"])
        encoder = entry.recipe.get("encoder")
        pooling = str(encoder.get("pooling")).partition(",")[0] if isinstance(encoder, dict) else ""
        if named and pooling in MODES:
            yield "text_pooling", pooling
    attributes = manifest.parts.get(PartName("mention.attributes"))
    asked = attributes.recipe.get("attributes") if attributes else None
    faces = asked.get("face") if isinstance(asked, dict) else None
    for trait in ("gender", "race"):
        if isinstance(faces, list) and trait in faces:
            yield f"infer_{trait}", True


def _storage(manifest: Manifest, parts: Collection[PartName]) -> str:
    """Return how the vectors of parts are stored."""
    specs = [
        spec
        for part in parts
        for name, spec in manifest.parts[part].columns.items()
        if name in KINDS[part].columns and KINDS[part].columns[name].dtype == "feature"
    ]
    coded = [spec for spec in specs if spec.width is not None]
    if coded:
        return "int8" if coded[0].dtype == "|i1" else "int4"
    return "float32" if any(spec.dtype == "<f4" for spec in specs) else "float16"
