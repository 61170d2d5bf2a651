"""The card of a cache, README.md where it is shared: written from the manifest, left alone once a person changed it."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

from cache import coverage
from cache.kinds import KINDS, holds
from cache.manifests.entries import Manifest
from cache.names import PartName
from common.foreign import markdown, shell
from common.output import size

MARK = "<!-- written by melcache card, which renews this page until someone edits it: {} -->\n"

# What a recipe's encoder is where it is one of the papers', the licence of its public weights, and where that is said.
_DETECTOR = (
    "Faster R-CNN ResNet-50 FPN, COCO weights",
    "BSD-3-Clause; COCO's annotations are CC BY 4.0",
    "https://github.com/pytorch/vision",
)
ENCODERS = {
    "transformers BertModel": ("BERT, bert-base-cased", "Apache-2.0", "https://github.com/google-research/bert"),
    "open_clip": ("CLIP ViT-B/32 of OpenAI", "MIT", "https://github.com/openai/CLIP"),
    "torchvision resnet152": (
        "ResNet-152, ImageNet weights V1",
        "BSD-3-Clause; ImageNet's own terms, research that is not commercial, may bind weights trained on it",
        "https://github.com/pytorch/vision",
    ),
    "torchvision fasterrcnn_resnet50_fpn": _DETECTOR,
    "torchvision fasterrcnn_resnet50_fpn_v2": _DETECTOR,
}
UNKNOWN = "not known to melcache: see where the model was published"
# The Hub's names of licences as the releases state them; any other is "other".
LICENCES = {"CC BY-SA 4.0": "cc-by-sa-4.0", "CC0-1.0 (generated)": "cc0-1.0", "MIT": "mit", "unknown": "unknown"}
_ORIGIN = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?@[0-9a-f]{40}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
PEOPLE = (
    "**This cache holds guesses about people.** `mention.attributes` was inferred from the faces in pictures, such as "
    "apparent gender, race, age and emotion. A model guesses them, often wrongly and for some groups more often than "
    "for others, and nobody shown was asked. They are here to reproduce published systems; do not use them to "
    "identify, describe, sort or judge people."
)


def page(manifest: Manifest, head: str = "") -> str:
    """Return the card in Markdown: `head`, a line that marks it as ours while it is unchanged, and the sections."""
    body = "\n\n".join(_sections(manifest)) + "\n"
    return head + MARK.format(_digest(head + body)) + "\n" + body


def front_matter(manifest: Manifest) -> str:
    """Return the YAML that the Hub reads; JSON's strings are YAML's."""
    dataset = manifest.dataset
    licence = LICENCES.get(dataset.licence, "other")
    details = [f"license_details: {json.dumps(dataset.licence)}"] if licence == "other" else []
    tags = [f"- {tag}" for tag in ("melcache", "entity-linking", "multimodal", "features")]
    name = f"pretty_name: {json.dumps(dataset.name + ', melcache features')}"
    return "\n".join(["---", f"license: {licence}", *details, name, "viewer: false", "tags:", *tags, "---", ""])


def ours(found: bytes) -> bool:
    """Return whether a page is a card as it was written; one that a person has changed is not."""
    before, begin, after = found.decode(errors="replace").partition(MARK.partition("{}")[0])
    digest, _, body = after.partition(" -->\n\n")
    return bool(begin) and digest == _digest(before + body)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sections(manifest: Manifest) -> list[str]:
    dataset, tables, shards = manifest.dataset, manifest.tables, manifest.shards
    splits = ", ".join(f"{markdown(name)} {count:,}" for name, count in manifest.splits.items())
    held = size(manifest.bytes)
    name = dataset.name if dataset.name == shell(dataset.name) else "NAME"
    people = [PEOPLE] if "mention.attributes" in manifest.parts else []
    return [
        f"# {markdown(dataset.name)}: features for multimodal entity linking",
        f"{tables['mention']:,} mentions ({splits}), {tables['entity']:,} entities and {manifest.candidates} "
        f"candidates a mention, as vectors: {len(shards)} HDF5 files, {held}. Names and ids are in it, the texts and "
        "pictures themselves are not.",
        f"Cache id `{manifest.id}`; made {markdown(manifest.provenance.made)}.",
        *(f"> warning: {markdown(warning)}" for warning in manifest.warnings),
        *people,
        f"## Data\nSource: {markdown(dataset.source)}. Licence: {markdown(dataset.licence)}. Whoever passes the "
        "features on must keep to these terms.",
        f"## Parts\n{_table(('part', 'column', 'shape', 'type', 'holds'), _columns(manifest))}",
        f"## Encoders\n{_encoders(manifest)}",
        f"## Coverage\n{_table(('', 'rows'), coverage.rows(manifest.coverage))}",
        f"## Load\nWith h5py alone, in this folder:\n```python\n{_example(manifest)}\n```\nWith melcache: "
        f"`melcache pull {shell(name)} URL`, then `melcache verify`, then training.",
    ]


def _columns(manifest: Manifest) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for part, spec in manifest.parts.items():
        for column, kind in spec.columns.items():
            shape = " x ".join(map(str, [manifest.tables[part.table], *kind.shape]))
            rows.append((part, column, shape, kind.dtype.strip("<|"), holds(part, column)))
    return rows


def _encoders(manifest: Manifest) -> str:
    """Return a row for each part that an encoder made: which it is, its licence, its weights."""
    rows: list[tuple[str, ...]] = []
    for part, spec in manifest.parts.items():
        recipe = spec.recipe.get("encoder")
        if not isinstance(recipe, Mapping):
            continue
        name, weights = str(recipe.get("encoder", "")), str(recipe.get("weights", ""))
        trained = _SHA256.fullmatch(weights)
        known = ENCODERS.get(name) if trained else (f"{name}, untrained", "-", "-")
        rows.append((part, *(known or _named(name, manifest, part)), weights[:16]))
    header = ("part", "encoder", "licence of the public weights", "said at", "sha256 of the weights")
    return _table(header, rows) if rows else "No part was made by an encoder."


def _named(name: str, manifest: Manifest, part: PartName) -> tuple[str, str, str]:
    """Return what is known of an encoder that was chosen by name: its class, and where its files are from if noted."""
    noted = manifest.provenance.noted.get("encoders")
    origin = noted.get(KINDS[part].role or "") if isinstance(noted, Mapping) else None
    if isinstance(origin, str) and _ORIGIN.fullmatch(origin):
        return f"{name}: {origin}", UNKNOWN, f"https://huggingface.co/{origin.partition('@')[0]}"
    return name, UNKNOWN, "-"


def _example(manifest: Manifest) -> str:
    """Return five lines that load one column; any HDF5 library would do."""
    known = map(PartName, ("entity.text", "entity.joint", "entity.image"))
    part = next((part for part in known if part in manifest.parts), next(iter(manifest.parts)))
    column = next(iter(manifest.parts[part].columns))
    return "\n".join(
        (
            "import h5py, json, numpy as np",
            'shards = json.load(open("manifest.json"))["shards"]',
            f'files = [shard["file"] for shard in shards if shard["part"] == "{part}"]',
            f'{column} = np.concatenate([h5py.File(file)["{column}"][:] for file in files])',
            f"print({column}.shape, {column}.dtype)",
        )
    )


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [tuple(map(markdown, row)) for row in (header, *rows)]
    lines.insert(1, tuple("---" for _ in header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
