"""Sentences and pictures of a release, for the mentions and entities of a cache made from it: a cache holds neither."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cache import Reader
from common.errors import DatasetError
from common.paths import DATA, is_folder
from common.records import RELEASES, Entity, Image, Mention
from extract import datasets
from report.config import ReportConfig
from train.data.row_names import row_names

WITHOUT = "mentions stand without sentence and picture"


@dataclass(frozen=True)
class Sentence:
    """A sentence apart at its mention, which is "" where it does not stand there; then `before` is all of it."""

    before: str
    marked: str
    after: str


@dataclass(frozen=True)
class Release:
    """Records by id; `told` says in a sentence what was found, or why there is nothing."""

    mentions: dict[str, Mention]
    entities: dict[str, Entity]
    told: str

    def sentence(self, mention: str) -> Sentence | None:
        """Return the sentence of a mention, None where the release does not have it."""
        found = self.mentions.get(mention)
        if found is None:
            return None
        if found.start < 0:
            return Sentence(found.sentence, "", "")
        parts = (found.sentence[: found.start], found.sentence[found.start : found.end], found.sentence[found.end :])
        return Sentence(*parts)

    def picture(self, id: str, *, of_entity: bool) -> Image | None:
        """Return the picture that the release names of a mention or an entity."""
        found = self.entities.get(id) if of_entity else self.mentions.get(id)
        return None if found is None else found.image

    def text(self, entity: str) -> str:
        """Return the description of an entity."""
        found = self.entities.get(entity)
        return "" if found is None else found.text


def of_cache(config: ReportConfig, reader: Reader) -> Release:
    """Return the release that a cache was made from, matched by id and string; without one, why.

    Raises DatasetError for one that is named and is not there or not whole, and where no mention is in it.
    """
    if config.release is None and not is_folder(_folder(config, reader)):
        return Release({}, {}, f"The release is not there (--release FOLDER): {WITHOUT}.")
    try:
        found = datasets.load(_adapter(config, reader), _folder(config, reader))
    except DatasetError as error:
        if config.release is not None:
            raise
        return Release({}, {}, f"The release was not read: {WITHOUT}. {error.text}")
    surfaces = dict(zip(row_names(reader, "mention.ids.id"), row_names(reader, "mention.ids.surface"), strict=True))
    mentions = {own.id: own for own in found.mentions if surfaces.get(own.id) == own.surface}
    if not mentions and config.release is not None:
        raise DatasetError(
            f"{config.release} has none of the mentions of {reader.path}: expected the release that it was made from, "
            "or another --adapter"
        )
    known = set(row_names(reader, "entity.ids.id"))
    lost = len(surfaces) - len(mentions)
    told = f"{lost:,} of {len(surfaces):,} mentions are not in the release: {WITHOUT}." if lost else ""
    return Release(mentions, {own.id: own for own in found.entities if own.id in known}, told)


def _folder(config: ReportConfig, reader: Reader) -> Path:
    return config.release or DATA / _adapter(config, reader)


def _adapter(config: ReportConfig, reader: Reader) -> str:
    """Return how the release is read: as the cache's name begins, wikimel-siglip2 as wikimel."""
    if config.adapter is not None:
        return config.adapter
    name = reader.manifest.dataset.name
    return next((release for release in RELEASES if name.split("-")[0] == release), "jsonl")


def paths(images: Sequence[Image | None]) -> list[Path]:
    """Return where the pictures lie, each place once."""
    return list(dict.fromkeys(image.path for image in images if image is not None and image.path is not None))
