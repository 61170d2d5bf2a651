"""Every part of a cache: whether an extraction makes it, and the recipe that decides its numbers."""

from collections.abc import Mapping
from typing import Any

from cache import edges
from cache.names import PartName
from cache.schema import SEQUENCES, TABLES
from cache.writing.writer import PartPlan, columns_of
from common.output import say
from extract import images
from extract.config import ON_DEMAND, ExtractConfig
from extract.encoders import Encoders
from extract.encoders.clip import TEXT
from extract.planning.candidate_lists import Lists
from extract.planning.rows import Rows

# parts that are computed from stored columns: whose
INPUTS = {
    "mention.crops": ("mention.objects",),
    "mention.attributes": ("mention.clip", "mention.crops"),
    "pair.alignment": edges.INPUTS,
}
Recipes = dict[str, dict[str, Any]]


def plan(
    config: ExtractConfig,
    encoders: Encoders,
    lists: Lists,
    rows: Rows,
    described: bool,
    listed: Mapping[str, str],
) -> dict[str, PartPlan]:
    """Return every part to make by name, in the order of tables and, within one, of what derives from what.

    Parts on demand are those that the config's heads read, and those of `listed`, the fingerprints of the cache that
    is there already, which would be made the same way now. `described`: some entity has a second text.
    """
    wanted = config.demanded | (listed.keys() & set(ON_DEMAND))
    sizes = encoders.sizes() | {"C": lists.candidates.shape[1]}
    if "mention.attributes" in wanted:
        sizes |= encoders.attributes.sizes
    made: dict[str, PartPlan] = {}
    for name, recipe in _recipes(config, encoders, lists, rows, wanted).items():
        widths = sizes | {column: array.dtype.itemsize for column, array in rows.ids.get(name, {}).items()}
        columns = columns_of(name, widths, {"float16": "<f2", "float32": "<f4"}[config.storage])
        if name == "entity.clip" and described:
            recipe = recipe | {"description": "else name: text"}
        elif name == "entity.clip":
            del columns["description"]
        inputs = {part: made[part].fingerprint for part in INPUTS.get(name, ()) if part in made}
        made[name] = PartPlan(PartName(name), recipe, columns, inputs)
        if name in wanted - config.demanded and made[name].fingerprint != listed[name]:
            say(f"{name} of the cache in {config.folder} was made otherwise and is left out of it; see --for")
            del made[name]
    for table, pointer in SEQUENCES.items():
        left = [name for name, part in made.items() if name == pointer or part.table == table]
        if len(left) == 1:  # where tokens lie says nothing without them, and the other way round
            say(
                f"{left[0]} of the cache in {config.folder} has lost what it goes with and is left out of it; see --for"
            )
            del made[left[0]]
    return dict(sorted(made.items(), key=lambda item: TABLES.index(item[1].table)))


def _recipes(config: ExtractConfig, encoders: Encoders, lists: Lists, rows: Rows, wanted: set[str]) -> Recipes:
    recipes = _standard(config, encoders)
    recipes |= {name: recipe for name, recipe in _on_demand(config, encoders).items() if name in wanted}
    if "mention.attributes" in wanted:
        recipes["mention.attributes"] = {"attributes": encoders.attributes.recipe, "reads": "stored columns"}
        if rows.faces is not None:  # what is said of each mention is its row's content: see Keys
            recipes["mention.attributes"]["faces"] = {"origin": "DeepFace"}
    recipes["pair.candidates"] = {"origin": lists.origin}
    recipes["pair.alignment"] = {
        "equations": "DRIN 6, 7, 8, 11",
        "compute": "exact on steps of 2^-25, from the stored columns",
    }
    return recipes


def _standard(config: ExtractConfig, encoders: Encoders) -> Recipes:
    pictures = {"pictures": images.POLICY}
    limits = {"entity": ("name: text", config.entity_tokens), "mention": ("sentence", config.sentence_tokens)}
    recipes = {}
    for table, (reads, tokens) in limits.items():
        recipes |= {
            f"{table}.ids": pictures,
            f"{table}.bert": {"encoder": encoders.bert.recipe, "reads": reads, "max_tokens": tokens},
            f"{table}.resnet": {"encoder": encoders.resnet.recipe} | pictures,
            f"{table}.clip": {"encoder": encoders.clip.recipe} | pictures,
            f"{table}.objects": {"encoder": encoders.objects.recipe} | pictures,
        }
    return recipes


def _on_demand(config: ExtractConfig, encoders: Encoders) -> Recipes:
    pictures = {"pictures": images.POLICY}
    reads = {"reads": "distinct sentences", "max_tokens": config.sentence_tokens}
    return {
        "token.bert": {"encoder": encoders.bert.recipe} | reads,
        "mention.tokens": encoders.bert.tokens_recipe | reads,
        "clip_token.clip": {
            "encoder": encoders.clip.recipe,
            "reads": "distinct sentences of one range of mentions, in row order",
            "states": "last layer norm, projected as the text vector is",
        },
        "mention.clip_tokens": {"tokenizer": TEXT, "reads": "distinct sentences"},
        "mention.regions": {"encoder": encoders.resnet.recipe, "layer": "layer4, row by row"} | pictures,
        "mention.crops": {"encoder": encoders.crops.recipe} | pictures,
    }
