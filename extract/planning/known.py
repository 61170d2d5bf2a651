"""What of a plan takes long to find and another process has found: tokens of texts, and keys; only for equal parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cache.checks import diff
from cache.names import PartName
from cache.writing.writer import PartPlan
from common.errors import CacheError, ConfigError

LONGEST = 60  # characters of a value


@dataclass(frozen=True)
class Known:
    """`recipes` with `inputs` and `fingerprint`, and keys of ranges by part; tokens (n,) of texts by their table."""

    parts: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, list[str]]
    tokens: Mapping[str, np.ndarray]

    def counts(self, table: str, texts: Sequence[str]) -> list[int]:
        """Return how many tokens these texts of a table have.  Raises CacheError for others than were counted."""
        found: list[int] = self.tokens[table].tolist()
        if len(found) != len(texts):
            raise CacheError(
                f"tokens of {len(found):,} texts of {table} are known, expected {len(texts):,}; plan again"
            )
        return found

    def refuse_others(self, made: Mapping[PartName, PartPlan]) -> None:
        """Raise ConfigError unless this process makes exactly these parts, by the same recipes."""
        if made.keys() != self.parts.keys():
            differ = ", ".join(sorted(made.keys() ^ self.parts.keys()))
            raise ConfigError(
                f"this worker and its plan make different parts: {differ}. Start it as the plan's command"
            )
        for name, part in made.items():
            entry, planned = part.manifest_entry, self.parts[name]
            if entry.fingerprint != planned["fingerprint"]:
                differing = [*diff.recipes(planned["recipe"], entry.recipe)] or [
                    *diff.recipes(dict(planned["inputs"]), dict(entry.inputs), "inputs")
                ]
                # columns follow from encoders, where these differ
                field, expected, found = min(differing, key=lambda change: change[0].startswith("columns."))
                raise ConfigError(
                    f"this worker would make {name} otherwise than planned: expected {field} {_short(expected)}, found "
                    f"{_short(found)}. Give all workers the same weights, libraries, --device and --precision"
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
