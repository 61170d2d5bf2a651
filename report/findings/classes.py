"""What became of a mention, and what kind of error it is: definitions, of which pages and the guide show the words.

Every mention has exactly one OUTCOME for a run. KINDS are marks that may overlap; those of `errors` alone are set where
another entity was chosen.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.records import split_mask

WORD = re.compile(r"\w+")
RARE = 5  # golds of a train split: fewer are few
RIGHT, TIED, OTHER, NOT_LISTED, NIL = "right", "tied", "other", "not-listed", "nil"
OUTCOMES = {
    RIGHT: ("right", "gold alone has the highest score"),
    TIED: ("tied", "gold shares the highest score; it counts in part, as if chosen by lot"),
    OTHER: ("another entity", "gold is in the list, another candidate has a higher score"),
    NOT_LISTED: (
        "gold not retrieved",
        "gold is an entity, but not in the mention's list: no head can be right",
    ),
    NIL: ("no gold entity", "the mention's gold is no entity of the cache"),
}


@dataclass(frozen=True)
class Kind:
    """A mark of mentions: its name, its definition, and whether only errors have it."""

    title: str
    meaning: str
    errors: bool = False


KINDS = {
    "same-name": Kind(
        "same name",
        "the entity chosen has gold's name, but for case, punctuation and brackets at its end",
        errors=True,
    ),
    "partial-name": Kind(
        "partial name", "all words of one of the two names stand in the other, and the names differ", errors=True
    ),
    "unseen": Kind("unseen gold", "no mention of train has this gold"),
    "rare": Kind("rare gold", f"1 to {RARE - 1} mentions of train have this gold"),
    "text": Kind(
        "text decides",
        "the text-to-text edge of gold is higher than the rival's, the image-to-image edge is not",
    ),
    "picture": Kind(
        "picture decides",
        "the image-to-image edge of gold is higher than the rival's, the text-to-text edge is not",
    ),
}
RIVAL = (
    "The rival is the entity chosen, and where gold was chosen the best of the others; edges are those of the cache, "
    "before any head."
)


def outcomes(gold: np.ndarray, gold_row: np.ndarray, right: np.ndarray, *, every: bool = False) -> np.ndarray:
    """Return the outcome of each mention, (n,) str.

    gold (n,) its place among the candidates or -1; gold_row (n,) its entity, negative: none; right (n,) in [0, 1].
    Where `every` entity was ranked, a gold that is not among the best was ranked below them.
    """
    cases = [gold_row < 0, (gold < 0) & (not every), right == 1, right > 0]
    return np.select(cases, [NIL, NOT_LISTED, RIGHT, TIED], OTHER)


def rivals(entities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return the place of the best candidate that is not gold, -1 where there is none.  (n, C), (n,) -> (n,)"""
    place = np.where(gold == 0, 1, 0)
    width = entities.shape[1]
    there = (place < width) & (entities[np.arange(len(gold)), np.minimum(place, width - 1)] >= 0)
    return np.where(there, place, -1)


def same_name(one: str, other: str) -> bool:
    """Return whether two names are equal but for case, punctuation and brackets at the end: Fred (footballer)."""
    return _words(one) == _words(other)


def partial_name(one: str, other: str) -> bool:
    """Return whether all words of one name stand in the other, and the names are not the same."""
    first, second = set(_words(one)), set(_words(other))
    return bool(first and second) and (first <= second or second <= first) and not same_name(one, other)


def _words(name: str) -> list[str]:
    name = name.strip()
    if name.endswith(")"):
        name = name[: name.rfind("(")].strip() or name
    return WORD.findall(name.casefold()) or name.split()  # a name may be of signs alone


def frequencies(gold: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Return how many mentions of train have each mention's gold, 0 of none.  (N,), (N,) -> (N,)"""
    known = gold[(splits & split_mask("train") > 0) & (gold >= 0)]
    counts = np.bincount(known, minlength=int(gold.max(initial=0)) + 1)
    return np.where(gold >= 0, counts[gold], 0)


def of_gold(frequency: np.ndarray, gold_row: np.ndarray) -> dict[str, np.ndarray]:
    """Return the marks that gold alone decides.  (n,), (n,) -> (n,) bool each"""
    there = gold_row >= 0
    return {"unseen": there & (frequency == 0), "rare": there & (frequency > 0) & (frequency < RARE)}


def of_names(
    names: Sequence[str], chosen: np.ndarray, gold_row: np.ndarray, wrong: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the marks that compare the chosen entity's name with gold's, of the mentions in `wrong`.  (n,) each"""
    marks = {name: np.zeros(len(chosen), bool) for name in ("same-name", "partial-name")}
    for place in np.flatnonzero(wrong & (chosen >= 0) & (gold_row >= 0)):
        pair = (names[chosen[place]], names[gold_row[place]])
        marks["same-name"][place], marks["partial-name"][place] = same_name(*pair), partial_name(*pair)
    return marks


def of_edges(edges: Mapping[str, np.ndarray], gold: np.ndarray, rival: np.ndarray) -> dict[str, np.ndarray]:
    """Return the marks that compare gold's edges with the rival's.

    edges: text and picture (n, C), NaN where a picture is missing; gold, rival (n,) places there, -1 = none.
    A missing picture favors nobody.
    """
    rows, there = np.arange(len(gold)), (gold >= 0) & (rival >= 0)
    favors = {}
    for name, values in edges.items():
        favors[name] = there & (values[rows, gold.clip(0)] > values[rows, rival.clip(0)])
    return {"text": favors["text"] & ~favors["picture"], "picture": favors["picture"] & ~favors["text"]}
