"""A run that links: its cache, its encoders and its heads, loaded once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from link.records import EntityCard, Link, NewMention


class Linker:
    """Links new mentions as the test of the run that it was loaded from ranked those of the dataset."""

    @classmethod
    def load(
        cls,
        run: Path | str,
        *,
        shards: Path | str | None = None,
        dataset: str | None = None,
        weights: str | None = None,
        encoders: Mapping[str, str] | None = None,
        encoder_weights: Mapping[str, str] | None = None,
        entities: Path | str | None = None,
        release: Path | str | None = None,
        seed: str = "mean",
        device: str = "auto",
    ) -> Self:
        """Return the linker of a finished run.

        `encoders` and `encoder_weights` are by role: text, image, joint, detector; needed where extraction named them.
        Raises ConfigError for a run or an option that is none, CacheError and WeightsError for a cache or weights that
        are not the run's.
        """
        raise NotImplementedError

    def link(self, mentions: Sequence[NewMention], *, top: int = 10, nil_below: float = 0.0) -> list[Link]:
        """Return the answer to each mention, `top` candidates each, 0 = all.

        Raises ConfigError, naming the mention that cannot be linked.
        """
        raise NotImplementedError

    def entity(self, id: str) -> EntityCard | None:
        """Return an entity by its id, None where there is none."""
        raise NotImplementedError

    @property
    def about(self) -> dict[str, Any]:
        """The run, name, dataset, cache_id, seeds, entities, temperature, and which pictures and texts it reads."""
        raise NotImplementedError
