"""What a part is, once: its columns, who makes it of what, what that costs, and how it is counted and synthesized.

Schema, synth, planning, keys, forecast, computing and counters read `KINDS`. A part whose role has an encoder is added
here (in the file of its table) and in that encoder; a new text of a record also in extract/planning/rows.py. Parts that
derive from others stand behind them.
"""

from collections.abc import Iterable

from cache.kinds.columns import IMAGE_STATUS, LABELS, SIZES
from cache.kinds.entities import ENTITIES
from cache.kinds.mentions import MENTIONS
from cache.kinds.pairs import PAIRS
from cache.kinds.part import CONTENT, ROLES, Column, Part, Role, Source
from cache.kinds.tokens import TOKENS
from cache.names import ColumnName, PartName

__all__ = [
    "CONTENT",
    "IMAGE_STATUS",
    "KINDS",
    "LABELS",
    "ROLES",
    "SIZES",
    "Column",
    "Part",
    "Role",
    "Source",
    "columns_with",
    "demanded",
    "holds",
    "mentions_alone",
    "neutral",
    "on_demand",
    "owner",
    "passes",
    "quantizable",
    "reading",
    "width_axis",
]

KINDS = {PartName(name): part for name, part in (ENTITIES | TOKENS | MENTIONS | PAIRS).items()}


def on_demand() -> list[PartName]:
    """Return the parts that are made only for heads that read them, or where the folder's cache has them already."""
    return [name for name, part in KINDS.items() if part.on_demand]


def reading(source: Source, table: str = "") -> list[PartName]:
    """Return the parts, of a table if one is named, that are made of a source."""
    return [name for name, part in KINDS.items() if source in part.reads and table in ("", name.table)]


def width_axis(column: str) -> str:
    """Return the letter of a column's last axis, "" if it has none."""
    name = ColumnName(column)
    return KINDS[name.part].columns[name.column].axes[-1:]


def neutral(column: str) -> bool:
    """Whether a column holds the neutral picture's vector in rows without a picture."""
    name = ColumnName(column)
    return KINDS[name.part].neutral and name.column in KINDS[name.part].from_picture


def quantizable(part: str) -> list[str]:
    """Return the columns of a part that --storage int8 or int4 stores as codes: an encoder's vectors made on demand.

    Every token, region and object has one of these, and they are most of a cache that has them.
    """
    about = KINDS[PartName(part)]
    vectors = about.on_demand and about.role
    return [name for name, column in about.columns.items() if vectors and column.dtype == "feature"]


def holds(part: str, column: str) -> str:
    """Return what a stored column holds; one that is none of the kind's are the scales of codes."""
    about = KINDS[PartName(part)].columns.get(column)
    return about.holds if about else "scales of the codes, one a vector"


def columns_with(option: str, part: str) -> list[str]:
    """Return the columns of a part that are made only by an extraction with an option."""
    return [name for name, column in KINDS[PartName(part)].columns.items() if column.option == option]


def owner(part: PartName) -> PartName | None:
    """Return the part of entities that a part of mentions copies pictures from, None where it copies from none."""
    other = PartName(f"entity.{part.kind}")
    return other if part.table == "mention" and "picture" in KINDS[part].reads and other in KINDS else None


def demanded(parts: Iterable[str]) -> set[str]:
    """Return the parts on demand that are made for some: those, what they derive or copy from, and where tokens lie."""
    found, new = set(), set(parts)
    while new:
        found |= new
        more = {name for part in new for name in KINDS[PartName(part)].inputs}
        more |= {name for part in new if (name := owner(PartName(part)))}
        more |= {name for name, part in KINDS.items() if part.into in {PartName(other).table for other in new}}
        new = more - found
    return found & set(on_demand())


def mentions_alone(part: PartName) -> bool:
    """Whether only mentions have a kind of part: the first mention owns a picture then, be it an entity's too."""
    return f"entity.{part.kind}" not in KINDS


def passes(parts: Iterable[PartName]) -> list[list[PartName]]:
    """Return parts grouped by what one pass of an encoder makes together."""
    found: dict[str, list[PartName]] = {}
    for part in parts:
        beside = KINDS[part].beside
        found.setdefault(beside if beside in found else part, []).append(part)
    return list(found.values())
