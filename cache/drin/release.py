"""The files of DRIN's preprocessed arrays: which there are, and that their shapes fit each other.

WikiDiverse's have a row for each place in a candidate list (slot), WikiMEL's one for each entity and qid2idx.json,
which says which. n mentions, K = C + 1 slots of a mention, gold last; T tokens with [CLS] first, L of an entity; R
regions, O objects, Q of an entity; D and V widths, E entities.
"""

from collections.abc import Iterable
from pathlib import Path

from cache.drin.arrays import Array, Rows
from common.errors import CacheError, ConfigError
from common.paths import exists, is_folder
from common.records import SPLITS

INDEX = "qid2idx.json"
MENTIONS = {
    "answer": "n",
    "start-pos": "n",
    "end-pos": "n",
    "similarity-miet": "nK",
    "similarity-eimt": "nK",
    "mention-text-feature": "nTD",
    "mention-text-mask": "nT",
    "mention-image-feature": "nRV",
    "mention-object-feature": "nOV",
    "mention-object-score": "nO",
}
SLOTS = {  # WikiDiverse: a file for each split, s = n K
    "entity-attr-feature": "sD",
    "entity-image-feature": "s1V",
    "entity-object-feature": "sQV",
    "entity-object-score": "sQ",
}
NAMES = {"entity-name-raw": "s"}  # WikiMEL: the entity of each slot
ENTITIES = {  # and one file for all
    "entity-attr-feature": "ELD",
    "entity-attr-mask": "EL",
    "entity-image-feature": "E1V",
    "entity-object-feature": "EQV",
    "entity-object-score": "EQ",
}
ONCE = {name: f"{name}.npy" if "attr" in name else f"{name}_all.npy" for name in ENTITIES}
INTEGERS = ("answer", "start-pos", "end-pos", "mention-text-mask", "entity-attr-mask")


class Release:
    """The arrays in a directory, opened and checked against each other.

    `rows` are the arrays by name, those of the splits joined; `sizes` the axes' lengths; `counts` the mentions by
    split; `by_entity` tells WikiMEL's layout.  Raises CacheError naming the file that is missing or does not fit.
    """

    def __init__(self, source: Path) -> None:
        if not is_folder(source):
            raise ConfigError(f"there is no directory {source}: name the one that holds DRIN's .npy arrays")
        self.source = source
        self.by_entity = any(exists(source / file) for file in (INDEX, ONCE["entity-attr-feature"]))
        if self.by_entity and not exists(source / INDEX):
            raise CacheError(f"there is no {INDEX} in {source}/: it says whose the rows of WikiMEL's arrays are")
        self.sizes: dict[str, int] = {"1": 1}
        self.counts: dict[str, int] = {}
        opened: dict[str, list[Array]] = {}
        for split in SPLITS:
            for name, axes in (MENTIONS | (NAMES if self.by_entity else SLOTS)).items():
                opened.setdefault(name, []).append(self._open(name, f"{name}_{split}.npy", axes))
                self.sizes["s"] = self.sizes["n"] * self.sizes.get("K", 0)
            self.counts[split] = self.sizes.pop("n")
        for name, axes in (ENTITIES if self.by_entity else {}).items():
            opened[name] = [self._open(name, ONCE[name], axes)]
        self.rows = {name: Rows(arrays) for name, arrays in opened.items()}
        self._check_sizes()

    @property
    def mentions(self) -> int:
        """N, of all splits."""
        return sum(self.counts.values())

    def arrays(self, names: Iterable[str]) -> list[Array]:
        """Return the files of the arrays of these names."""
        return [array for name in names for array in self.rows[name].arrays]

    def _open(self, name: str, file: str, axes: str) -> Array:
        kind = "U" if name in NAMES else "i" if name in INTEGERS else "f"
        array = Array(self.source / file, kind)
        fits = len(array.shape) == len(axes) and all(
            self.sizes.get(axis, found) == found for axis, found in zip(axes, array.shape, strict=True)
        )
        if not fits:
            expected = ", ".join(str(self.sizes.get(axis, axis)) for axis in axes)
            raise CacheError(f"{array.path}: expected shape ({expected}), found {array.shape}")
        self.sizes |= dict(zip(axes, array.shape, strict=True))
        return array

    def _check_sizes(self) -> None:
        least = {axis: 3 if axis == "K" else 1 for axis in self.sizes if axis not in "1s"}
        small = [axis for axis, size in least.items() if self.sizes[axis] < size]
        if small or not self.mentions:
            raise CacheError(
                f"{self.source}: expected mentions, and at least 2 candidates and gold of each; found "
                f"{self.mentions:,} mentions, axes {self.sizes}"
            )
