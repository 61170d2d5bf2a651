"""Every part of a cache: whether an extraction makes it, and the recipe that decides its numbers."""

from collections.abc import Mapping
from typing import Any

from cache import kinds
from cache.kinds import KINDS, Source
from cache.names import PartName
from cache.schema import SEQUENCES, TABLES
from cache.writing.writer import PartPlan, codes_of, columns_of, feature_type
from common.output import say
from extract import images
from extract.config import ExtractConfig
from extract.encoders import Encoders
from extract.planning.candidate_lists import Lists
from extract.planning.rows import Rows
from extract.reading import aliases

# how recipes call what a text encoder reads
READ: dict[Source, str] = {
    "name": "name: text",
    "sentence": "sentence",
    "sentences": "distinct sentences",
    "places": "distinct sentences",
}
Recipes = dict[PartName, dict[str, Any]]


def plan(
    config: ExtractConfig,
    encoders: Encoders,
    lists: Lists,
    rows: Rows,
    listed: Mapping[PartName, str],
) -> dict[PartName, PartPlan]:
    """Return every part to make by name, in the order of tables and, within one, of what derives from what.

    Parts on demand are those that the config's heads read, and those of `listed`, the fingerprints of the cache that
    is there already, which would be made the same way now.
    """
    wanted = config.demanded | (listed.keys() & set(kinds.on_demand()))
    owners = {name: kinds.owner(PartName(name)) for name in wanted}
    wanted -= {name for name, owner in owners.items() if owner in kinds.on_demand() and owner not in wanted}
    sizes = encoders.sizes() | {"C": lists.candidates.shape[1]}
    if wanted & set(kinds.reading("faces")):
        sizes |= encoders.attributes.sizes
    if any(set("LGI") & set(column.axes) for name in wanted for column in KINDS[PartName(name)].columns.values()):
        sizes |= encoders.joint.sizes
    made: dict[PartName, PartPlan] = {}
    for name, recipe in _recipes(config, encoders, lists, rows, wanted).items():
        widths = sizes | {column: array.dtype.itemsize for column, array in rows.ids.get(name, {}).items()}
        columns = columns_of(name, widths, feature_type(name, config.storage))
        for column in kinds.columns_with("descriptions", name):
            if rows.described:
                recipe = recipe | {column: "else name: text"}
            else:
                del columns[column]
        inputs = {part: made[part].fingerprint for part in KINDS[name].inputs if part in made}
        made[name] = PartPlan(name, recipe, columns, inputs, codes_of(name, config.storage))
        if name in wanted - config.demanded and made[name].fingerprint != listed[name]:
            say(
                f"{name} of the cache in {config.folder} was made with other settings and is left out; --for "
                "makes it again"
            )
            del made[name]
    for name in _alone(made):
        say(
            f"{name} of the cache in {config.folder} is left out, as the part that it belongs to is missing; --for "
            "makes both"
        )
        del made[name]
    config.refuse_idle_storage(made)
    return dict(sorted(made.items(), key=lambda item: TABLES.index(item[1].table)))


def _alone(made: Mapping[PartName, PartPlan]) -> list[PartName]:
    """Return tokens without the part that says where they lie, and such a part without its tokens."""
    alone: list[PartName] = []
    for table, pointer in SEQUENCES.items():
        tokens = [name for name in made if name.table == table]
        if (pointer in made) != bool(tokens):
            alone += tokens or [pointer]
    return alone


def _recipes(config: ExtractConfig, encoders: Encoders, lists: Lists, rows: Rows, wanted: set[str]) -> Recipes:
    found: Recipes = {}
    for name, part in KINDS.items():
        if part.on_demand and name not in wanted:
            continue
        found[name] = _encoded(name, config, encoders) if part.role else _derived(name, encoders, lists, rows)
    return found


def _encoded(name: PartName, config: ExtractConfig, encoders: Encoders) -> dict[str, Any]:
    """Return the recipe of a part that an encoder makes."""
    part, recipe = KINDS[name], encoders.of(name).recipe_of(name)
    if "picture" in part.reads:
        return recipe | {"pictures": images.POLICY}
    if part.role == "text":
        [source] = part.reads
        return recipe | {"reads": READ[source], "max_tokens": min(config.most_tokens(source), encoders.text.most)}
    return recipe


def _derived(name: PartName, encoders: Encoders, lists: Lists, rows: Rows) -> dict[str, Any]:
    """Return the recipe of a part that no encoder makes."""
    part = KINDS[name]
    if "release" in part.reads:
        return {"pictures": images.POLICY}
    if "faces" in part.reads:  # what is said of each mention is its row's content: see Keys
        said = {} if rows.faces is None else {"faces": {"origin": "DeepFace"}}
        return {"attributes": encoders.attributes.recipe, "reads": "stored columns"} | said
    if not part.inputs:
        return {"origin": lists.origin} | ({"aliases": aliases.digest(rows.aliases)} if rows.aliases else {})
    made = {"equations": "DRIN 6, 7, 8, 11", "compute": "exact on steps of 2^-25, from the stored columns"}
    return made if encoders.probability is None else made | encoders.probability.recipe
